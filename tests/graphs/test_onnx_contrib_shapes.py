"""Shape rules of onnxruntime's own ops, held against onnxruntime's inference and its kernels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime as rt
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi import onnxruntime_pybind11_state as native

from graphs import Graph, OpKind
from graphs.costs.onnx_contrib import MICROSOFT_OPS
from graphs.costs.onnx_ops import onnx_cost
from graphs.costs.work import TensorSpec
from graphs.importers.onnx_models.contrib_shapes.table import RULES, contrib_outputs
from graphs.importers.onnx_models.contrib_shapes.twins import NCHWC, NHWC, standard_twin
from graphs.importers.onnx_models.model import import_onnx_model
from graphs.importers.onnx_models.steps import onnx_steps
from graphs.importers.onnx_models.values import OnnxValue

MS = "com.microsoft"
DOMAINS = {"": 21, MS: 1, NHWC: 11, NCHWC: 1, "ai.onnx.preview.training": 1}
F32, F16, I8, U8, I16, U16, I32, I64, BOOL, U4, I4, STR = (
    TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8, TensorProto.UINT8,
    TensorProto.INT16, TensorProto.UINT16, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL,
    TensorProto.UINT4, TensorProto.INT4, TensorProto.STRING,
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One node: inputs as `(type, shape)`, arrays for constants, None where absent."""

    op_type: str
    inputs: Sequence[Any]
    outputs: int = 1
    domain: str = MS
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.domain}.{self.op_type}"


def f(*shape: int) -> tuple[int, tuple[int, ...]]:
    """A float tensor."""
    return F32, shape


def q(*shape: int) -> tuple[int, tuple[int, ...]]:
    """A tensor of unsigned bytes."""
    return U8, shape


def whole(*shape: int, kind: int = I32) -> tuple[int, tuple[int, ...]]:
    return kind, shape


def case(op_type: str, *inputs: Any, outputs: int = 1, domain: str = MS, **attributes: Any) -> Case:
    return Case(op_type, inputs, outputs, domain, attributes)


