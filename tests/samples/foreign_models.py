"""Small ONNX models of onnxruntime's own ops, as its quantisers and optimisers write them."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

MICROSOFT = "com.microsoft"
node = helper.make_node
info = helper.make_tensor_value_info


def _save(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: list[onnx.TensorProto],
) -> Path:
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def _weight(name: str, *shape: int) -> onnx.TensorProto:
    values = np.random.default_rng(len(name)).standard_normal(shape) * 0.1
    return numpy_helper.from_array(values.astype(np.float32), name)


def sixteen_bit_model(path: Path) -> Path:
    """A convolution and a product whose activations are quantised to 16 bits."""
    weights = [_weight("filter", 8, 3, 3, 3), _weight("fc", 8, 10)]
    weights.append(numpy_helper.from_array(np.float32(0.001), "scale"))
    weights.append(numpy_helper.from_array(np.uint16(32768), "zero"))
    nodes: list[onnx.NodeProto] = []

    def quantised(name: str) -> str:
        for op, source, target in (("Quantize", name, "q"), ("Dequantize", f"{name}_q", "d")):
            made = f"{name}_{target}"
            nodes.append(
                node(f"{op}Linear", [source, "scale", "zero"], [made], made, domain=MICROSOFT)
            )
        return f"{name}_d"

    nodes.append(node("Conv", [quantised("image"), "filter"], ["c"], "conv", strides=[2, 2]))
    nodes.append(node("GlobalAveragePool", [quantised("c")], ["p"], "pool"))
    nodes.append(node("Flatten", ["p"], ["f"], "flat"))
    nodes.append(node("MatMul", [quantised("f"), "fc"], ["y"], "fc"))
    inputs = [info("image", TensorProto.FLOAT, ["batch", 3, 16, 16])]
    return _save(path, nodes, inputs, [info("y", TensorProto.FLOAT, ["batch", 10])], weights)


def convolutional_model(path: Path) -> Path:
    """Two convolutions with a residual, a pool and a product."""
    weights = [_weight("w1", 16, 3, 3, 3), _weight("b1", 16), _weight("w2", 16, 16, 3, 3)]
    weights += [_weight("fc", 16, 10), _weight("bias", 10)]
    nodes = [
        node("Conv", ["image", "w1", "b1"], ["c1"], "conv1", strides=[2, 2]),
        node("Relu", ["c1"], ["r1"], "relu1"),
        node("Conv", ["r1", "w2"], ["c2"], "conv2", pads=[1, 1, 1, 1]),
        node("Add", ["c2", "r1"], ["s"], "add"),
        node("Relu", ["s"], ["r2"], "relu2"),
        node("GlobalAveragePool", ["r2"], ["p"], "pool"),
        node("Flatten", ["p"], ["f"], "flat"),
        node("Gemm", ["f", "fc", "bias"], ["g"], "fc"),
        node("Relu", ["g"], ["y"], "relu3"),
    ]
    inputs = [info("image", TensorProto.FLOAT, ["batch", 3, 33, 33])]
    return _save(path, nodes, inputs, [info("y", TensorProto.FLOAT, ["batch", 10])], weights)


def optimised(source: Path, path: Path, level: str) -> Path:
    """What onnxruntime saves of a model after its own optimisations."""
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    options.log_severity_level = 4
    options.optimized_model_filepath = str(path)
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    return path


def four_bit_model(path: Path, rows: int = 64) -> Path:
    """A language model of one layer: its table and its products hold four bits a weight."""
    table = np.random.default_rng(0).integers(-8, 8, (rows, 32)).astype(np.int8)
    weights = [
        helper.make_tensor("table", TensorProto.INT4, table.shape, table.reshape(-1)),
        _weight("table_scale", rows, 1),
    ]
    nodes = [
        node("GatherBlockQuantized", ["table", "ids", "table_scale"], ["x"], "embed",
             domain=MICROSOFT, block_size=32, quantize_axis=1, gather_axis=0)
    ]  # fmt: skip
    source = "x"
    for index, (inner, columns) in enumerate(((32, 128), (128, 32), (32, rows))):
        packed = np.random.default_rng(index).integers(0, 256, (columns, inner // 32, 16))
        weights.append(numpy_helper.from_array(packed.astype(np.uint8), f"w{index}"))
        weights.append(_weight(f"scale{index}", columns * (inner // 32)))
        nodes.append(
            node("MatMulNBits", [source, f"w{index}", f"scale{index}"], [f"m{index}"],
                 f"fc{index}", domain=MICROSOFT, K=inner, N=columns, bits=4, block_size=32)
        )  # fmt: skip
        nodes.append(node("Relu", [f"m{index}"], [f"r{index}"], f"act{index}"))
        source = f"r{index}"
    inputs = [info("ids", TensorProto.INT64, ["batch", "length"])]
    outputs = [info(source, TensorProto.FLOAT, ["batch", "length", rows])]
    return _save(path, nodes, inputs, outputs, weights)
