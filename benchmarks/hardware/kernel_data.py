"""Reads what `measure_kernels.py` wrote: kernels with their features, times and origins."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

import graphs
from graphs.graph import Graph
from graphs.kinds import DType, OpKind
from simulator.cluster_file import load_cluster
from simulator.clusters.cluster import Cluster
from simulator.clusters.kernel_times import KernelTimes, signatures
from simulator.costs.calibrated_costs import CalibratedCosts
from simulator.costs.cost_model import RooflineCosts
from simulator.costs.kernel_features import (
    KernelBatch,
    chosen,
    join_batches,
    kernel_batch,
    kernel_totals,
)

#: Ops that onnxruntime runs in another way from that opset on, which a graph does not tell.
_CHANGED = {"AveragePool": 19}


@dataclass(frozen=True, eq=False)
class KernelData:
    """Measured kernels, each once."""

    batch: KernelBatch
    seconds: np.ndarray
    """Median over the rounds, the geometric mean of two."""
    rounds: np.ndarray
    """Seconds per kernel and round; a round that lacks a kernel has nan."""
    roofline: np.ndarray
    families: np.ndarray
    kinds: np.ndarray
    """Kind of the op with the most work, as text."""
    holds: tuple[frozenset[str], ...]
    """Kinds of all ops of each kernel."""
    fused: np.ndarray
    models: np.ndarray
    ops: tuple[list[int], ...]
    """Of each kernel in its model's graph."""
    types: np.ndarray
    """Types of the ops, for people."""
    cluster: Cluster
    """The machine's roofline."""
    about: Mapping[str, str]

    def part(self, rows: np.ndarray) -> "KernelData":
        """Some of the kernels."""
        return KernelData(
            chosen(self.batch, rows),
            self.seconds[rows],
            self.rounds[rows],
            self.roofline[rows],
            self.families[rows],
            self.kinds[rows],
            tuple(self.holds[row] for row in rows.tolist()),
            self.fused[rows],
            self.models[rows],
            tuple(self.ops[row] for row in rows.tolist()),
            self.types[rows],
            self.cluster,
            self.about,
        )


def roofline_seconds(graph: Graph, cluster: Cluster, kernels: list[list[int]]) -> np.ndarray:
    """Of each kernel as the simulator counts it: flops add up, bytes count where they cross the
    kernel's border, one launch."""
    device = cluster.devices[0]
    alone = RooflineCosts().seconds(graph, cluster)[:, 0]
    peak = device.peak_flops_per_second(DType.FLOAT32)
    flops, read, written = kernel_totals(graph, kernels).T[:3]
    together = np.maximum(flops / peak, (read + written) / device.memory_bytes_per_second)
    return np.array(
        [
            alone[kernel[0]] if len(kernel) == 1 else seconds + device.launch_seconds
            for kernel, seconds in zip(kernels, together, strict=True)
        ]
    )


def read_kernels(folder: Path) -> KernelData:
    """All kernels of the folder."""
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    cluster = load_cluster(str(folder / "cluster.yaml"))
    times: list[dict[str, float]] = []
    first: dict[str, dict[str, tuple[list[int], bool]]] = {}
    family_of = {}
    for turn in range(100):
        parts = sorted((folder / "kernels").glob(f"*.{turn}.npz"))
        if not parts:
            break
        times.append({})
        for part in parts:
            data, name = np.load(part), part.name.removesuffix(f".{turn}.npz")
            family_of[name] = str(data["family"])
            times[-1].update(zip(data["signatures"].tolist(), data["seconds"], strict=True))
            if turn == 0:
                fused = data["fused"].tolist()
                ops = [[int(op) for op in text.split(",")] for text in data["ops"].tolist()]
                keys = data["signatures"].tolist()
                first[name] = dict(zip(keys, zip(ops, fused, strict=True), strict=True))
    batches, columns = [], []
    for name, kernels in first.items():
        if not kernels:
            continue
        path = folder / "models" / f"{name}.onnx"
        graph = graphs.load(path)
        changed, flat = _ambiguous_ops(path)
        kernels = {
            key: (ops, fused)
            for key, (ops, fused) in kernels.items()
            if not any(graph.op_names[op] in changed for op in ops)
            and not (fused and any(graph.op_names[op] in flat for op in ops))
        }
        lists = [ops for ops, _ in kernels.values()]
        batches.append(kernel_batch(graph, lists))
        roofline = roofline_seconds(graph, cluster, lists)
        for (key, (_, fused)), ops, base in zip(kernels.items(), lists, roofline, strict=True):
            work = [max(graph.flops[op], graph.bytes_read[op] * 0.1) for op in ops]
            heavy = ops[int(np.argmax(work))]
            measured = [turn.get(key, np.nan) for turn in times]
            types = ",".join(graph.op_types[op] for op in ops)
            columns.append(
                (
                    measured,
                    base,
                    family_of[name],
                    OpKind(graph.kinds[heavy]).name.lower(),
                    frozenset(OpKind(graph.kinds[op]).name.lower() for op in ops),
                    fused,
                    name,
                    ops,
                    types,
                )
            )
    rounds, base, families, kinds, holds, fused_, models, kernel_ops, types = zip(
        *columns, strict=True
    )
    measured = np.array(rounds)
    return KernelData(
        join_batches(batches),
        np.exp(np.nanmedian(np.log(measured), axis=1)),
        measured,
        np.array(base),
        np.array(families),
        np.array(kinds),
        holds,
        np.array(fused_),
        np.array(models),
        kernel_ops,
        np.array(types),
        cluster,
        about,
    )


def _ambiguous_ops(path: Path) -> tuple[set[str], set[str]]:
    """Ops that run otherwise than in most models although graphs show them as equal: by their
    version; and, in groups, normalisations of two dimensions, into which nothing is fused."""
    model = onnx.load(path, load_external_data=False)
    opset = max(item.version for item in model.opset_import if item.domain in ("", "ai.onnx"))
    changed = {kind for kind, since in _CHANGED.items() if opset >= since}
    inferred = onnx.shape_inference.infer_shapes(model).graph
    rank = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*inferred.value_info, *inferred.input)
    }
    normalisations = [n for n in model.graph.node if n.op_type == "LayerNormalization"]
    return (
        {node.name for node in model.graph.node if node.op_type in changed},
        {node.name for node in normalisations if rank.get(node.input[0]) == 2},
    )


def table_seconds(
    data: KernelData, seen: np.ndarray, asked: np.ndarray, folder: Path
) -> np.ndarray:
    """What a profiled table says that holds the single ops among `seen`; groups are sums."""
    times = KernelTimes("here", data.cluster.devices[0].kind)
    samples = {}
    for model, rows in _by_model(data, seen):
        keys = signatures(graphs.load(folder / "models" / f"{model}.onnx"))
        alone = [row for row in rows if len(data.ops[row]) == 1]
        samples.update({keys[data.ops[row][0]]: float(data.seconds[row]) for row in alone})
    costs = CalibratedCosts(replace(times, samples=samples))
    place = {row: at for at, row in enumerate(asked.tolist())}
    result = np.zeros(len(asked))
    for model, rows in _by_model(data, asked):
        graph = graphs.load(folder / "models" / f"{model}.onnx")
        seconds = costs.seconds(graph, data.cluster)[:, 0]
        for row in rows:
            result[place[row]] = seconds[data.ops[row]].sum()
    return result


def _by_model(data: KernelData, rows: np.ndarray) -> list[tuple[str, list[int]]]:
    groups: dict[str, list[int]] = {}
    for row in rows.tolist():
        groups.setdefault(str(data.models[row]), []).append(row)
    return list(groups.items())