ones = np.float32(0.1)
zero = np.uint8(3)
CONV: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
CASES = [
    # products
    case("FusedMatMul", f(2, 3, 4), f(4, 5), alpha=2.0),
    case("FusedMatMul", f(2, 4, 3), f(5, 4), transA=1, transB=1),
    case("FusedMatMul", f(3, 2, 4), f(4, 2, 5), transBatchA=1, transBatchB=1),
    case("FusedMatMul", f(4), f(2, 4, 5)),
    case("FusedMatMulActivation", f(2, 3, 4), f(4, 5), activation="Relu"),
    case("TransposeMatMul", f(2, 3, 4), f(2, 5, 4), transB=1),
    case("FusedGemm", f(8, 64), f(10, 64), f(10), transB=1, activation="Relu"),
    case("GemmFastGelu", f(8, 64), f(64, 10), f(10)),
    case("GemmFloat8", f(8, 64), f(10, 64), transB=1, dtype=F16),
    case("QGemm", q(4, 8), ones, zero, q(8, 5), ones, zero, None, ones, zero),
    case("QGemm", q(4, 8), ones, zero, q(8, 5), ones, zero),
    case("QOrderedMatMul", (I8, (2, 32, 64)), ones, (I8, (64, 32)), ones, ones,
         order_A=1, order_B=0, order_Y=1),
    case("DynamicQuantizeMatMul", f(2, 4, 8), q(8, 5), f(1), q(1)),
    case("MatMulIntegerToFloat", q(2, 4, 8), q(8, 5), f(1), f(1), q(1), q(1), f(5)),
    case("MatMulInteger16", (I16, (4, 8)), (I16, (8, 5))),
    case("MatMulNBits", f(2, 3, 64), q(96, 2, 16), f(192), K=64, N=96, bits=4, block_size=32),
    case("MatMulBnb4", f(2, 3, 64), q(96 * 32), f(96), K=64, N=96, block_size=64, quant_type=1),
    case("MoE", f(6, 8), f(6, 4), f(4, 16, 8), None, f(4, 8, 16), k=2),
    case("QMoE", f(6, 32), f(6, 4), q(4, 64, 16), f(4, 64), None, q(4, 32, 32), f(4, 32),
         k=2, expert_weight_bits=4),
    case("Inverse", f(2, 3, 3)),
    case("CDist", f(5, 8), f(7, 8), metric="euclidean"),
    case("Rfft", f(2, 3, 8), signal_ndim=1, onesided=1, normalized=0),
    case("Irfft", f(2, 3, 5, 2), signal_ndim=1, onesided=1, normalized=0),
    case("DynamicQuantizeLSTM", f(7, 2, 8), (I8, (2, 8, 64)), (I8, (2, 16, 64)), f(2, 128), None,
         None, None, None, f(2), (I8, (2,)), f(2), (I8, (2,)), outputs=3, hidden_size=16,
         direction="bidirectional"),
    case("CausalConvWithState", f(2, 6, 9), f(6, 1, 4), outputs=2, ndim=1, activation="silu"),
    case("LinearAttention", f(2, 5, 32), f(2, 5, 32), f(2, 5, 64), None, f(2, 5, 4), f(2, 5, 4),
         outputs=2, q_num_heads=4, kv_num_heads=4, update_rule="gated_delta"),
    # convolutions and pools
    case("FusedConv", f(2, 3, 20, 20), f(8, 3, 3, 3), f(8), activation="Relu", **CONV),
    case("FusedConv", f(2, 4, 9, 9), f(8, 2, 3, 3), f(8), group=2, activation="Relu",
         auto_pad="SAME_UPPER"),
    case("NhwcConv", f(2, 20, 20, 3), f(8, 3, 3, 3), f(8), **CONV),
    case("NhwcConv", f(2, 20, 21, 4), f(8, 4, 3, 5), f(8)),
    case("NhwcFusedConv", (F16, (2, 20, 20, 4)), (F16, (8, 4, 3, 5)), (F16, (8,)),
         activation="Relu"),
    case("NhwcMaxPool", q(2, 20, 20, 3), kernel_shape=[3, 3], strides=[2, 2]),
    case("QLinearAveragePool", q(2, 3, 20, 20), ones, zero, ones, zero, kernel_shape=[3, 3]),
    case("QLinearAveragePool", q(2, 20, 20, 3), ones, zero, ones, zero, kernel_shape=[3, 3],
         channels_last=1),
    case("QLinearConv", q(2, 20, 20, 3), ones, zero, q(8, 3, 3, 3), ones, zero, ones, zero,
         channels_last=1, **CONV),
    case("QLinearConv", q(2, 3, 20, 20), ones, zero, q(8, 3, 3, 3), ones, zero, ones, zero, **CONV),
    case("QLinearGlobalAveragePool", q(2, 3, 9, 9), ones, zero, ones, zero),
    case("QLinearGlobalAveragePool", q(2, 9, 9, 3), ones, zero, ones, zero, channels_last=1),
    case("MaxpoolWithMask", f(2, 3, 8, 8), whole(2, 3, 8, 8), kernel_shape=[2, 2]),
    case("CropAndResize", f(1, 3, 20, 20), f(2, 4), whole(2), np.array([5, 6], np.int32)),
    case("GridSample", f(2, 3, 8, 8), f(2, 5, 6, 2)),
    *[case(op, f(2, 20, 21, 4), domain=NHWC, kernel_shape=[3, 3], strides=[2, 2])
      for op in ("AveragePool", "MaxPool")],
    *[case(op, f(2, 20, 21, 4), domain=NHWC)
      for op in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")],
    case("LpPool", f(2, 20, 21, 4), domain=NHWC, kernel_shape=[3, 3]),
    case("Conv", f(2, 20, 21, 4), f(8, 4, 3, 3), f(8), domain=NHWC, **CONV),
    case("ConvTranspose", f(2, 10, 11, 4), f(4, 6, 3, 3), domain=NHWC, strides=[2, 2]),
    case("BatchNormalization", f(2, 5, 6, 3), f(3), f(3), f(3), f(3), domain=NHWC),
    case("InstanceNormalization", f(2, 5, 6, 3), f(3), f(3), domain=NHWC),
    case("LRN", f(2, 5, 6, 3), domain=NHWC, size=3),
    case("DepthToSpace", f(2, 5, 6, 8), domain=NHWC, blocksize=2),
    case("SpaceToDepth", f(2, 6, 8, 3), domain=NHWC, blocksize=2),
    case("Resize", f(2, 5, 6, 3), np.zeros(0, np.float32),
         np.array([1, 2, 2, 1], np.float32), domain=NHWC),
    case("QLinearConv", q(2, 20, 20, 3), ones, zero, q(8, 3, 3, 3), ones, zero, ones, zero,
         domain=NHWC, **CONV),
    case("QLinearAveragePool", q(2, 20, 20, 3), ones, zero, ones, zero, kernel_shape=[3, 3],
         domain=NHWC),
    case("QLinearConvTranspose", q(2, 10, 10, 4), ones, zero, q(4, 6, 3, 3), ones, zero, ones,
         zero, domain=NHWC, strides=[2, 2]),
    case("Conv", f(2, 3, 20, 20), f(16, 3, 3, 3), f(16), domain=NCHWC, activation="Relu", **CONV),
    case("MaxPool", f(2, 16, 20, 20), domain=NCHWC, kernel_shape=[3, 3], strides=[2, 2]),
    case("AveragePool", f(2, 16, 20, 20), domain=NCHWC, kernel_shape=[3, 3]),
    case("GlobalMaxPool", f(2, 16, 20, 20), domain=NCHWC),
    case("GlobalAveragePool", f(2, 16, 20, 20), domain=NCHWC),
    case("ReorderInput", f(2, 16, 5, 6), domain=NCHWC),
    case("ReorderInput", f(2, 5, 6, 16), domain=NCHWC, channels_last=1),
    case("ReorderOutput", f(2, 16, 5, 6), domain=NCHWC, channels=12),
    case("ReorderOutput", f(2, 16, 5, 6), domain=NCHWC, channels=12, channels_last=1),
    case("Upsample", f(2, 16, 5, 6), domain=NCHWC, scales=[1, 1, 2, 3]),
    # attention
    case("Attention", f(2, 5, 32), f(32, 96), f(96), outputs=2, num_heads=4),
    case("Attention", f(2, 5, 32), f(32, 96), f(96), None, f(2, 2, 4, 7, 8), outputs=2,
         num_heads=4),
    case("Attention", f(2, 5, 32), f(32, 80), f(80), num_heads=4, qkv_hidden_sizes=[32, 32, 16]),
    case("QAttention", q(2, 5, 32), q(32, 96), f(96), f(), f(), None, q(), q(), outputs=1,
         num_heads=4),
    case("MultiHeadAttention", f(2, 5, 32), f(2, 7, 32), f(2, 7, 32), num_heads=4),
    case("MultiHeadAttention", f(2, 5, 32), f(2, 4, 7, 8), f(2, 4, 7, 8), outputs=1, num_heads=4),
    case("MultiHeadAttention", f(2, 5, 4, 3, 8), num_heads=4),
    case("MultiHeadAttention", f(2, 5, 32), f(2, 7, 4, 2, 8), num_heads=4),
    case("MultiHeadAttention", f(2, 5, 32), f(2, 5, 32), f(2, 5, 32), None, None, None,
         f(2, 4, 3, 8), f(2, 4, 3, 8), outputs=3, num_heads=4),
    case("DecoderMaskedMultiHeadAttention", f(2, 1, 32), f(2, 1, 32), f(2, 1, 32), None, None,
         f(2, 4, 6, 8), f(2, 4, 6, 8), np.array([3], np.int32), outputs=3, num_heads=4,
         past_present_share_buffer=1),
    case("GroupQueryAttention", f(2, 5, 32), f(2, 5, 16), f(2, 5, 16), f(2, 2, 0, 8),
         f(2, 2, 0, 8), np.array([4, 4], np.int32), np.array(5, np.int32), outputs=3,
         num_heads=4, kv_num_heads=2),
    case("GroupQueryAttention", f(2, 5, 64), None, None, f(2, 2, 0, 8), f(2, 2, 0, 8),
         np.array([4, 4], np.int32), np.array(5, np.int32), outputs=3, num_heads=4,
         kv_num_heads=2),
    case("SparseAttention", f(1, 4, 32), f(1, 4, 16), f(1, 4, 16), f(1, 2, 16, 8), f(1, 2, 16, 8),
         np.array([[0, 1]], np.int32), np.array([[0]], np.int32), np.array(4, np.int32),
         np.array([4], np.int32), outputs=3, num_heads=4, kv_num_heads=2, sparse_block_size=16),
    case("PackedAttention", f(9, 32), f(32, 96), f(96), whole(2, 5), whole(3), num_heads=4),
    case("PackedMultiHeadAttention", f(9, 32), f(9, 32), f(9, 16), None, whole(2, 5), whole(3),
         num_heads=4),
    case("DecoderMaskedSelfAttention", f(2, 1, 32), f(32, 96), f(96), None, f(2, 2, 4, 7, 8), None,
         np.array([3], np.int32), outputs=2, num_heads=4, past_present_share_buffer=1),
    case("LongformerAttention", f(1, 8, 32), f(32, 96), f(96), f(1, 8), f(32, 96), f(96),
         whole(1, 8), num_heads=4, window=2),
    case("RelativePositionBias", f(32, 4), np.array([5], np.int64), np.array([5], np.int64),
         max_distance=128),
    case("GatedRelativePositionBias", f(2, 5, 32), f(32), f(1, 4, 5, 5), f(8, 8), f(8),
         f(1, 4, 1, 1), num_heads=4),
    # pointwise, norms, embeddings
    *[case(op, f(2, 5, 8), f(8)) for op in ("BiasGelu", "FastGelu")],
    *[case(op, f(2, 5, 8)) for op in ("Gelu", "QuickGelu", "ScaledSiLU")],
    case("BiasSplitGelu", (F16, (2, 5, 5120)), (F16, (5120,))),
    case("BiasSoftmax", f(2, 4, 5, 5), f(2, 1, 5, 5), axis=3, is_inner_broadcast=0),
    case("BiasAdd", (F16, (2, 5, 320)), (F16, (320,)), (F16, (2, 5, 320))),
    case("Trilu", f(2, 5, 5)),
    case("RotaryEmbedding", f(2, 4, 5, 8), whole(2, 5, kind=I64), f(16, 4), f(16, 4)),
    case("GemmaRotaryEmbedding", f(2, 5, 8), (F16, (2, 4, 5, 8)), (F16, (2, 4, 5, 8)),
         (F16, (2, 4, 5, 8)), (F16, (2, 4, 5, 8)), outputs=2),
    case("ComplexMul", f(2, 8), f(1, 8)),
    case("ComplexMulConj", f(2, 8), f(1, 8)),
    case("SkipLayerNormalization", f(2, 5, 8), f(2, 5, 8), f(8), f(8), f(8), outputs=4),
    case("SkipSimplifiedLayerNormalization", f(2, 5, 8), f(2, 5, 8), f(8), outputs=4),
    case("SimplifiedLayerNormalization", f(2, 5, 8), f(8), outputs=2, domain=""),
    case("EmbedLayerNormalization", whole(2, 5), whole(2, 5), f(10, 8), f(7, 8), f(3, 8), f(8),
         f(8), whole(2, 5), outputs=3),
    case("QEmbedLayerNormalization", whole(2, 5), whole(2, 5), q(10, 8), q(7, 8), q(3, 8), q(8),
         q(8), whole(2, 5), *[f() for _ in range(5)], *[q() for _ in range(5)], outputs=2),
    case("GroupNorm", (F16, (2, 4, 4, 320)), f(320), f(320), groups=32, activation=0),
    case("SkipGroupNorm", (F16, (2, 4, 4, 320)), f(320), f(320), (F16, (2, 4, 4, 320)), outputs=2,
         groups=32, activation=0),
    case("TorchEmbedding", f(10, 8), whole(2, 5, kind=I64)),
    case("GatherBlockQuantized", (U4, (32, 64)), whole(2, 5, kind=I64), f(32, 2), block_size=32,
         quantize_axis=1, gather_axis=0),
    case("GatherBlockQuantized", q(32, 32), whole(2, 5, kind=I64), f(32, 2), block_size=32,
         quantize_axis=1, gather_axis=0, bits=4),
    case("GatherBlockQuantized", (I4, (64, 6)), whole(3, kind=I64), f(2, 6), block_size=32,
         quantize_axis=0, gather_axis=1),
    # quantisation
    *[case("QuantizeLinear", f(2, 3), ones, np.array(0, kind)) for kind in (np.int16, np.uint16)],
    case("QuantizeLinear", f(2, 3), ones),
    *[case("DequantizeLinear", (kind, (2, 3)), ones) for kind in (I8, U16, I32)],
    case("DequantizeLinear", (I16, (2, 3)), np.float16(0.1)),
    case("QLinearAdd", q(2, 3), ones, zero, q(3), ones, zero, ones, zero),
    case("QLinearMul", q(2, 1), ones, zero, q(1, 3), ones, zero, ones, zero),
    case("QLinearWhere", (BOOL, (2, 1)), q(1, 3), ones, zero, q(2, 3), ones, zero, ones, zero),
    case("QLinearConcat", ones, zero, q(2, 3), ones, zero, q(4, 3), ones, zero, axis=0),
    case("QLinearSigmoid", q(2, 3), ones, zero, ones, zero),
    case("QLinearLeakyRelu", q(2, 3), ones, zero, ones, zero),
    case("QLinearSoftmax", q(2, 3), ones, zero, ones, zero, opset=13, axis=-1),
    case("QLinearReduceMean", q(2, 3, 4), ones, zero, ones, zero, axes=[1], keepdims=0),
    case("ReduceSumInteger", (I8, (2, 3, 4)), axes=[1], keepdims=0),
    case("QuantizeWithOrder", f(2, 32, 32), ones, order_input=1, order_output=2),
    case("DequantizeWithOrder", (I8, (2, 32, 32)), ones, order_input=2, order_output=1, to=F32),
    # moving
    case("ExpandDims", f(2, 3), np.array(-1, np.int32)),
    case("ExpandDims", f(2, 3), np.array(1, np.int32)),
    case("UnfoldTensor", f(2, 9), size=4, step=2, dim=1),
    case("Pad", f(2, 3), np.array([0, 1, 0, 2], np.int64)),
    case("GatherND", f(4, 3, 2), whole(5, 2, kind=I64)),
    case("Range", np.float32(0), np.float32(9), np.float32(2)),
    case("RestorePadding", f(9, 8), whole(2, 5)),
    case("MurmurHash3", whole(2, 3), positive=0),
    case("MurmurHash3", whole(2, 3)),
    case("NGramRepeatBlock", whole(2, 5, kind=I64), f(2, 40), ngram_size=2),
    case("WordConvEmbedding", whole(3, 6), f(8, 1, 3, 4), f(8), f(20, 4), embedding_size=8,
         conv_window_size=3, char_embedding_size=4),
    case("BiasDropout", f(2, 5, 8), f(8), f(2, 5, 8), outputs=2),
    case("BitmaskDropout", f(2, 5, 8), outputs=2),
    case("BitmaskBiasDropout", f(2, 5, 8), f(8), outputs=2),
    case("IsAllFinite", f(2, 3), f(4)),
]  # fmt: skip


def node_model(item: Case, outputs: Sequence[onnx.ValueInfoProto] | None = None) -> onnx.ModelProto:
    """The node alone; constants are initializers, and its outputs declare no types by default."""
    names, inputs, weights = [], [], []
    for index, given in enumerate(item.inputs):
        name = "" if given is None else f"x{index}"
        names.append(name)
        if isinstance(given, tuple):
            inputs.append(helper.make_tensor_value_info(name, *given))
        elif given is not None:
            weights.append(numpy_helper.from_array(np.asarray(given), name))
    made = [f"y{index}" for index in range(item.outputs)]
    node = helper.make_node(
        item.op_type, names, made, "op", domain=item.domain, **dict(item.attributes)
    )
    declared = outputs or [onnx.ValueInfoProto(name=name) for name in made]
    graph = helper.make_graph([node], "g", inputs, declared, weights)
    return helper.make_model(
        graph, ir_version=10, opset_imports=[helper.make_opsetid(d, v) for d, v in DOMAINS.items()]
    )


def inferred(item: Case) -> list[onnx.ValueInfoProto]:
    """The outputs as the importer's rules have them; none may be a guess."""
    steps = onnx_steps(node_model(item), {}, "m", None)
    assert steps.context.unknown_shapes == [], item
    return [
        onnx.ValueInfoProto(name=f"y{index}", type=steps.values[f"y{index}"].type)
        for index in range(item.outputs)
    ]


#: onnxruntime's errors share no base.
RUNTIME_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    *(v for v in vars(native).values() if isinstance(v, type) and issubclass(v, Exception)),
)


