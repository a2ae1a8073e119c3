"""Stand-ins as torch functions, one by one or as one kernel made by inductor."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from placement.runtime.stand_ins.segments import Group
from placement.runtime.stand_ins.stand_ins import KernelForm, StandIn

#: From input tensors to output tensors, all flat.
Kernel = Callable[[Sequence[Tensor]], list[Tensor]]

_BIAS = 0.1
_DAMPING = 0.99
#: How much of the first element of a further input goes into a product: it has to depend on it.
_TRACE = 1e-3


def kernel(spec: StandIn, noise: Tensor) -> Kernel:
    """The function of one op; `noise` holds random numbers of variance 1/3."""
    forms: dict[KernelForm, Callable[[StandIn, Tensor, Sequence[Tensor]], list[Tensor]]] = {
        KernelForm.CONTRACT: _contract,
        KernelForm.MAP: _map,
        KernelForm.REDUCE: _reduce,
        KernelForm.COPY: _copy,
        KernelForm.VIEW: _view,
    }
    return partial(forms[spec.form], spec, noise)


def group_function(group: Group, noise: Tensor) -> Kernel:
    """The ops of a group one after the other; what is not kept is gone at the end."""
    kernels = [kernel(member.spec, noise) for member in group.members]

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        values = list(inputs)
        for each, member in zip(kernels, group.members, strict=True):
            values.extend(each([values[number] for number in member.reads]))
        return [values[number] for number in group.kept]

    return run


def compiled_group(group: Group, noise: Tensor, sizes: Sequence[int]) -> Kernel:
    """One kernel made by inductor, run once on inputs of the given numbers of elements.

    Traced and compiled for these sizes alone: nothing is checked at each call.

    Raises:
        RuntimeError: inductor cannot compile here, for want of a C++ compiler for instance.
    """
    from torch._inductor import compile as inductor
    from torch.fx.experimental.proxy_tensor import make_fx

    function = group_function(group, noise)
    inputs = [torch.zeros(size, device=noise.device) for size in sizes]
    with torch.no_grad():
        traced = make_fx(lambda *values: function(values))(*inputs)
        compiled = inductor(traced, [*inputs])
        compiled(*inputs)

    def run(values: Sequence[Tensor]) -> list[Tensor]:
        return list(compiled(*values))

    return run


def fit_size(values: Tensor, size: int) -> Tensor:
    """The first elements, or all of them over and over."""
    own = values.numel()
    if own >= size:
        return values[:size]
    return values.repeat(-(-size // own))[:size]


def _contract(spec: StandIn, noise: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Rows overlap where the input is smaller than the matrix, as windows of a convolution do."""
    rows, depth, columns = spec.rows, spec.depth, spec.columns
    first = inputs[0]
    if first.numel() < depth:
        first = fit_size(first, depth)
    stride = depth
    if first.numel() < rows * depth:
        stride = (first.numel() - depth) // max(rows - 1, 1)
    left = first.as_strided((rows, depth), (stride, 1))
    right = noise[: depth * columns].view(depth, columns)
    product = torch.addmm(
        right[0], left, right, beta=_BIAS, alpha=float((3.0 / depth) ** 0.5)
    ).view(-1)
    for other in inputs[1:]:
        product[:1] += _TRACE * other[:1]
    return [product, *_further(spec, product)]


def _map(spec: StandIn, noise: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    size = spec.outputs[0]
    if not inputs:
        values = noise[:size].clone()
    else:
        values = fit_size(inputs[0], size)
        for other in inputs[1:]:
            own = other.numel()
            if own < size and size % own == 0:
                values = torch.lerp(values.view(-1, own), other, 0.5).view(-1)
            else:
                values = torch.lerp(values, fit_size(other, size), 0.5)
        if spec.heavy:
            values = torch.tanh(values)
        elif len(inputs) == 1:
            values = torch.mul(values, _DAMPING)
    return [values, *_further(spec, values)]


def _reduce(spec: StandIn, noise: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    size = spec.outputs[0]
    first = inputs[0]
    values = first[: first.numel() // size * size].view(size, -1).mean(1)
    for other in inputs[1:]:
        values[:1] += _TRACE * other[:1]
    return [values, *_further(spec, values)]


def _copy(spec: StandIn, noise: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    if not inputs:
        return _map(spec, noise, inputs)
    wanted = sum(spec.outputs)
    whole = inputs[0].clone() if len(inputs) == 1 else torch.cat(list(inputs))
    if whole.numel() > wanted > 0:  # what is left out has to count all the same
        whole[:1] += _TRACE * whole[-1:]
    whole = fit_size(whole, wanted)
    return list(torch.split(whole, list(spec.outputs)))


def _view(spec: StandIn, noise: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    if not inputs:
        return [noise[:size] for size in spec.outputs]
    return [fit_size(inputs[0], size) for size in spec.outputs]


def _further(spec: StandIn, found: Tensor) -> list[Tensor]:
    return [fit_size(found, size).clone() for size in spec.outputs[1:]]
