"""Small ONNX models that run in milliseconds, and clusters of this machine's cores."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from simulator.clusters.cluster import Cluster, Device, Link


def core_cluster(count: int = 2, memory_bytes: int = 4 << 30) -> Cluster:
    """Devices as `clusters probe` describes them; figures of a middling core."""
    devices = tuple(
        Device(f"core:{i}", "cpu-core", memory_bytes, {"float32": 5e10}, 8e9, 5e-6)
        for i in range(count)
    )
    links = tuple(Link(a.name, b.name, 4e9, 2e-5) for a in devices for b in devices if a != b)
    return Cluster(f"{count}-cores", devices, links)


def write_model(path: Path, model: onnx.ModelProto) -> Path:
    """Check and save."""
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def crossing(path: Path, layers: int = 4, width: int = 96) -> Path:
    """Two chains of products that swap halves after each layer, a shape op and a shared weight."""
    random = np.random.default_rng(7)
    nodes, weights = [], []
    shared = numpy_helper.from_array(
        random.standard_normal((width, width)).astype(np.float32) / width**0.5, "shared"
    )
    weights.append(shared)
    left, right = "x", "y"
    for layer in range(layers):
        own = f"w{layer}"
        values = random.standard_normal((width, width)).astype(np.float32) / width**0.5
        weights.append(numpy_helper.from_array(values, own))
        nodes += [
            helper.make_node("MatMul", [left, "shared"], [f"a{layer}"], f"left{layer}"),
            helper.make_node("MatMul", [right, own], [f"b{layer}"], f"right{layer}"),
            helper.make_node("Add", [f"a{layer}", f"b{layer}"], [f"l{layer}"], f"add{layer}"),
            helper.make_node("Relu", [f"b{layer}"], [f"r{layer}"], f"relu{layer}"),
        ]
        left, right = f"l{layer}", f"r{layer}"
    nodes += [
        helper.make_node("Shape", [left], ["size"], "shape"),
        helper.make_node("Reshape", [right, "size"], ["again"], "reshape"),
        helper.make_node("Sub", [left, "again"], ["out"], "sub"),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width]) for name in "xy"
    ]
    outputs = [
        helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", width]),
        helper.make_tensor_value_info(left, TensorProto.FLOAT, ["batch", width]),
    ]
    graph = helper.make_graph(nodes, "crossing", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", 17)]
    return write_model(path, helper.make_model(graph, opset_imports=opsets, ir_version=8))