def refusal(item: Case, declared: list[onnx.ValueInfoProto]) -> str:
    """What onnxruntime says to the declared outputs, and to running the op; empty if nothing."""
    options = rt.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = rt.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.strict_shape_type_inference", "1")
    data = node_model(item, declared).SerializeToString()
    try:
        session = rt.InferenceSession(data, options, ["CPUExecutionProvider"])
    except RUNTIME_ERRORS as error:
        return str(error)
    feeds = {
        f"x{index}": np.ones(given[1], helper.tensor_dtype_to_np_dtype(given[0]))
        for index, given in enumerate(item.inputs)
        if isinstance(given, tuple)
    }
    try:
        results = session.run(None, feeds)
    except RUNTIME_ERRORS as error:
        return f"NOT RUN {error}"
    for value, result in zip(declared, results, strict=True):
        kind = value.type.tensor_type
        shape = tuple(dim.dim_value for dim in kind.shape.dim)
        assert (kind.elem_type, shape) == (
            helper.np_dtype_to_tensor_dtype(result.dtype),
            result.shape,
        ), item
    return ""


@pytest.mark.parametrize("item", CASES, ids=str)
def test_rules_agree_with_onnxruntime(item: Case) -> None:
    """Where it has a kernel the op is run; where it has an inference, that must not contradict."""
    said = refusal(item, inferred(item))
    accepted = (
        "Could not find an implementation",
        "NOT RUN",
        "Kernel not found",
        "InsertedPrecisionFreeCast",
    )
    assert not said or any(text in said for text in accepted), said


