"""An imported ONNX model against onnxruntime: every tensor's shape and bytes, and its splits."""

import runpy
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from graphs.graph import Graph
from graphs.importers.onnx_models.file import read_onnx
from graphs.importers.onnx_models.steps import onnx_steps
from placement.export import ExportRequest, get_exporter
from placement.runtime.ort.onnx_source import load_runnable
from simulator.clusters.cluster import Cluster
from simulator.plan import Plan


@dataclass(frozen=True)
class CheckedShapes:
    """Tensors of the import beside those that a run made."""

    tensors: int
    wrong: tuple[str, ...]
    imported_bytes: int
    runtime_bytes: int


def check_shapes(path: Path, graph: Graph, dims: Mapping[str, int]) -> CheckedShapes:
    """Run the model with every tensor as an output, in the sizes that were imported."""
    model = read_onnx(path)
    steps = onnx_steps(model, dims, str(path), path.parent)
    inputs = feeds_of(path, graph, dims)
    made = [name for node in model.graph.node for name in node.output if name]
    known = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in made if n not in known)
    with tempfile.NamedTemporaryFile(suffix=".onnx", dir=path.parent) as file:
        file.write(model.SerializeToString())  # beside the model, where its weights are
        file.flush()
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = ort.InferenceSession(file.name, options, providers=["CPUExecutionProvider"])
        names = [item.name for item in session.get_outputs()]
        values = dict(zip(names, session.run(None, inputs), strict=True))
    wrong, imported, found, tensors = [], 0, 0, 0
    for name, value in values.items():
        if name not in steps.values or not isinstance(value, np.ndarray):
            continue
        spec = steps.values[name].spec
        tensors += 1
        imported, found = imported + spec.bytes, found + value.nbytes
        if tuple(spec.shape) != value.shape:
            wrong.append(f"{name} {list(spec.shape)} for {list(value.shape)}")
    return CheckedShapes(tensors, tuple(wrong), imported, found)


def feeds_of(path: Path, graph: Graph, dims: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Inputs from MODEL.onnx.npz where it is there, else of the sizes that were imported, drawn
    from a seed."""
    stored = path.with_name(f"{path.name}.npz")
    if stored.exists():
        return dict(np.load(stored))
    runnable = load_runnable(path, graph, dims, seed=0)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return {item.name: runnable.inputs[item.name] for item in session.get_inputs()}


def run_split(
    path: Path, graph: Graph, cluster: Cluster, plan: Plan, dims: Mapping[str, int], out: Path
) -> float:
    """Export a split, run it on this machine's CPU, and compare it with the model itself.

    Returns:
        the largest difference of an output, over the largest value where that is above one.
    """
    targets = dict.fromkeys(cluster.device_names, "cpu")
    request = ExportRequest(
        path, graph, cluster, plan, out, dims=dims, targets=targets, copy_weights=True,
        max_parts=10_000,
    )  # fmt: skip
    done = get_exporter("onnx-split")(request)
    script = runpy.run_path(str(done.files[1]))
    feeds = feeds_of(path, graph, dims)
    outputs: Mapping[str, Any] = script["SplitModel"]().run(feeds)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_outputs()]
    wanted = session.run(names, feeds)
    differ = script["largest_difference"]
    return max(float(differ(outputs[n], v)) for n, v in zip(names, wanted, strict=True))
