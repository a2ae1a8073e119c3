"""What a trace tells: when ops ran, what they waited for, what crossed, what it filled.

Times are shares of the trace's makespan. Of a fused plan each op shows its kernel's times.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32

from graphs.graph import Graph
from graphs.kinds import Storage
from placement.problem import Problem
from simulator.event_engine.transfer_time import link_pace
from simulator.fusion import kernel_roots
from simulator.kernel_checks import check_record
from simulator.log_scale import log_count, log_share
from simulator.plan import Plan
from simulator.traces.slack import CRITICAL_SHARE, RanOps, slack_backward
from simulator.traces.trace import Trace

OP_TRACE_FEATURES = (
    "ran", "start", "end", "busy", "queued", "transfer_wait", "slack", "slack_log", "critical",
    "held_by_queue", "held_by_transfer", "held_by_input", "sent_seconds", "received_seconds",
    "sent_copies", "memory_seconds", "priority", "is_fused",
)  # fmt: skip
EDGE_TRACE_FEATURES = ("crosses", "transfer", "link_wait", "slack", "is_cause")
DEVICE_TRACE_FEATURES = (
    "busy", "peak_share", "resident_share", "op_share", "sent_seconds", "received_seconds",
    "critical_busy",
)  # fmt: skip
LINK_TRACE_FEATURES = ("busy", "waited")
GRAPH_TRACE_FEATURES = ("ran", "above_bound", "fits", "mean_busy", "critical_sending")
PAIR_TRACE_FEATURES = (
    "is_previous", "pull_seconds", "push_seconds", "inputs_here", "outputs_here", "arrival",
    "busy_around",
)  # fmt: skip

#: How far around an op its surroundings reach, as a share of the makespan: less far than around the
#: groups of `placement.annealing.move_features`, which are wider themselves.
_WINDOW = 0.02


@dataclass(frozen=True, eq=False)
class TraceFeatures:
    """The columns that a trace adds to `StaticFeatures`; all zero before a plan has run."""

    ops: Float32[np.ndarray, "ops columns"]
    edges: Float32[np.ndarray, "edges columns2"]
    devices: Float32[np.ndarray, "devices columns3"]
    links: Float32[np.ndarray, "devices devices columns4"]
    graph: Float32[np.ndarray, " columns5"]
    pairs: Float32[np.ndarray, "ops devices columns6"]


@dataclass(frozen=True, eq=False)
class _Times:
    """The trace in terms of the original graph's ops and edges, in seconds."""

    makespan: float
    devices: Int32[np.ndarray, " ops"]
    start: Float64[np.ndarray, " ops"]
    end: Float64[np.ndarray, " ops"]
    ready: Float64[np.ndarray, " ops"]
    slack: Float64[np.ndarray, " ops"]
    queued: Float64[np.ndarray, " ops"]
    transfer_wait: Float64[np.ndarray, " ops"]
    arrival: Float64[np.ndarray, " edges"]
    """When the edge's tensor was on the consumer's device."""
    link_wait: Float64[np.ndarray, " edges"]
    is_cause: np.ndarray
    """bool per edge: its tensor arrived last and held the consumer up."""


def no_trace(ops: int, edges: int, devices: int) -> TraceFeatures:
    """Zeros for an instance of that size."""
    return TraceFeatures(
        np.zeros((ops, len(OP_TRACE_FEATURES)), np.float32),
        np.zeros((edges, len(EDGE_TRACE_FEATURES)), np.float32),
        np.zeros((devices, len(DEVICE_TRACE_FEATURES)), np.float32),
        np.zeros((devices, devices, len(LINK_TRACE_FEATURES)), np.float32),
        np.zeros(len(GRAPH_TRACE_FEATURES), np.float32),
        np.zeros((ops, devices, len(PAIR_TRACE_FEATURES)), np.float32),
    )


def trace_features(problem: Problem, plan: Plan, trace: Trace) -> TraceFeatures:
    """Columns for the plan that ran."""
    times = _times(problem, plan, trace)
    return TraceFeatures(
        ops=_op_columns(problem, plan, trace, times),
        edges=_edge_columns(times, problem),
        devices=_device_columns(problem, trace, times),
        links=_link_columns(trace),
        graph=_graph_columns(problem, trace, times),
        pairs=_pair_columns(problem, times),
    )


