"""Small ONNX models with a bit of everything that the importer reads."""

from typing import Any

import onnx
from onnx import TensorProto, helper

node = helper.make_node


def onnx_samples() -> list[bytes]:
    """Layers, control flow, sequences, quantised and foreign ops, and a gradient's ops."""
    return [_layers(), _control_flow(), _sequences(), _foreign(), _recurrent()]


def _info(name: str, shape: Any, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _floats(name: str, *shape: int) -> TensorProto:
    count = 1
    for size in shape:
        count *= size
    return helper.make_tensor(name, TensorProto.FLOAT, shape, [0.5] * count)


def _ints(name: str, values: list[int]) -> TensorProto:
    return helper.make_tensor(name, TensorProto.INT64, [len(values)], values)


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[str],
    weights: list[TensorProto],
) -> bytes:
    graph = helper.make_graph(
        nodes, "g", inputs, [onnx.ValueInfoProto(name=name) for name in outputs], weights
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return model.SerializeToString(deterministic=True)


def _layers() -> bytes:
    nodes = [
        node("Conv", ["image", "k", "b"], ["c"], "conv", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("BatchNormalization", ["c", "b", "b", "b", "b"], ["n"], "norm", epsilon=1e-3),
        node("Relu", ["n"], ["r"], "relu"),
        node("MaxPool", ["r"], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Resize", ["p", "", "scales"], ["z"], "resize", mode="linear"),
        node("GlobalAveragePool", ["z"], ["a"], "mean"),
        node("Flatten", ["a"], ["f"], "flat"),
        node("Gemm", ["f", "fc"], ["g"], "fc", transB=1),
        node("Einsum", ["g", "g"], ["e"], "einsum", equation="ij,kj->ik"),
        node("Softmax", ["e"], ["y"], "soft", axis=-1),
    ]
    scales = helper.make_tensor("scales", TensorProto.FLOAT, [4], [1.0, 1.0, 2.0, 2.0])
    weights = [_floats("k", 4, 3, 3, 3), _floats("b", 4), _floats("fc", 5, 4), scales]
    return _model(nodes, [_info("image", ["batch", 3, 16, 16])], ["y"], weights)


def _control_flow() -> bytes:
    then = helper.make_graph([node("Relu", ["h"], ["t"])], "then", [], [_info("t", None)])
    other = helper.make_graph([node("Exp", ["h"], ["e"])], "else", [], [_info("e", None)])
    body = helper.make_graph(
        [node("Add", ["carried", "w"], ["sum"]), node("Identity", ["go"], ["on"])],
        "body",
        [_info("i", [], TensorProto.INT64), _info("go", [], TensorProto.BOOL),
         _info("carried", ["batch", 4])],
        [_info("on", [], TensorProto.BOOL), _info("sum", ["batch", 4])],
    )  # fmt: skip
    scanned = helper.make_graph(
        [node("Add", ["state", "row"], ["next"]), node("Identity", ["next"], ["out"])],
        "scanned",
        [_info("state", [4]), _info("row", [4])],
        [_info("next", [4]), _info("out", [4])],
    )
    nodes = [
        node("Shape", ["x"], ["s"], "shape"),
        node("MatMul", ["x", "m"], ["h"], "product"),
        node("If", ["c"], ["i"], "if", then_branch=then, else_branch=other),
        node("Reshape", ["i", "s"], ["r"], "reshape"),
        node("Loop", ["trips", "c", "r"], ["l"], "loop", body=body),
        node("Scan", ["zero", "l"], ["last", "y"], "scan", body=scanned, num_scan_inputs=1),
    ]
    weights = [
        _floats("m", 4, 4), _floats("w", 4), _floats("zero", 4),
        helper.make_tensor("c", TensorProto.BOOL, [], [True]),
        helper.make_tensor("trips", TensorProto.INT64, [], [3]),
    ]  # fmt: skip
    return _model(nodes, [_info("x", ["batch", 4])], ["y", "last"], weights)


def _sequences() -> bytes:
    nodes = [
        node("SplitToSequence", ["x"], ["parts"], "split", axis=1),
        node("SequenceAt", ["parts", "one"], ["part"], "at"),
        node("ConcatFromSequence", ["parts"], ["all"], "concat", axis=1),
        node("Slice", ["all", "starts", "ends"], ["cut"], "slice"),
        node("Tile", ["cut", "ends"], ["tiled"], "tile"),
        node("TopK", ["tiled", "k"], ["best", "at"], "topk"),
        node("Gather", ["best", "k"], ["y"], "gather", axis=1),
        node("Range", ["zero", "three", "one"], ["range"], "range"),
        node("OneHot", ["range", "three", "pair"], ["hot"], "hot"),
        node("Pad", ["part", "pads"], ["padded"], "pad"),
    ]
    scalars = [
        helper.make_tensor(name, TensorProto.INT64, [], [value])
        for name, value in (("zero", 0), ("one", 1), ("three", 3))
    ]
    lists = [_ints("starts", [0, 0]), _ints("ends", [2, 2]), _ints("k", [1]), _ints("pair", [0, 1]),
             _ints("pads", [0, 1, 0, 1])]  # fmt: skip
    return _model(
        nodes, [_info("x", ["rows", "length"])], ["y", "hot", "padded"], [*scalars, *lists]
    )


def _foreign() -> bytes:
    domain = "com.microsoft"
    nodes = [
        node("MatMulNBits", ["x", "packed", "scale"], ["m"], "bits", domain=domain, K=32, N=8,
             bits=4, block_size=32),
        node("FusedMatMul", ["m", "square"], ["f"], "fused", domain=domain, transA=0, alpha=0.5),
        node("Gelu", ["f"], ["g"], "gelu", domain=domain),
        node("SkipLayerNormalization", ["g", "m", "gamma", "gamma"], ["n"], "skip", domain=domain),
        node("Attention", ["n", "qkv", "bias"], ["a"], "attention", domain=domain, num_heads=2),
        node("Unheard", ["a"], ["y"], "unheard", domain="example"),
    ]  # fmt: skip
    packed = helper.make_tensor("packed", TensorProto.UINT8, [8, 1, 16], [1] * 128)
    weights = [packed, _floats("scale", 8), _floats("square", 8, 8), _floats("gamma", 8),
               _floats("qkv", 8, 24), _floats("bias", 24)]  # fmt: skip
    return _model(nodes, [_info("x", ["batch", "length", 32])], ["y"], weights)


def _recurrent() -> bytes:
    nodes = [
        node("LSTM", ["x", "w", "r", "b"], ["steps", "h", "c"], "lstm", hidden_size=4,
             direction="bidirectional"),
        node("DequantizeLinear", ["q", "s"], ["d"], "dequantize"),
        node("MatMul", ["h", "d"], ["m"], "product"),
        node("LayerNormalization", ["m", "gamma"], ["n"], "norm", axis=-1),
        node("CumSum", ["n", "axis"], ["u"], "sum"),
        node("ReduceMean", ["u", "axes"], ["y"], "mean", keepdims=0),
    ]  # fmt: skip
    weights = [
        _floats("w", 2, 16, 3), _floats("r", 2, 16, 4), _floats("b", 2, 32), _floats("gamma", 4),
        helper.make_tensor("q", TensorProto.INT8, [4, 4], [1] * 16),
        helper.make_tensor("s", TensorProto.FLOAT, [], [0.1]),
        helper.make_tensor("axis", TensorProto.INT64, [], [0]),
        _ints("axes", [-1]),
    ]  # fmt: skip
    return _model(nodes, [_info("x", ["length", "batch", 3])], ["y", "steps", "c"], weights)