def test_nearly_every_kernel_of_onnxruntime_was_asked() -> None:
    """Most rules are held against a run, the others against onnxruntime's inference."""
    run = [item for item in CASES if refusal(item, inferred(item)) == ""]
    assert len(run) > 70


def test_onnxruntime_does_contradict_a_wrong_rule() -> None:
    wrong = helper.make_tensor_value_info("y0", F32, [2, 3, 6])
    item = case("FusedMatMul", f(2, 3, 4), f(4, 5))
    assert "ShapeInferenceError" in refusal(item, [wrong])


def _has_rule(domain: str, op_type: str) -> bool:
    twin = standard_twin(domain, op_type)
    standard = twin is not None and onnx.defs.has(twin.op_type)
    return op_type in RULES.get(domain, {}) or standard


def test_every_op_with_a_formula_has_a_shape_rule() -> None:
    assert [name for name in MICROSOFT_OPS if not _has_rule(MS, name)] == []
    for schema in native.get_all_operator_schema():
        if schema.domain in (NHWC, NCHWC):
            assert onnx_cost(schema.domain, schema.name) is not None, schema.name
            assert _has_rule(schema.domain, schema.name), schema.name


def test_every_op_with_a_rule_is_costed() -> None:
    """A rule without a formula would only make an estimate look certain."""
    free_of_formula = {
        "AttnLSTM", "ConvTransposeWithDynamicPads", "DecoderAttention", "DynamicTimeWarping",
        "GreedySearch", "LongformerAttention", "PagedAttention", "QOrderedAttention",
        "QOrderedLongformerAttention", "SampleOp", "Sampling", "WordConvEmbedding",
    }  # fmt: skip
    missing = {name for name in RULES[MS] if onnx_cost(MS, name) is None}
    assert missing - {"Gradient"} == free_of_formula


