"""Splits by named devices, and their runner scripts as modules."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

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


class OtherDevice:
    """A session that says that it runs by the provider that it was asked for, on the CPU."""

    asked: ClassVar[list[list[tuple[str, dict[str, str]]]]] = []
    """Providers with their options, of each session."""
    bound: ClassVar[list[tuple[str, str, int]]] = []
    """Output, kind of memory, number of the device."""

    _create = ort.InferenceSession

    def __init__(
        self, path: str, options: ort.SessionOptions, providers: list[tuple[str, dict[str, str]]]
    ) -> None:
        self._names = [name for name, _ in providers]
        self._session = OtherDevice._create(path, options, providers=["CPUExecutionProvider"])
        self.asked.append(providers)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def get_providers(self) -> list[str]:
        return self._names

    def io_binding(self) -> "_NotedBinding":
        return _NotedBinding(self._session.io_binding())

    def run_with_iobinding(self, binding: "_NotedBinding") -> None:
        self._session.run_with_iobinding(binding.inner)


class _NotedBinding:
    def __init__(self, inner: ort.IOBinding) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def bind_output(self, name: str, memory: str, number: int) -> None:
        OtherDevice.bound.append((name, memory, number))
        self.inner.bind_output(name)
