"""The table from ONNX op types to kinds and formulas, for every domain that has one."""

from collections.abc import Mapping

from graphs.costs.formulas import output_elements, streaming
from graphs.costs.onnx_contrib import (
    BLOCKED_LAYOUT_OPS,
    CHANNELS_LAST_OPS,
    MICROSOFT_OPS,
    ONNXRUNTIME_STANDARD_OPS,
    TRAINING_OPS,
)
from graphs.costs.onnx_dense import DENSE_OPS, PREVIEW_DENSE_OPS
from graphs.costs.onnx_movement import MOVEMENT_OPS
from graphs.costs.onnx_pointwise import CLASSICAL_OPS, POINTWISE_OPS
from graphs.costs.work import OpCost, Signature, Work
from graphs.kinds import OpKind

_STANDARD: Mapping[str, OpCost] = {
    **ONNXRUNTIME_STANDARD_OPS,
    **DENSE_OPS,
    **POINTWISE_OPS,
    **MOVEMENT_OPS,
}

#: Domain to op type to cost. The internal layout domains of onnxruntime hold standard ops.
ONNX_OPS: dict[str, Mapping[str, OpCost]] = {
    "": _STANDARD,
    "ai.onnx": _STANDARD,
    "ai.onnx.ml": CLASSICAL_OPS,
    "ai.onnx.preview": PREVIEW_DENSE_OPS,
    "ai.onnx.preview.training": TRAINING_OPS,
    "com.microsoft": {**_STANDARD, **MICROSOFT_OPS},
    "com.microsoft.nchwc": {**_STANDARD, **BLOCKED_LAYOUT_OPS},
    "com.ms.internal.nhwc": {**_STANDARD, **CHANNELS_LAST_OPS},
}


def onnx_cost(domain: str, op_type: str) -> OpCost | None:
    """Kind and formula of an op type, or None where only an estimate is possible."""
    return ONNX_OPS.get(domain, {}).get(op_type)


def estimate_work(op: Signature) -> Work:
    """For ops without a formula: one flop per element written, and every tensor once."""
    return streaming(float(output_elements(op)), op)


ESTIMATE = OpCost(OpKind.CUSTOM, estimate_work)


def refined_kind(cost: OpCost, op: Signature) -> OpKind:
    """The kind, with convolutions of one input channel per group told apart."""
    groups = op.attributes.get("group", 1)
    if cost.kind == OpKind.CONV and isinstance(groups, int) and groups > 1:
        filters = (tensor.shape for tensor in op.inputs[1:] if len(tensor.shape) > 2)
        shape = next(filters, (0, 0))
        # A filter is `[out, in / groups, ..]`, a transposed one `[in, out / groups, ..]`.
        channels = shape[0] if "Transpose" in op.op_type else groups * shape[1]
        return OpKind.DEPTHWISE_CONV if groups == channels else cost.kind
    return cost.kind