def test_channels_in_any_place_cost_the_same() -> None:
    plain = _graph(case("Conv", f(2, 3, 20, 20), f(8, 3, 3, 3), f(8), domain="", **CONV))
    last = _graph(case("NhwcConv", f(2, 20, 20, 3), f(8, 3, 3, 3), f(8), **CONV))
    blocks = _graph(case("Conv", f(2, 3, 20, 20), f(8, 3, 3, 3), f(8), domain=NCHWC, **CONV))
    assert plain.flops.sum() == last.flops.sum() == blocks.flops.sum() > 0


def test_a_depthwise_convolution_is_one_in_every_layout() -> None:
    for item in (
        case("Conv", f(2, 6, 9, 9), f(6, 1, 3, 3), domain="", group=6),
        case("NhwcConv", f(2, 9, 9, 6), f(6, 1, 3, 3), group=6),
        case("Conv", f(2, 9, 9, 6), f(6, 1, 3, 3), domain=NHWC, group=6),
    ):
        graph = _graph(item)
        assert graph.kinds[graph.op_index["op"]] == OpKind.DEPTHWISE_CONV


def _graph(item: Case) -> Graph:
    return import_onnx_model(node_model(item), {}, "m")


def test_sixteen_bit_quantisation_halves_the_bytes() -> None:
    item = case("QuantizeLinear", f(8, 64), ones, np.array(0, np.uint16))
    graph = _graph(item)
    (made,) = graph.outputs_of(graph.op_index["op"])
    assert graph.tensor_bytes[made] == 8 * 64 * 2


@pytest.mark.parametrize("value", [[7], [], "7", True])
def test_attributes_of_another_kind_give_no_shape(value: Any) -> None:
    packed = OnnxValue(TensorSpec((8, 1, 16)), U8)
    tokens = OnnxValue(TensorSpec((2, 32)), F32)
    assert contrib_outputs(MS, "MatMulNBits", [tokens, packed], {"K": 32, "N": 8})
    assert not contrib_outputs(MS, "MatMulNBits", [tokens, packed], {"K": 32, "N": value})