def _times(problem: Problem, plan: Plan, trace: Trace) -> _Times:
    graph, ran = problem.graph, trace.graph
    if plan.is_fused:
        roots = kernel_roots(graph, plan.fusion)
        kernel = np.searchsorted(np.unique(roots), roots)
    else:
        kernel = np.arange(graph.op_count)
    producers = graph.tensor_producers[graph.edge_tensors]
    arrival, link_wait, local = _arrivals(problem, plan, trace, kernel)
    slack = np.zeros(ran.op_count)
    ran_ops = RanOps(
        order=np.lexsort((np.arange(ran.op_count), trace.end, trace.start)).astype(np.int32),
        start=np.array(trace.start),
        end=np.array(trace.end),
        previous=np.array(trace.previous),
        input_offsets=ran.input_offsets.astype(np.int32),
        input_edges=ran.input_edges.astype(np.int32),
        edge_producers=ran.tensor_producers[ran.edge_tensors],
        edge_arrival=_ran_arrivals(trace),
        passed=np.zeros(ran.op_count, bool),
    )
    check_record(ran_ops, ops=ran.op_count, edges=ran.edge_count)
    slack_backward(ran_ops, float(trace.makespan_seconds), slack)
    transfer_wait = np.zeros(ran.op_count)
    sent = np.flatnonzero(trace.cause_transfer >= 0)
    cause = trace.cause_transfer[sent]
    transfer_wait[sent] = trace.transfer_arrival[cause] - trace.transfer_request[cause]
    is_cause = (trace.cause_op[kernel[graph.consumers]] == kernel[producers]) & (
        kernel[producers] != kernel[graph.consumers]
    )
    return _Times(
        makespan=max(trace.makespan_seconds, 1e-15),
        devices=plan.devices,
        start=trace.start[kernel],
        end=trace.end[kernel],
        ready=trace.ready[kernel],
        slack=np.maximum(slack, 0.0)[kernel],
        queued=np.maximum(trace.start - trace.ready, 0.0)[kernel],
        transfer_wait=transfer_wait[kernel],
        arrival=np.where(local, trace.end[kernel[producers]], arrival),
        link_wait=link_wait,
        is_cause=is_cause,
    )


def _arrivals(
    problem: Problem, plan: Plan, trace: Trace, kernel: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per edge of the original graph: arrival, wait for the link, and whether it was local."""
    graph, count = problem.graph, problem.cluster.device_count
    producers = graph.tensor_producers[graph.edge_tensors]
    # A kernel's tensors keep their producers: match transfers by kernel, target and size.
    tensors = trace.transfer_tensors
    sender = trace.graph.tensor_producers[tensors].astype(np.int64)
    keys = sender * count + trace.transfer_targets
    order = np.lexsort((trace.transfer_arrival, keys))
    wanted = kernel[producers].astype(np.int64) * count + plan.devices[graph.consumers]
    arrival, wait = np.zeros(graph.edge_count), np.zeros(graph.edge_count)
    local = plan.devices[producers] == plan.devices[graph.consumers]
    if not plan.is_fused:
        keys = tensors.astype(np.int64) * count + trace.transfer_targets
        order = np.argsort(keys, kind="stable")
        wanted = graph.edge_tensors.astype(np.int64) * count + plan.devices[graph.consumers]
    if len(keys):
        at = np.minimum(np.searchsorted(keys[order], wanted, side="right") - 1, len(keys) - 1)
        is_sent = (at >= 0) & (keys[order][at] == wanted) & ~local
        chosen = order[at[is_sent]]
        arrival[is_sent] = trace.transfer_arrival[chosen]
        wait[is_sent] = trace.transfer_start[chosen] - trace.transfer_request[chosen]
        local = ~is_sent
    else:
        local = np.ones(graph.edge_count, bool)
    return arrival, wait, local


def _ran_arrivals(trace: Trace) -> Float64[np.ndarray, " edges"]:
    """Per edge of the graph that ran: when its tensor was on the consumer's device."""
    ran, count = trace.graph, trace.cluster.device_count
    arrival = trace.end[ran.tensor_producers[ran.edge_tensors]].copy()
    keys = trace.transfer_tensors.astype(np.int64) * count + trace.transfer_targets
    if len(keys):
        order = np.argsort(keys, kind="stable")
        wanted = ran.edge_tensors.astype(np.int64) * count + trace.devices[ran.consumers]
        at = np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)
        is_sent = keys[order][at] == wanted
        arrival[is_sent] = trace.transfer_arrival[order[at[is_sent]]]
    return arrival


