"""What is known of a graph on a cluster before any plan has run.

Every column is a share or a logarithm of one, so that models of microseconds and of minutes look
alike. Times are shares of the lower bound of the step time, bytes shares of a device's memory.
Nothing is normalised by statistics of other graphs.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32

from envs.instance import Instance
from graphs.graph import Graph
from graphs.kinds import FREE_KINDS, Phase, Storage
from placement.priorities import upward_ranks
from placement.problem import Problem
from simulator.fusion import fusion_classes
from simulator.log_scale import log_count, log_share

OP_FEATURES = (
    "seconds", "seconds_fastest", "flops", "bytes_moved", "output_seconds", "input_seconds",
    "resident_share", "output_share", "workspace_share", "in_degree", "out_degree", "unit_size",
    "is_free", "is_forward", "is_backward", "is_update",
    "is_pointwise", "is_reduction", "is_contraction", "is_never_fused",
    "position", "position_sin", "position_cos", "rank_up", "rank_down", "rank_up_local",
    "rank_down_local", "critical", "depth",
)  # fmt: skip
EDGE_FEATURES = ("seconds", "bytes_share", "is_control", "span")
DEVICE_FEATURES = (
    "pace", "memory_share", "launch", "legal_share", "out_seconds", "in_seconds", "slot",
    "slot_sin", "slot_cos", "slot_sin_2", "slot_cos_2",
)  # fmt: skip
LINK_FEATURES = ("seconds", "latency", "sharing")
GRAPH_FEATURES = ("op_count", "device_count", "communication", "memory_share", "parallelism")
PAIR_FEATURES = ("pace", "seconds", "legal")

_FREE = np.array([int(kind) for kind in FREE_KINDS])


@dataclass(frozen=True, eq=False)
class StaticFeatures:
    """Arrays as in `Observation`, without what a trace adds."""

    kinds: Int32[np.ndarray, " ops"]
    ops: Float32[np.ndarray, "ops columns"]
    edge_ops: Int32[np.ndarray, "2 edges"]
    edges: Float32[np.ndarray, "edges columns2"]
    legal: Bool[np.ndarray, "ops devices"]
    pairs: Float32[np.ndarray, "ops devices columns3"]
    devices: Float32[np.ndarray, "devices columns4"]
    links: Float32[np.ndarray, "devices devices columns5"]
    graph: Float32[np.ndarray, " columns6"]


def static_features(instance: Instance) -> StaticFeatures:
    """All static columns of an instance; about a microsecond per op, edge and device."""
    problem, graph = instance.problem, instance.problem.graph
    bound = max(problem.bounds.seconds, 1e-12)
    seconds = _finite(problem.seconds)
    tensor_seconds = _tensor_seconds(problem)
    producers = graph.tensor_producers[graph.edge_tensors]
    legal = problem.unit_allowed[problem.unit_of]
    return StaticFeatures(
        kinds=graph.kinds.astype(np.int32),
        ops=_op_columns(problem, seconds, tensor_seconds, bound),
        edge_ops=np.stack([producers, graph.consumers]).astype(np.int32),
        edges=_edge_columns(problem, tensor_seconds, producers, bound),
        legal=legal,
        pairs=_pair_columns(seconds, legal, bound),
        devices=_device_columns(instance, seconds, legal, bound),
        links=_link_columns(problem, bound),
        graph=_graph_columns(problem, seconds, tensor_seconds, bound),
    )


def _finite(seconds: Float64[np.ndarray, "ops devices"]) -> Float64[np.ndarray, "ops devices"]:
    """Seconds with the op's slowest device where it cannot run."""
    finite = np.isfinite(seconds)
    slowest = np.where(finite, seconds, 0.0).max(axis=1, keepdims=True)
    return np.where(finite, seconds, slowest)


def _tensor_seconds(problem: Problem) -> Float64[np.ndarray, " tensors"]:
    """Mean seconds to send each tensor over a link; nothing for what is never sent."""
    graph, count = problem.graph, problem.cluster.device_count
    if count == 1:
        return np.zeros(graph.tensor_count)
    links = problem.cluster.link_arrays
    off = ~np.eye(count, dtype=bool)
    pace = float(np.mean(1 / links.bytes_per_second[off]))
    latency = float(np.mean(links.latency_seconds[off]))
    sent = graph.tensor_storage != Storage.WEIGHT
    return np.where(sent, graph.tensor_bytes * pace + latency, 0.0)


