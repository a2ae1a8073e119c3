"""Inputs that differ from step to step, and what is said of models that carry state along."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
from onnx import helper

from placement.runtime.ort.onnx_source import RunnableModel, drawn

_SEED = 7919


def other_feeds(model: RunnableModel, number: int) -> Mapping[str, np.ndarray]:
    """Inputs of the same types and shapes, drawn by that number; those of 0 are the model's own."""
    if number == 0:
        return model.inputs
    random = np.random.default_rng((_SEED, number))
    return {
        name: drawn(name, array.shape, helper.np_dtype_to_tensor_dtype(array.dtype), random)
        for name, array in model.inputs.items()
    }


def carried_state(inputs: Sequence[str], outputs: Sequence[str]) -> list[tuple[str, str]]:
    """Inputs that are outputs of the step before, with these outputs, by what exporters call them.

    Attention's keys and values are `present.0.key` for `past_key_values.0.key`; what a recurrent
    net holds is `hn` or `h_out` for `h`.

    Example:
        >>> carried_state(["ids", "past_key_values.0.key", "h"], ["present.0.key", "hn"])
        [('past_key_values.0.key', 'present.0.key'), ('h', 'hn')]
    """
    there = set(outputs)
    found = []
    for name in inputs:
        present = re.sub(r"^past(_key_values)?", "present", name)
        names = [present] if present != name else [f"{name}{end}" for end in ("n", "N", "_out")]
        found += [(name, output) for output in names if output in there][:1]
    return found
