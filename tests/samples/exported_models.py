"""Small ONNX models and plans that exporters are tested on."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import graphs
from graphs.graph import Graph
from placement.export import ExportRequest
from simulator.clusters.cluster import Cluster
from simulator.clusters.presets import preset
from simulator.plan import Plan

FLOAT = TensorProto.FLOAT
CLUSTER = preset("cpu+2xv100")


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: dict[str, np.ndarray],
    **options: Any,
) -> Path:
    """A model file; weights are NumPy arrays."""
    graph = helper.make_graph(
        nodes, "g", inputs, outputs, [numpy_helper.from_array(v, k) for k, v in weights.items()]
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, **options
    )
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
    return path


def value(name: str, *shape: int | str, kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def shared_weight_model(path: Path) -> Path:
    """Three products with one weight, and a bias that is also an output."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("MatMul", ["b", "w"], ["c"], name="second"),
        helper.make_node("Add", ["c", "bias"], ["d"], name="add"),
        helper.make_node("MatMul", ["d", "w"], ["e"], name="third"),
        helper.make_node("Add", ["e", "a"], ["y"], name="join"),
    ]
    weights = {"w": normal(32, 32) / 6, "bias": normal(32, seed=1)}
    outputs = [value("y", "batch", 32), value("bias", 32)]
    return save(path, nodes, [value("x", "batch", 32)], outputs, weights)


def control_flow_model(path: Path) -> Path:
    """An If whose branches capture tensors and weights, and a Loop; a shape steers a Reshape."""
    scalar = [value("flag", kind=TensorProto.BOOL)]
    then = helper.make_graph(
        [helper.make_node("MatMul", ["h", "w"], ["t"], name="inner_product")],
        "then", [], [value("t", "batch", 16)],
    )  # fmt: skip
    other = helper.make_graph(
        [helper.make_node("Mul", ["h", "scale"], ["o"], name="inner_scale")],
        "else", [], [value("o", "batch", 16)],
        [numpy_helper.from_array(normal(16, seed=3), "scale")],
    )  # fmt: skip
    body = helper.make_graph(
        [
            helper.make_node("Tanh", ["carried"], ["wound"], name="wind"),
            helper.make_node("Add", ["wound", "h"], ["next"], name="again"),
            helper.make_node("Identity", ["going"], ["goes"], name="on"),
        ],
        "body",
        [value("trip", kind=TensorProto.INT64), value("going", kind=TensorProto.BOOL),
         value("carried", "batch", 16)],
        [value("goes", kind=TensorProto.BOOL), value("next", "batch", 16)],
    )  # fmt: skip
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="first"),
        helper.make_node("If", ["flag"], ["c"], name="choose", then_branch=then, else_branch=other),
        helper.make_node("Loop", ["trips", "yes", "c"], ["l"], name="loop", body=body),
        helper.make_node("Shape", ["l"], ["s"], name="shape"),
        helper.make_node("Reshape", ["h", "s"], ["r"], name="reshape"),
        helper.make_node("MatMul", ["l", "w"], ["m"], name="last"),
        helper.make_node("Add", ["m", "r"], ["y"], name="sum"),
    ]
    weights = {"w": normal(16, 16) / 4, "trips": np.array(3), "yes": np.array(True)}
    return save(path, nodes, [value("x", "batch", 16), *scalar], [value("y", "batch", 16)], weights)


def external_copy(path: Path, source: Path, name: str = "weights.bin") -> Path:
    """The same model with all weights in another file."""
    model = onnx.load(source)
    onnx.save_model(
        model, path, save_as_external_data=True, location=name, size_threshold=0,
        convert_attribute=False,
    )  # fmt: skip
    return path


def scattered(graph: Graph, cluster: Cluster = CLUSTER, seed: int = 0) -> Plan:
    """A device drawn for each op, as far as colocation lets."""
    devices = np.random.default_rng(seed).integers(0, cluster.device_count, graph.op_count)
    first: dict[int, int] = {}
    for op, group in enumerate(graph.colocation.tolist()):
        if group >= 0:
            devices[op] = first.setdefault(group, int(devices[op]))
    return Plan.of(devices)


def request_for(
    model: Path, out: Path, plan: Plan | None = None, cluster: Cluster = CLUSTER, **options: Any
) -> ExportRequest:
    graph = graphs.load(model, options.get("dims"))
    plan = scattered(graph, cluster) if plan is None else plan
    return ExportRequest(model, graph, cluster, plan, out, **options)
