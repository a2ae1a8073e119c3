"""Cuts the nodes of an ONNX model into parts: each on one device, each run once, in order."""

from collections.abc import Sequence
from dataclasses import dataclass

from graphs.importers.onnx_models.context import standard_domain
from graphs.importers.onnx_models.gradient import is_gradient
from graphs.importers.onnx_models.steps import OnnxStep, OnnxSteps
from placement.export.errors import ExportError
from placement.export.onnx_untyped import inseparable_units
from placement.export.request import ExportRequest

_SHAPE_READERS = frozenset({"Shape", "Size"})


@dataclass(frozen=True)
class Part:
    """Nodes that run in one go on one device."""

    device: int
    stage: int
    """Parts of a stage do not wait for each other; a part waits for earlier stages only."""
    steps: Sequence[OnnxStep]
    inputs: Sequence[str]
    """Tensors from model inputs and other parts, in the order of their first use."""
    weights: Sequence[str]
    """Stored tensors that it reads, or that what it reads is made of."""
    folded: Sequence[OnnxStep]
    """What is computed of weights alone: every part that reads it makes it when it is loaded."""
    outputs: Sequence[str]
    """Tensors that other parts or the caller read."""


def cut(steps: OnnxSteps, request: ExportRequest) -> list[Part]:
    """Parts in an order in which they can run.

    A node's stage is the largest number of times that a chain of nodes leading to it changes
    devices, so that two parts never wait for each other, whatever the plan, and no stage could be
    spared: a chain that crosses n times needs n + 1 of them.

    Raises:
        ExportError: the model holds a node that only makes sense in the whole model, or the plan
            is for another model.
    """
    stages: dict[str, int] = {}
    homes: dict[str, int] = {}
    groups: dict[tuple[int, int], list[OnnxStep]] = {}
    for unit in inseparable_units(steps):
        for step in unit:
            if is_gradient(step.node):
                raise ExportError(
                    f"{request.model}: {step.name!r} is a Gradient node, which differentiates the "
                    "whole model and cannot be cut; export the model annotated instead"
                )
        device = _device(unit[0], homes, request)
        stage = 0
        for name in dict.fromkeys(name for step in unit for name in step.reads):
            if name in stages:
                stage = max(stage, stages[name] + (homes[name] != device))
        for name in (name for step in unit for name in step.node.output if name):
            stages[name], homes[name] = stage, device
        groups.setdefault((stage, device), []).extend(unit)
    readers = _readers(groups)
    wanted = set(steps.outputs)
    parts = []
    for key in sorted(groups):
        made = {name for step in groups[key] for name in step.node.output if name}
        read = list(dict.fromkeys(name for step in groups[key] for name in step.reads))
        folded, held = steps.made_of(n for n in read if n in steps.weights)
        away = {name for name in made if readers.get(name, set()) - {key}}
        parts.append(
            Part(
                device=key[1],
                stage=key[0],
                steps=tuple(groups[key]),
                inputs=[
                    *(n for n in read if n not in made and n not in steps.weights),
                    *(n for n in held if n in steps.parameters),
                ],
                weights=[n for n in held if n not in steps.parameters],
                folded=folded,
                outputs=sorted(away | (made & wanted)),
            )
        )
    return parts


def _device(step: OnnxStep, homes: dict[str, int], request: ExportRequest) -> int:
    """The plan's device; a shape is asked where the tensor is, as it would have to travel else."""
    source = next(iter(step.node.input), "")
    is_shape = step.node.op_type in _SHAPE_READERS and not standard_domain(step.node.domain)
    if is_shape and source in homes:
        return homes[source]
    return request.device_of(step.name)


def _readers(
    groups: dict[tuple[int, int], list[OnnxStep]],
) -> dict[str, set[tuple[int, int]]]:
    readers: dict[str, set[tuple[int, int]]] = {}
    for key, members in groups.items():
        for step in members:
            for name in step.reads:
                readers.setdefault(name, set()).add(key)
    return readers
