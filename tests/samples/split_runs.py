"""Splits by named devices, and their runner scripts as modules."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import numpy as np
import onnx
import onnxruntime as ort
from exported_models import CLUSTER
from onnx import helper

import graphs
from placement.export import ExportRequest
from placement.export.onnx_split import export_onnx_split
from simulator.clusters.cluster import Cluster
from simulator.plan import Plan


def save_any(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Sequence[onnx.TensorProto] = (),
    opset: int = 21,
) -> Path:
    """A model of whatever types, unchecked: the checker does not know all that runtimes do."""
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def split_of(
    model: Path,
    out: Path,
    devices: Mapping[str, int],
    targets: Mapping[str, str] | None = None,
    cluster: Cluster = CLUSTER,
) -> Path:
    """Export with the named ops on their devices, the rest on the first; the runner's path."""
    graph = graphs.load(model, allow_unknown=True)
    plan = Plan.of(np.array([devices.get(name, 0) for name in graph.op_names]))
    request = ExportRequest(model, graph, cluster, plan, out, targets=targets or {})
    return export_onnx_split(request).files[1]


def runner_module(path: Path) -> ModuleType:
    """The runner script, imported."""
    spec = importlib.util.spec_from_file_location(path.stem.replace(".", "_"), path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class OtherDevice(ort.InferenceSession):
    """A session that says that it runs by the provider that it was asked for, on the CPU."""

    asked: ClassVar[list[list[tuple[str, dict[str, str]]]]] = []
    bound: ClassVar[list[tuple[str, str, int]]] = []

    def __init__(self, path: str, options: ort.SessionOptions, providers: list) -> None:
        self.asked.append([item if isinstance(item, tuple) else (item, {}) for item in providers])
        super().__init__(path, options, providers=["CPUExecutionProvider"])
        self._named = [name for name, _ in self.asked[-1]]

    def get_providers(self) -> list[str]:
        return self._named

    def io_binding(self) -> ort.IOBinding:
        return _NotedBinding(self)


class _NotedBinding(ort.IOBinding):
    def bind_output(self, name: str, device_type: str = "cpu", device_id: int = 0) -> None:
        OtherDevice.bound.append((name, device_type, device_id))
        super().bind_output(name)