def _op_columns(
    problem: Problem,
    seconds: Float64[np.ndarray, "ops devices"],
    tensor_seconds: Float64[np.ndarray, " tensors"],
    bound: float,
) -> Float32[np.ndarray, "ops columns"]:
    graph, ops = problem.graph, problem.graph.op_count
    producers = graph.tensor_producers[graph.edge_tensors]
    memory = float(problem.cluster.memory_bytes.min())
    total_flops = max(float(graph.flops.sum()), 1.0)
    moved = graph.bytes_read + graph.bytes_written
    sizes = np.bincount(problem.unit_of)[problem.unit_of]
    classes = np.eye(4)[fusion_classes(graph)]
    position = np.arange(ops) / max(ops - 1, 1)
    up, up_local = upward_ranks(problem), upward_ranks(problem, communication=0.0)
    mean = seconds.mean(axis=1)
    down = _downward(graph, mean, tensor_seconds)
    down_local = _downward(graph, mean, np.zeros(graph.tensor_count))
    longest = max(float((up + down).max()), 1e-12)
    longest_local = max(float((up_local + down_local).max()), 1e-12)
    depth = _downward(graph, np.ones(ops), np.zeros(graph.tensor_count))
    columns = [
        log_share(mean / bound),
        log_share(seconds.min(axis=1) / bound),
        log_share(graph.flops / total_flops),
        log_share(moved / max(float(moved.sum()), 1.0)),
        log_share(np.bincount(graph.tensor_producers, tensor_seconds, ops) / bound),
        log_share(np.bincount(graph.consumers, tensor_seconds[graph.edge_tensors], ops) / bound),
        log_share(graph.resident_bytes / memory),
        log_share(np.bincount(graph.tensor_producers, graph.tensor_bytes, ops) / memory),
        log_share(graph.workspace_bytes / memory),
        log_count(np.bincount(graph.consumers, minlength=ops)),
        log_count(np.bincount(producers, minlength=ops)),
        log_count(sizes - 1),
        np.isin(graph.kinds, _FREE),
        *(graph.phases == phase for phase in Phase),
        *classes.T,
        position,
        np.sin(np.pi * position),
        np.cos(np.pi * position),
        up / longest,
        down / longest,
        up_local / longest_local,
        down_local / longest_local,
        (up_local + down_local) / longest_local,
        depth / max(float(depth.max()), 1.0),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def _downward(
    graph: Graph, own: Float64[np.ndarray, " ops"], tensor_seconds: Float64[np.ndarray, " tensors"]
) -> Float64[np.ndarray, " ops"]:
    """Longest chain from the beginning of the step to each op's start."""
    from envs.features.chains import longest_before

    ranks = np.zeros(graph.op_count)
    longest_before(
        own,
        tensor_seconds,
        np.array(graph.output_offsets),
        np.array(graph.consumer_offsets),
        np.array(graph.consumers),
        ranks,
    )
    return ranks


def _edge_columns(
    problem: Problem,
    tensor_seconds: Float64[np.ndarray, " tensors"],
    producers: Int32[np.ndarray, " edges"],
    bound: float,
) -> Float32[np.ndarray, "edges columns"]:
    graph = problem.graph
    of_edge = graph.edge_tensors
    memory = float(problem.cluster.memory_bytes.min())
    columns = [
        log_share(tensor_seconds[of_edge] / bound),
        log_share(graph.tensor_bytes[of_edge] / memory),
        graph.tensor_storage[of_edge] == Storage.CONTROL,
        log_count(graph.consumers - producers),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def _pair_columns(
    seconds: Float64[np.ndarray, "ops devices"],
    legal: Bool[np.ndarray, "ops devices"],
    bound: float,
) -> Float32[np.ndarray, "ops devices columns"]:
    fastest = np.maximum(seconds.min(axis=1, keepdims=True), 1e-15)
    pace = np.log10(np.maximum(seconds, 1e-15) / fastest)
    return np.stack([pace, log_share(seconds / bound), legal], axis=2).astype(np.float32)


def _device_columns(
    instance: Instance,
    seconds: Float64[np.ndarray, "ops devices"],
    legal: Bool[np.ndarray, "ops devices"],
    bound: float,
) -> Float32[np.ndarray, "devices columns"]:
    cluster, graph = instance.problem.cluster, instance.problem.graph
    count = cluster.device_count
    total = np.maximum(seconds.sum(axis=0), 1e-12)
    needed = max(float(graph.resident_bytes.sum() + graph.tensor_bytes.sum()), 1.0)
    launch = np.array([device.launch_seconds for device in cluster.devices])
    out_seconds, in_seconds = np.zeros(count), np.zeros(count)
    if count > 1:
        pace = graph.tensor_bytes.sum() / cluster.link_arrays.bytes_per_second
        np.fill_diagonal(pace, 0.0)
        out_seconds, in_seconds = pace.sum(axis=1) / (count - 1), pace.sum(axis=0) / (count - 1)
    slot = instance.slots / count
    columns = [
        np.log10(total / total.min()),
        log_share(cluster.memory_bytes / needed),
        log_share(launch * graph.op_count / bound),
        legal.mean(axis=0),
        log_share(out_seconds / bound),
        log_share(in_seconds / bound),
        slot,
        np.sin(np.pi * slot),
        np.cos(np.pi * slot),
        np.sin(2 * np.pi * slot),
        np.cos(2 * np.pi * slot),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def _link_columns(problem: Problem, bound: float) -> Float32[np.ndarray, "devices devices columns"]:
    cluster = problem.cluster
    links, count = cluster.link_arrays, cluster.device_count
    users = np.bincount(links.channels[links.channels >= 0], minlength=1)
    sharing = np.where(links.channels >= 0, users[links.channels], 0).max(axis=2, initial=0)
    columns = np.stack(
        [
            log_share(problem.graph.tensor_bytes.sum() / links.bytes_per_second / bound),
            log_share(links.latency_seconds * problem.graph.op_count / bound),
            log_count(sharing),
        ],
        axis=2,
    )
    columns[np.arange(count), np.arange(count)] = 0.0
    return columns.astype(np.float32)


def _graph_columns(
    problem: Problem,
    seconds: Float64[np.ndarray, "ops devices"],
    tensor_seconds: Float64[np.ndarray, " tensors"],
    bound: float,
) -> Float32[np.ndarray, " columns"]:
    graph, cluster = problem.graph, problem.cluster
    work = max(float(seconds.min(axis=1).sum()), 1e-12)
    needed = float(graph.resident_bytes.sum() + graph.tensor_bytes.sum())
    return np.array(
        [
            np.log10(max(graph.op_count, 1)) / 5,
            np.log2(cluster.device_count) / 3,
            max(np.log10(max(float(tensor_seconds.sum()), 1e-12) / work) / 3, -1.0),
            np.log10(max(needed, 1.0) / float(cluster.memory_bytes.sum())) / 3,
            np.log10(work / bound),
        ],
        np.float32,
    )
