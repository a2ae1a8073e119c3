"""What is known of nested groups of ops: what moving one as a whole would pull, push and load.

Agents decide for groups of several sizes at once, from a tenth of the graph to single units; see
`placement.annealing.hierarchy`. Only what crosses a group's border counts, since a group moves as
one.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64
from scipy.sparse import csr_array

from envs.features.observation import Previous
from envs.features.trace_features import OP_TRACE_FEATURES as OPS
from envs.features.trace_features import PAIR_TRACE_FEATURES as PAIRS
from envs.features.trace_features import shares
from graphs.graph import Graph
from graphs.kinds import Storage
from placement.annealing.hierarchy import Hierarchy, build_hierarchy
from placement.problem import Problem
from simulator.event_engine.transfer_time import LinkPace, link_pace
from simulator.log_scale import log_count, log_share

GROUP_COLUMNS = (
    "level", "op_count", "seconds", "critical", "first", "last", "slack", "memory", "is_split",
)  # fmt: skip
GROUP_PAIR_COLUMNS = (
    "seconds", "pace", "is_here", "pull_seconds", "push_seconds", "communication_change",
    "inputs_here", "outputs_here", "load_there", "load_change", "busy_around", "memory_there",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Groups:
    """All groups of all levels of an instance; level `l` partitions its ops."""

    hierarchy: Hierarchy

    @property
    def labels(self) -> Int32[np.ndarray, "levels ops"]:
        """Group of each op at each level, numbered through all levels."""
        return self.hierarchy.labels

    @property
    def level_offsets(self) -> Int64[np.ndarray, " level_bounds"]:
        return self.hierarchy.level_offsets

    @property
    def group_count(self) -> int:
        return int(self.hierarchy.level_offsets[-1])

    @property
    def allowed(self) -> Bool[np.ndarray, "groups devices"]:
        return self.hierarchy.allowed


def make_groups(problem: Problem, seed: int, sizes: tuple[int, ...]) -> Groups:
    """Groups of about the given numbers per level, then single units."""
    return Groups(build_hierarchy(problem, seed, sizes))


@dataclass(frozen=True, eq=False)
class GroupFeatures:
    """Columns as named in `GROUP_COLUMNS` and `GROUP_PAIR_COLUMNS`, about -1 to 1."""

    groups: Float32[np.ndarray, "groups columns"]
    pairs: Float32[np.ndarray, "groups devices pair_columns"]


@dataclass(frozen=True, eq=False)
class _Ran:
    """What the features need of the plan that ran; zeros where none did."""

    span: float
    devices: Int32[np.ndarray, " ops"] | None
    start: Float32[np.ndarray, " ops"]
    end: Float32[np.ndarray, " ops"]
    slack: Float32[np.ndarray, " ops"]
    critical: Float32[np.ndarray, " ops"]
    busy_around: Float32[np.ndarray, "ops devices"]
    busy: Float64[np.ndarray, " devices"]
    peak_share: Float64[np.ndarray, " devices"]


def group_features(
    problem: Problem,
    groups: Groups,
    previous: Previous | None,
    op_trace: Float32[np.ndarray, "ops columns"],
    pair_trace: Float32[np.ndarray, "ops devices columns2"],
) -> GroupFeatures:
    """Features of all groups.

    `op_trace` and `pair_trace` are `TraceFeatures.ops` and `.pairs` of the same plan.
    """
    count = problem.cluster.device_count
    ran = _Ran(
        span=max(problem.bounds.seconds, 1e-12),
        devices=None,
        start=op_trace[:, OPS.index("start")],
        end=op_trace[:, OPS.index("end")],
        slack=op_trace[:, OPS.index("slack")],
        critical=op_trace[:, OPS.index("critical")],
        busy_around=pair_trace[:, :, PAIRS.index("busy_around")],
        busy=np.zeros(count),
        peak_share=np.zeros(count),
    )
    if previous is not None:
        span = max(previous.trace.makespan_seconds, 1e-15)
        ran = _Ran(
            span,
            previous.plan.devices,
            ran.start,
            ran.end,
            ran.slack,
            ran.critical,
            ran.busy_around,
            previous.trace.busy_seconds / span,
            previous.trace.peak_bytes / problem.cluster.memory_bytes,
        )
    seconds = np.where(np.isfinite(problem.seconds), problem.seconds, 0.0)
    sums = groups.hierarchy
    # One row per op and level: all sums over members are one product with this matrix.
    of_group = _membership(groups)
    sizes = np.diff(sums.member_offsets).astype(np.float64)
    total = of_group @ seconds
    mean = total.mean(axis=1)
    memory = problem.graph.resident_bytes + np.bincount(
        problem.graph.tensor_producers, problem.graph.tensor_bytes, problem.graph.op_count
    )
    held = of_group @ (memory[:, None] / problem.cluster.memory_bytes[None, :])
    here = np.zeros_like(total)
    if ran.devices is not None:
        here = of_group @ np.eye(count)[ran.devices] / sizes[:, None]
    own = total * here
    pull, push, inputs, outputs = _borders(problem, groups, ran)
    now = (here * (pull + push)).sum(axis=1, keepdims=True)
    load = ran.busy[None, :] + (total - own) / ran.span
    fastest = np.maximum(total.min(axis=1, keepdims=True), 1e-15)
    pairs = [
        log_share(total / ran.span),
        np.log10(np.maximum(total, 1e-15) / fastest),
        here,
        log_share(pull / ran.span),
        log_share(push / ran.span),
        np.clip((pull + push - now) / ran.span, -2.0, 2.0),
        inputs,
        outputs,
        np.minimum(load, 4.0),
        np.clip(load - ran.busy.max(initial=0.0), -2.0, 2.0),
        of_group @ ran.busy_around / sizes[:, None],
        np.minimum(ran.peak_share[None, :] + held * (1 - here), 4.0),
    ]
    work = seconds.mean(axis=1)
    level = np.repeat(np.arange(len(groups.labels)), np.diff(groups.level_offsets))
    weighted = np.maximum(mean, 1e-15)
    columns = [
        (len(groups.labels) - 1 - level) / 4,
        log_count(sizes),
        log_share(mean / ran.span),
        of_group @ (work * ran.critical) / weighted,
        of_group @ (work * ran.start) / weighted,
        of_group @ (work * ran.end) / weighted,
        of_group @ (work * ran.slack) / weighted,
        np.minimum(held.mean(axis=1), 4.0),
        1.0 - here.max(axis=1),
    ]
    return GroupFeatures(
        np.stack(columns, axis=1).astype(np.float32), np.stack(pairs, axis=2).astype(np.float32)
    )


def _membership(groups: Groups) -> csr_array:
    sums = groups.hierarchy
    return csr_array(
        (np.ones(len(sums.members)), sums.members, sums.member_offsets),
        shape=(groups.group_count, groups.labels.shape[1]),
    )


def _borders(
    problem: Problem, groups: Groups, ran: _Ran
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Seconds to pull and push what crosses each group's border, for each device that the group
    could be on; and where those producers and readers are, as shares."""
    graph, cluster = problem.graph, problem.cluster
    shape = (groups.group_count, cluster.device_count)
    pull, push = np.zeros(shape), np.zeros(shape)
    inputs, outputs = np.zeros(shape), np.zeros(shape)
    if ran.devices is None:
        return pull, push, inputs, outputs
    links = link_pace(cluster)
    producers = graph.tensor_producers[graph.edge_tensors]
    moved = graph.tensor_storage[graph.edge_tensors] != Storage.WEIGHT
    for labels in groups.labels:
        outside = np.flatnonzero(moved & (labels[producers] != labels[graph.consumers]))
        tensors, readers = graph.edge_tensors[outside], graph.consumers[outside]
        _add_pulls(labels, tensors, readers, graph, ran.devices, links, pull, inputs)
        _add_pushes(labels, tensors, readers, graph, ran.devices, links, push, outputs)
    return pull, push, shares(inputs), shares(outputs)


