"""Graphs of torch models: a forward pass, or a training step, by way of `torch.export`.

Weights are never computed with: torch traces the program with fake tensors.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export.exported_program import _decompose_exported_program
from torch.func import functional_call
from torch.nn import functional

from benchmarks.data.real_graphs.model import TRAINING, Loss, RealModel
from benchmarks.data.real_graphs.tied import register_once
from benchmarks.data.real_graphs.unfilled import built_unfilled
from graphs.graph import Graph
from graphs.importers.torch_models.exported import (
    import_exported_program,
    import_training_program,
)

_Labels = tuple[Tensor, ...]


class _Forward(nn.Module):
    """A model whose inputs are a tuple, and whose outputs are the tensors that count."""

    def __init__(self, model: nn.Module, names: Sequence[str], outputs: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.names = tuple(names)
        self.outputs = tuple(outputs)

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        result = self.model(**dict(zip(self.names, inputs, strict=True)))
        if self.outputs:
            result = [_taken(result, name) for name in self.outputs]
        return tuple(_tensors(result))


class _Step(nn.Module):
    """A forward pass with its loss."""

    def __init__(self, forward: _Forward, loss: Loss) -> None:
        super().__init__()
        self.pass_ = forward
        self.loss = loss

    def forward(self, inputs: tuple[Tensor, ...], labels: tuple[Tensor, ...]) -> Tensor:
        losses = [
            _loss(self.loss, output, label)
            for output, label in zip(self.pass_(inputs), labels, strict=True)
        ]
        return sum(losses[1:], losses[0])


def torch_graph(model: RealModel, name: str) -> Graph:
    """One of the model's graphs.

    Args:
        model: a model of a torch package.
        name: the name of the graph, one of `model.graph_names`.

    Raises:
        ModelError: a program that cannot become a graph; whatever torch raises where it cannot
            trace the model is let through.
    """
    module = built_unfilled(model.build)
    register_once(module)
    examples = model.inputs(model.batch_of(name))
    forward = _Forward(module, tuple(examples), model.outputs)
    inputs = tuple(examples.values())
    if not name.endswith(TRAINING):
        program = torch.export.export(forward.eval(), (inputs,))
        return import_exported_program(program, name)
    forward.train()
    step, labels = _step(forward, model.loss, inputs)
    program = torch.export.export(step, (inputs, labels))
    joint = _decompose_exported_program(
        program,
        cia_to_decomp={},
        python_decomp_table={},
        joint_loss_index=0,
        decompose_custom_triton_ops=False,
    )
    return import_training_program(joint, name, model.optimizer)


def _step(forward: _Forward, loss: Loss, inputs: tuple[Tensor, ...]) -> tuple[_Step, _Labels]:
    """The model with its loss, labels as large as its outputs, and what has no gradient frozen.

    A trial with fake tensors tells both; nothing is computed.
    """
    step = _Step(forward, loss)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        weights = {
            name: mode.from_tensor(parameter).detach().requires_grad_(parameter.requires_grad)
            for name, parameter in forward.named_parameters()
        }
        results = functional_call(forward, weights, (tuple(map(mode.from_tensor, inputs)),))
        shapes = [tuple(int(size) for size in result.shape) for result in results]
        trial = sum(result.float().sum() for result in results if result.requires_grad)
        trained = {name: weight for name, weight in weights.items() if weight.requires_grad}
        found = torch.autograd.grad(trial, list(trained.values()), allow_unused=True)
    gradients = dict(zip(trained, found, strict=True))
    for name, parameter in forward.named_parameters():
        if gradients.get(name) is None:
            parameter.requires_grad_(False)
    return step, tuple(_label(loss, shape) for shape in shapes)


def _label(loss: Loss, shape: tuple[int, ...]) -> Tensor:
    if loss is Loss.VALUES:
        return torch.zeros(shape)
    if loss is Loss.PIXELS:
        return torch.zeros((shape[0], *shape[2:]), dtype=torch.int64)
    return torch.zeros(shape[:-1], dtype=torch.int64)


def _loss(loss: Loss, output: Tensor, label: Tensor) -> Tensor:
    if loss is Loss.VALUES:
        return functional.mse_loss(output, label)
    if loss is Loss.PIXELS:
        return functional.cross_entropy(output, label)
    return functional.cross_entropy(output.flatten(0, -2), label.flatten())


def _taken(result: Any, name: str) -> Any:
    return result[name] if isinstance(result, Mapping) else getattr(result, name)


def _tensors(result: Any) -> Iterator[Tensor]:
    """Floating-point tensors of whatever a model returns, in its order."""
    if isinstance(result, Tensor):
        if result.is_floating_point():
            yield result
    elif isinstance(result, Mapping):
        for value in result.values():
            yield from _tensors(value)
    elif isinstance(result, Sequence) and not isinstance(result, str):
        for value in result:
            yield from _tensors(value)
