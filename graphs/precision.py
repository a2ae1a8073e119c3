"""The type that float32 models are computed in: as frameworks do by default, or as a user asks.

Frameworks round the operands of float32 matrix products and convolutions to TensorFloat-32 on GPUs
that have it: TensorFlow (`tf.config.experimental.enable_tensor_float_32_execution`) and onnxruntime
(`use_tf32` of its CUDA provider) both, torch convolutions and recurrent layers only
(`torch.backends.cudnn.allow_tf32`; `torch.backends.cuda.matmul.allow_tf32` is off).
"""

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum

import numpy as np

from graphs.errors import ModelError
from graphs.graph import Graph
from graphs.kinds import DType, OpKind, Phase


class Precision(StrEnum):
    """What float32 ops are computed in."""

    AUTO = "auto"
    """As the framework that the model comes from does by default."""
    MODEL = "model"
    """As the model says: float32 at full precision."""
    TF32 = "tf32"
    FLOAT16 = "float16"
    """Automatic mixed precision: activations and products in half, state in float32."""
    BFLOAT16 = "bfloat16"


_CONVOLUTIONS = (OpKind.CONV, OpKind.CONV_GRAD, OpKind.DEPTHWISE_CONV, OpKind.RECURRENT)
_PRODUCTS = (*_CONVOLUTIONS, OpKind.MATMUL, OpKind.ATTENTION)
#: Kinds that a framework computes in TF32 unless told otherwise, by source format.
DEFAULT_TF32: Mapping[str, tuple[OpKind, ...]] = {
    "onnx": _PRODUCTS,
    "tensorflow": _PRODUCTS,
    "torch-export": _CONVOLUTIONS,
}
_HALVES = {Precision.FLOAT16: DType.FLOAT16, Precision.BFLOAT16: DType.BFLOAT16}


def read_precision(text: str) -> Precision:
    """A precision by name; `fp16`, `bf16` and `fp32` are known too.

    Raises:
        ModelError: no such precision.

    Example:
        >>> str(read_precision("bf16"))
        'bfloat16'
    """
    short = {"fp16": "float16", "half": "float16", "bf16": "bfloat16", "fp32": "model"}
    name = short.get(text.lower(), text.lower())
    try:
        return Precision(name)
    except ValueError:
        known = ", ".join(Precision)
        raise ModelError(f"precision {text!r}: there are {known} (and fp16, bf16, fp32)") from None


def computed_types(graph: Graph) -> Mapping[str, float]:
    """Share of the flops that is computed in each type, the largest first."""
    flops = np.bincount(graph.dtypes, graph.flops)
    shares = flops / max(float(flops.sum()), 1e-300)
    order = np.argsort(-shares, kind="stable")
    return {DType(code).name.lower(): float(shares[code]) for code in order if shares[code] > 0}


def with_precision(graph: Graph, precision: Precision) -> Graph:
    """The graph as it is computed in another precision; only float32 ops change.

    In half precision float32 ops and the tensors between them take half the bytes. Parameters stay
    as they are where the graph updates them (automatic mixed precision keeps a float32 copy), and
    take half otherwise.
    """
    if precision == Precision.MODEL:
        return graph
    float32 = graph.dtypes == DType.FLOAT32
    if precision in (Precision.AUTO, Precision.TF32):
        default = DEFAULT_TF32.get(graph.report.source_format, ())
        kinds = default if precision == Precision.AUTO else _PRODUCTS
        rounded = float32 & np.isin(graph.kinds, [int(kind) for kind in kinds])
        if not rounded.any():
            return graph
        return replace(graph, dtypes=np.where(rounded, DType.TF32, graph.dtypes).astype(np.uint8))
    updates = graph.phases == Phase.UPDATE
    lower = float32 & ~updates
    moved = lower[graph.tensor_producers]
    keeps_state = bool(updates.any())
    return replace(
        graph,
        dtypes=np.where(lower, _HALVES[precision], graph.dtypes).astype(np.uint8),
        bytes_read=np.where(lower, graph.bytes_read / 2, graph.bytes_read),
        bytes_written=np.where(lower, graph.bytes_written / 2, graph.bytes_written),
        workspace_bytes=np.where(lower, graph.workspace_bytes // 2, graph.workspace_bytes),
        resident_bytes=np.where(
            lower & (not keeps_state), -(-graph.resident_bytes // 2), graph.resident_bytes
        ),
        tensor_bytes=np.where(moved, -(-graph.tensor_bytes // 2), graph.tensor_bytes),
    )