def _add_pulls(
    labels: Int32[np.ndarray, " ops"],
    tensors: Int32[np.ndarray, " crossing"],
    readers: Int32[np.ndarray, " crossing"],
    graph: Graph,
    devices: Int32[np.ndarray, " ops"],
    links: LinkPace,
    pull: Float64[np.ndarray, "groups devices"],
    inputs: Float64[np.ndarray, "groups devices"],
) -> None:
    """A tensor is pulled once, however many members read it."""
    keys = tensors.astype(np.int64) * len(pull) + labels[readers]
    _, first = np.unique(keys, return_index=True)
    tensor, group = tensors[first], labels[readers[first]]
    source = devices[graph.tensor_producers[tensor]]
    _tally(group, links.pull_seconds(graph.tensor_bytes[tensor], source), source, pull, inputs)


def _add_pushes(
    labels: Int32[np.ndarray, " ops"],
    tensors: Int32[np.ndarray, " crossing"],
    readers: Int32[np.ndarray, " crossing"],
    graph: Graph,
    devices: Int32[np.ndarray, " ops"],
    links: LinkPace,
    push: Float64[np.ndarray, "groups devices"],
    outputs: Float64[np.ndarray, "groups devices"],
) -> None:
    """A tensor is sent once to each device that reads it outside the group."""
    keys = tensors.astype(np.int64) * push.shape[1] + devices[readers]
    _, first = np.unique(keys, return_index=True)
    tensor, target = tensors[first], devices[readers[first]]
    group = labels[graph.tensor_producers[tensor]]
    _tally(group, links.push_seconds(graph.tensor_bytes[tensor], target), target, push, outputs)


def _tally(
    group: Int32[np.ndarray, " sent"],
    seconds: Float64[np.ndarray, "sent devices"],
    other_end: Int32[np.ndarray, " sent"],
    total: Float64[np.ndarray, "groups devices"],
    ends: Float64[np.ndarray, "groups devices"],
) -> None:
    """Add up the seconds of each group per device, and count where the other ends are."""
    for device in range(total.shape[1]):
        total[:, device] += np.bincount(group, seconds[:, device], len(total))
        ends[:, device] += np.bincount(group, other_end == device, len(total))
