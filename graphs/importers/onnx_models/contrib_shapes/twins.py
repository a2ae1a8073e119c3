"""Foreign ops whose output is shaped like that of a standard op, in another layout perhaps.

onnxruntime's internal domains hold standard ops on tensors whose channels come last
(`com.ms.internal.nhwc`) or in blocks (`com.microsoft.nchwc`), and com.microsoft holds some with an
activation fused to them or on quantised tensors. onnx infers the standard op.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from graphs.costs.work import TensorSpec
from graphs.importers.onnx_models.contrib_shapes.rules import (
    FLOAT,
    Attributes,
    Inputs,
    Outputs,
    Rule,
    number,
    numbers,
    required,
    shape_at,
    type_at,
)
from graphs.importers.onnx_models.values import OnnxValue

NHWC = "com.ms.internal.nhwc"
NCHWC = "com.microsoft.nchwc"

#: Channels are stored in blocks of eight or sixteen, as wide as the processor's registers.
_SMALLEST_BLOCK = 8


@dataclass(frozen=True)
class StandardTwin:
    """The standard op, and how the foreign one's inputs become its own."""

    op_type: str
    inputs: tuple[int, ...] | None = None
    """Positions of the inputs that it reads; None for all."""
    channels_last: bool | None = False
    """Where the channels are; None leaves it to the attribute `channels_last`."""
    typed_like: int | None = None
    """The input that has the output's type, where the standard op takes no such tensors."""

    def given(self, inputs: Inputs, attributes: Attributes) -> list[OnnxValue | None]:
        """The standard op's inputs."""
        positions = range(len(inputs)) if self.inputs is None else self.inputs
        chosen = [inputs[p] if p < len(inputs) else None for p in positions]
        if self.is_last(attributes) and chosen and chosen[0] is not None:
            chosen[0] = _reordered(chosen[0])
        if self.typed_like is not None:
            chosen = [None if value is None else _as_float(value) for value in chosen]
        return chosen

    def is_last(self, attributes: Attributes) -> bool:
        """Whether the output's channels come last."""
        if self.channels_last is None:
            return bool(attributes.get("channels_last"))
        return self.channels_last

    def result(self, sizes: Sequence[int], attributes: Attributes) -> tuple[int, ...]:
        """Shape of an output of the foreign op, from the standard op's."""
        if self.is_last(attributes) and len(sizes) > 2:
            return (sizes[0], *sizes[2:], sizes[1])
        return tuple(sizes)


def standard_twin(domain: str, op_type: str) -> StandardTwin | None:
    """The standard op that tells a foreign one's shapes; onnx may not know it either."""
    if domain == NHWC:
        if op_type in ("QLinearAveragePool", "QLinearConvTranspose"):
            op, positions = _QUANTISED_NHWC[op_type]
            return StandardTwin(op, positions, channels_last=True, typed_like=0)
        # A scale or size for each axis fits its axis in every layout.
        return StandardTwin(op_type, channels_last=op_type != "Resize")
    if domain == NCHWC:
        return _NCHWC_TWINS.get(op_type)
    if domain == "com.microsoft":
        return _MICROSOFT_TWINS.get(op_type, StandardTwin(op_type))
    # onnxruntime writes standard ops into models of opsets that are older than the ops.
    return StandardTwin(op_type) if domain == "" else None


def _channels_second(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[0], shape[-1], *shape[1:-1]) if len(shape) > 2 else shape


def _reordered(value: OnnxValue) -> OnnxValue:
    spec = TensorSpec(_channels_second(value.spec.shape), value.spec.dtype)
    return replace(value, spec=spec, constant=None)


def _as_float(value: OnnxValue) -> OnnxValue:
    return OnnxValue(TensorSpec(value.spec.shape), FLOAT, assumed=value.assumed)


def _into_blocks(inputs: Inputs, attributes: Attributes) -> Outputs:
    """`ReorderInput`: channels come second and are filled up to whole blocks."""
    value = required(inputs, 0)
    shape = value.spec.shape
    shape = _channels_second(shape) if attributes.get("channels_last") else shape
    channels = -(-shape[1] // _SMALLEST_BLOCK) * _SMALLEST_BLOCK
    return [((shape[0], channels, *shape[2:]), value.elem_type)]


def _out_of_blocks(inputs: Inputs, attributes: Attributes) -> Outputs:
    value = required(inputs, 0)
    shape = (value.spec.shape[0], number(attributes, "channels"), *value.spec.shape[2:])
    if attributes.get("channels_last"):
        shape = (shape[0], *shape[2:], shape[1])
    return [(shape, value.elem_type)]


def _upsampled(inputs: Inputs, attributes: Attributes) -> Outputs:
    scales = numbers(attributes, "scales")
    shape = [size * scale for size, scale in zip(shape_at(inputs, 0), scales, strict=True)]
    return [(tuple(shape), type_at(inputs, 0))]


_QUANTISED_NHWC: dict[str, tuple[str, tuple[int, ...]]] = {
    "QLinearAveragePool": ("AveragePool", (0,)),
    "QLinearConvTranspose": ("ConvTranspose", (0, 3)),
}

_NCHWC_TWINS: dict[str, StandardTwin] = {
    "Conv": StandardTwin("Conv", (0, 1)),
    "MaxPool": StandardTwin("MaxPool"),
    "AveragePool": StandardTwin("AveragePool"),
    "GlobalMaxPool": StandardTwin("GlobalMaxPool"),
    "GlobalAveragePool": StandardTwin("GlobalAveragePool"),
}

_MICROSOFT_TWINS: dict[str, StandardTwin] = {
    "FusedConv": StandardTwin("Conv", (0, 1)),
    "NhwcConv": StandardTwin("Conv", (0, 1), channels_last=True),
    "NhwcFusedConv": StandardTwin("Conv", (0, 1), channels_last=True),
    "NhwcMaxPool": StandardTwin("MaxPool", (0,), channels_last=True),
    "MaxpoolWithMask": StandardTwin("MaxPool", (0,)),
    "QLinearAveragePool": StandardTwin("AveragePool", (0,), channels_last=None, typed_like=0),
    "QLinearConv": StandardTwin("Conv", (0, 3), channels_last=None, typed_like=7),
}

NCHWC_RULES: dict[str, Rule] = {
    "ReorderInput": _into_blocks,
    "ReorderOutput": _out_of_blocks,
    "Upsample": _upsampled,
}
