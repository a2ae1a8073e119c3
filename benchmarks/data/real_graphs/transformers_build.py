"""A model of transformers from its class and what differs from the class's own configuration."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from benchmarks.data.real_graphs.inputs import Inputs
from benchmarks.data.real_graphs.model import Loss, RealModel
from benchmarks.data.real_graphs.torchvision_package import torchvision_package

#: Set wherever a configuration has them: nothing is dropped or masked by a draw in Python.
_PLAIN = {
    "use_cache": False,
    "layerdrop": 0.0,
    "encoder_layerdrop": 0.0,
    "decoder_layerdrop": 0.0,
    "apply_spec_augment": False,
}
_PARTS = ("text_config", "vision_config", "encoder", "decoder", "backbone_config")


def transformers_model(
    name: str,
    family: str,
    model_class: str,
    inputs: Inputs,
    batches: tuple[int, int],
    changes: Mapping[str, Any] | None = None,
    loss: Loss = Loss.CLASSES,
    outputs: Sequence[str] = ("logits",),
    dtype: torch.dtype = torch.float32,
) -> RealModel:
    """One model.

    Args:
        name: its name in the corpus.
        family: its architecture family.
        model_class: a class of transformers; its configuration's defaults are mostly the base
            model's sizes.
        inputs: examples for a batch.
        batches: samples of inference and training, 0 for no such graph.
        changes: what differs from the defaults of the configuration.
        loss: what training minimises.
        outputs: the outputs that count.
        dtype: the type of the weights.
    """
    build = _build(model_class, dict(changes or {}), dtype)
    return RealModel(name, family, "transformers", build, inputs, loss, outputs, *batches)


def _build(model_class: str, changes: dict[str, Any], dtype: torch.dtype) -> Callable[[], Any]:
    def build() -> Any:
        torchvision_package()
        import transformers

        make = getattr(transformers, model_class)
        config = make.config_class(**changes)
        for part in (config, *(getattr(config, key, None) for key in _PARTS)):
            for key, value in _PLAIN.items():
                if hasattr(part, key):
                    setattr(part, key, value)
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            return make(config)
        finally:
            torch.set_default_dtype(before)

    return build