def _op_columns(
    problem: Problem, plan: Plan, trace: Trace, times: _Times
) -> Float32[np.ndarray, "ops columns"]:
    graph, span = problem.graph, times.makespan
    ops = graph.op_count
    producers = graph.tensor_producers[graph.edge_tensors]
    crosses = _crosses(graph, times.devices)
    taken = np.where(crosses, times.arrival - times.end[producers], 0.0)
    critical = times.slack <= CRITICAL_SHARE * span
    queue = times.queued > CRITICAL_SHARE * span
    transfer = ~queue & (times.transfer_wait > 0)
    columns = [
        np.ones(ops),
        times.start / span,
        times.end / span,
        log_share((times.end - times.start) / span),
        log_share(times.queued / span),
        log_share(times.transfer_wait / span),
        times.slack / span,
        log_share(times.slack / span),
        critical,
        queue,
        transfer,
        ~queue & ~transfer & (times.ready > 0),
        log_share(np.bincount(producers, taken, ops) / span),
        log_share(np.bincount(graph.consumers, taken, ops) / span),
        log_count(np.bincount(producers, crosses, ops)),
        log_share(_memory_seconds(problem, plan, trace) / span),
        1.0 - plan.ranks / max(ops - 1, 1),
        plan.fusion >= 0,
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def _memory_seconds(problem: Problem, plan: Plan, trace: Trace) -> Float64[np.ndarray, " ops"]:
    """Share of its device's memory that an op's outputs hold, times how long they hold it."""
    held = trace.buffer_bytes * np.maximum(trace.buffer_free - trace.buffer_alloc, 0.0)
    held = held / problem.cluster.memory_bytes[trace.buffer_devices]
    kernel = trace.graph.tensor_producers[trace.buffer_tensors]
    per_kernel = np.bincount(kernel, held, trace.graph.op_count).astype(np.float64)
    if not plan.is_fused:
        return per_kernel
    roots = kernel_roots(problem.graph, plan.fusion)
    result = np.zeros(problem.graph.op_count)
    result[np.unique(roots)] = per_kernel
    return result


def _edge_columns(times: _Times, problem: Problem) -> Float32[np.ndarray, "edges columns"]:
    graph, span = problem.graph, times.makespan
    producers = graph.tensor_producers[graph.edge_tensors]
    crosses = _crosses(graph, times.devices)
    slack = times.slack[graph.consumers] + times.start[graph.consumers] - times.arrival
    columns = [
        crosses,
        log_share(np.where(crosses, times.arrival - times.end[producers], 0.0) / span),
        log_share(times.link_wait / span),
        log_share(np.maximum(slack, 0.0) / span),
        times.is_cause,
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def _crosses(graph: Graph, devices: Int32[np.ndarray, " ops"]) -> Bool[np.ndarray, " edges"]:
    """Edges whose tensor is sent; weights never are."""
    producers = graph.tensor_producers[graph.edge_tensors]
    sent = graph.tensor_storage[graph.edge_tensors] != Storage.WEIGHT
    return sent & (devices[producers] != devices[graph.consumers])


def _device_columns(
    problem: Problem, trace: Trace, times: _Times
) -> Float32[np.ndarray, "devices columns"]:
    cluster, span = problem.cluster, times.makespan
    count = cluster.device_count
    sending = trace.transfer_arrival - trace.transfer_start
    critical = times.slack <= CRITICAL_SHARE * span
    own = problem.simulator.seconds[np.arange(problem.graph.op_count), times.devices]
    columns = [
        trace.busy_seconds / span,
        trace.peak_bytes / cluster.memory_bytes,
        trace.resident_bytes / cluster.memory_bytes,
        np.bincount(times.devices, minlength=count) / problem.graph.op_count,
        np.bincount(trace.transfer_sources, sending, count) / span,
        np.bincount(trace.transfer_targets, sending, count) / span,
        np.bincount(times.devices, np.where(critical, own, 0.0), count) / span,
    ]
    return np.minimum(np.stack(columns, axis=1), 8.0).astype(np.float32)


def _link_columns(trace: Trace) -> Float32[np.ndarray, "devices devices columns"]:
    count, span = trace.cluster.device_count, max(trace.makespan_seconds, 1e-15)
    flat = trace.transfer_sources.astype(np.int64) * count + trace.transfer_targets
    sending = trace.transfer_arrival - trace.transfer_start
    waiting = trace.transfer_start - trace.transfer_request
    busy = np.bincount(flat, sending, count * count) / span
    waited = log_share(np.bincount(flat, waiting, count * count) / span)
    columns = np.stack([busy, waited], axis=1).reshape(count, count, 2)
    columns[np.arange(count), np.arange(count)] = 0.0
    return np.minimum(columns, 8.0).astype(np.float32)


def _graph_columns(
    problem: Problem, trace: Trace, times: _Times
) -> Float32[np.ndarray, " columns"]:
    critical = times.slack <= CRITICAL_SHARE * times.makespan
    computing = float((times.end - times.start)[critical].sum()) / times.makespan
    return np.array(
        [
            1.0,
            np.log10(times.makespan / max(problem.bounds.seconds, 1e-15)),
            float((trace.peak_bytes <= problem.cluster.memory_bytes).all()),
            float(trace.busy_seconds.mean()) / times.makespan,
            max(0.0, 1.0 - computing),
        ],
        np.float32,
    )


def _pair_columns(problem: Problem, times: _Times) -> Float32[np.ndarray, "ops devices columns"]:
    """What each op's move to each device would pull, push and meet there."""
    from scipy.sparse import csr_array

    graph, cluster, span = problem.graph, problem.cluster, times.makespan
    ops, count = graph.op_count, cluster.device_count
    links = link_pace(cluster)
    sent = (graph.tensor_storage != Storage.WEIGHT).astype(np.float64)
    size = (graph.tensor_bytes * sent)[:, None]
    sources = times.devices[graph.tensor_producers]
    pull = links.pull_seconds(graph.tensor_bytes, sources) * sent[:, None]
    ones = np.ones(graph.edge_count)
    inputs = csr_array((ones, (graph.consumers, graph.edge_tensors)), (ops, graph.tensor_count))
    pull_seconds = inputs @ pull
    readers = np.zeros((graph.tensor_count, count))
    readers[graph.edge_tensors, times.devices[graph.consumers]] = 1.0
    push = (readers * size) @ links.seconds_per_byte.T
    push += (readers * sent[:, None]) @ links.latency_seconds.T
    outputs = csr_array(
        (np.ones(graph.tensor_count), (graph.tensor_producers, np.arange(graph.tensor_count))),
        (ops, graph.tensor_count),
    )
    push_seconds = outputs @ push
    here = np.eye(count)[times.devices]
    producers = graph.tensor_producers[graph.edge_tensors]
    links_in = csr_array((ones, (graph.consumers, producers)), (ops, ops))
    inputs_here = shares(links_in @ here)
    outputs_here = shares(links_in.T @ here)
    arrival = _earliest(problem, times, pull)
    columns = [
        here,
        log_share(pull_seconds / span),
        log_share(push_seconds / span),
        inputs_here,
        outputs_here,
        np.clip((arrival - times.ready[:, None]) / span, -1.0, 2.0),
        _busy_around(times, count),
    ]
    return np.stack(columns, axis=2).astype(np.float32)


def shares(counts: np.ndarray) -> np.ndarray:
    """Each row over its sum; zeros where that is zero."""
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)


def _earliest(
    problem: Problem, times: _Times, pull: Float64[np.ndarray, "tensors devices"]
) -> Float64[np.ndarray, "ops devices"]:
    """When the last input could be on each device, links being free."""
    graph = problem.graph
    result = np.zeros((graph.op_count, pull.shape[1]))
    if not graph.edge_count:
        return result
    tensors = graph.edge_tensors[graph.input_edges]
    reached = times.end[graph.tensor_producers[tensors]][:, None] + pull[tensors]
    some = np.flatnonzero(np.diff(graph.input_offsets) > 0)
    result[some] = np.maximum.reduceat(reached, graph.input_offsets[some], axis=0)
    return result


def _busy_around(times: _Times, count: int) -> Float64[np.ndarray, "ops devices"]:
    """How busy each device is around the time at which the op runs."""
    span = times.makespan
    first = np.maximum(times.start - _WINDOW * span, 0.0)
    last = np.minimum(times.end + _WINDOW * span, span)
    result = np.zeros((len(first), count))
    for device in range(count):
        mine = np.flatnonzero((times.devices == device) & (times.end > times.start))
        if not mine.size:
            continue
        starts, ends = np.unique(np.stack([times.start[mine], times.end[mine]]), axis=1)
        edges = np.stack([starts, ends], axis=1).ravel()
        done = np.stack([np.zeros(len(starts)), ends - starts], axis=1).ravel().cumsum()
        busy = np.interp(last, edges, done) - np.interp(first, edges, done)
        result[:, device] = busy / np.maximum(last - first, 1e-15)
    return result
