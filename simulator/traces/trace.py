"""What happened while a plan ran."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int32, Int64

from graphs.graph import Graph
from graphs.kinds import Storage
from simulator.clusters.cluster import Cluster
from simulator.evaluation import Evaluation, OutOfMemory
from simulator.event_engine.program import Program
from simulator.event_engine.state import Recording
from simulator.plan import NO_HOLDS

_LARGEST_SHOWN = 5


@dataclass(frozen=True, eq=False)
class Trace:
    """Start and end of each op and transfer; of a fused plan, of each kernel.

    All times are seconds since the step began.
    """

    graph: Graph
    """The graph that ran: fused kernels are single ops here."""
    cluster: Cluster
    makespan_seconds: float
    peak_bytes: Int64[np.ndarray, " devices"]
    devices: Int32[np.ndarray, " ops"]
    ready: Float64[np.ndarray, " ops"]
    """When the last input arrived."""
    start: Float64[np.ndarray, " ops"]
    end: Float64[np.ndarray, " ops"]
    previous: Int32[np.ndarray, " ops"]
    """The op that held the device just before, or -1."""
    cause_op: Int32[np.ndarray, " ops"]
    """The producer of the input that arrived last, or -1."""
    released_by: Int32[np.ndarray, " ops"]
    """The op that it was held for, where it waited for that longest, or -1."""
    cause_transfer: Int32[np.ndarray, " ops"]
    """The transfer that brought it, or -1 where it was made on the same device."""
    transfer_tensors: Int32[np.ndarray, " transfers"]
    transfer_sources: Int32[np.ndarray, " transfers"]
    transfer_targets: Int32[np.ndarray, " transfers"]
    transfer_request: Float64[np.ndarray, " transfers"]
    transfer_start: Float64[np.ndarray, " transfers"]
    transfer_arrival: Float64[np.ndarray, " transfers"]
    transfer_blocker: Int32[np.ndarray, " transfers"]
    """The transfer that held the limiting channel, or -1."""
    buffer_tensors: Int32[np.ndarray, " buffers"]
    buffer_devices: Int32[np.ndarray, " buffers"]
    buffer_bytes: Int64[np.ndarray, " buffers"]
    buffer_alloc: Float64[np.ndarray, " buffers"]
    buffer_free: Float64[np.ndarray, " buffers"]
    resident_bytes: Int64[np.ndarray, " devices"]
    """Parameters and weights, held from beginning to end."""

    @cached_property
    def evaluation(self) -> Evaluation:
        """The score, with the reason if memory does not suffice."""
        over = np.flatnonzero(self.peak_bytes > self.cluster.memory_bytes)
        failures = [self._out_of_memory(int(device)) for device in over]
        first = min(failures, key=lambda failure: failure.seconds or 0.0, default=None)
        excess = np.maximum(self.peak_bytes - self.cluster.memory_bytes, 0).sum()
        return Evaluation(
            self.makespan_seconds,
            tuple(map(int, self.peak_bytes)),
            first,
            int(excess),
            capacity_bytes=int(self.cluster.memory_bytes.sum()),
        )

    @cached_property
    def busy_seconds(self) -> Float64[np.ndarray, " devices"]:
        """Compute time per device."""
        return np.bincount(self.devices, self.end - self.start, self.cluster.device_count)

    def memory_timeline(self, device: int) -> tuple[np.ndarray, np.ndarray]:
        """Times and bytes in use from each on (frees before allocations at equal times)."""
        mine = self.buffer_devices == device
        times = np.concatenate([self.buffer_free[mine], self.buffer_alloc[mine]])
        steps = np.concatenate([-self.buffer_bytes[mine], self.buffer_bytes[mine]])
        scratch = (self.devices == device) & (self.graph.workspace_bytes > 0)
        times = np.concatenate([times, self.end[scratch], self.start[scratch]])
        work = self.graph.workspace_bytes[scratch]
        steps = np.concatenate([steps, -work, work])
        order = np.argsort(times, kind="stable")
        levels = np.concatenate(
            [[self.resident_bytes[device]], self.resident_bytes[device] + np.cumsum(steps[order])]
        )
        instants = np.concatenate([[0.0], times[order]])
        last = np.append(np.diff(instants) > 0, True)
        return instants[last], levels[last].astype(np.int64)

    def transfers_between(self) -> Int64[np.ndarray, "devices devices"]:
        """Bytes sent from each device to each other."""
        count = self.cluster.device_count
        flat = self.transfer_sources.astype(np.int64) * count + self.transfer_targets
        sizes = self.graph.tensor_bytes[self.transfer_tensors]
        return np.bincount(flat, sizes, count * count).reshape(count, count).astype(np.int64)

    def _out_of_memory(self, device: int) -> OutOfMemory:
        capacity = int(self.cluster.memory_bytes[device])
        times, levels = self.memory_timeline(device)
        over = np.flatnonzero(levels > capacity)
        instant = float(times[over[0]]) if over.size else 0.0
        held: dict[str, int] = {}
        mine = np.flatnonzero(self.devices == device)
        for op in mine[self.graph.resident_bytes[mine] > 0]:
            held[f"parameters of {self.graph.op_names[op]}"] = int(self.graph.resident_bytes[op])
        for op in mine[(self.start[mine] <= instant) & (instant < self.end[mine])]:
            held[f"workspace of {self.graph.op_names[op]}"] = int(self.graph.workspace_bytes[op])
        for tensor in np.flatnonzero(self.graph.tensor_storage == Storage.WEIGHT):
            if (self.devices[self.graph.consumers_of(int(tensor))] == device).any():
                name = self.graph.op_names[self.graph.tensor_producers[tensor]]
                held[f"weights {name}"] = int(self.graph.tensor_bytes[tensor])
        live = (self.buffer_devices == device) & (self.buffer_alloc <= instant)
        for buffer in np.flatnonzero(live & (self.buffer_free > instant)):
            producer = self.graph.tensor_producers[self.buffer_tensors[buffer]]
            name = f"output of {self.graph.op_names[producer]}"
            held[name] = held.get(name, 0) + int(self.buffer_bytes[buffer])
        largest = sorted(held.items(), key=lambda item: -item[1])[:_LARGEST_SHOWN]
        name = self.cluster.devices[device].name
        return OutOfMemory(name, capacity, int(self.peak_bytes[device]), instant, tuple(largest))


def make_trace(
    program: Program,
    devices: Int32[np.ndarray, " ops"],
    edge_copy: Int32[np.ndarray, " edges"],
    record: Recording,
    makespan: float,
    peak: Int64[np.ndarray, " devices"],
    holds: Int32[np.ndarray, " _"] = NO_HOLDS,
) -> Trace:
    """Turn what the kernel recorded into graph terms."""
    graph, arrays = program.graph, program.arrays
    tensors = program.tensor_count
    used = np.flatnonzero(record.copy_tensor[tensors:] >= 0) + tensors
    sent = record.copy_tensor[used]
    blockers = record.copy_blocker[used]
    has_cause = record.op_cause_edge >= 0
    cause_copy = np.where(has_cause, _take(edge_copy, record.op_cause_edge), -1)
    cause_tensor = _take(arrays.edge_tensors, record.op_cause_edge)
    producers = arrays.tensor_producers
    local = np.flatnonzero(arrays.local_bytes > 0)
    remote = used[arrays.remote_bytes[sent] > 0]
    resident = resident_on(graph, devices, len(peak))
    return Trace(
        graph=graph,
        cluster=program.cluster,
        makespan_seconds=float(makespan),
        peak_bytes=peak,
        devices=devices,
        ready=record.op_ready,
        start=record.op_start,
        end=record.op_end,
        previous=record.op_previous,
        cause_op=np.where(has_cause, _take(producers, cause_tensor), -1).astype(np.int32),
        released_by=np.where(has_cause, -1, holds if len(holds) else -1).astype(np.int32),
        cause_transfer=np.where(cause_copy >= tensors, cause_copy - tensors, -1).astype(np.int32),
        transfer_tensors=program.graph_tensors[sent],
        transfer_sources=devices[_take(producers, sent)],
        transfer_targets=record.copy_device[used],
        transfer_request=record.copy_request[used],
        transfer_start=record.copy_start[used],
        transfer_arrival=record.copy_arrival[used],
        transfer_blocker=np.where(blockers >= 0, blockers - tensors, -1).astype(np.int32),
        buffer_tensors=program.graph_tensors[np.concatenate([local, record.copy_tensor[remote]])],
        buffer_devices=np.concatenate(
            [devices[producers[local]], record.copy_device[remote]]
        ).astype(np.int32),
        buffer_bytes=np.concatenate(
            [arrays.local_bytes[local], arrays.remote_bytes[record.copy_tensor[remote]]]
        ),
        buffer_alloc=np.concatenate([record.op_start[producers[local]], record.copy_start[remote]]),
        buffer_free=record.copy_free[np.concatenate([local, remote])],
        resident_bytes=resident,
    )


def resident_on(
    graph: Graph, devices: Int32[np.ndarray, " ops"], count: int
) -> Int64[np.ndarray, " {count}"]:
    """Bytes that each of `count` devices holds all the time: parameters, weights where read."""
    resident = np.zeros(count, np.int64)
    np.add.at(resident, devices, graph.resident_bytes)
    for tensor in np.flatnonzero(graph.tensor_storage == Storage.WEIGHT):
        resident[np.unique(devices[graph.consumers_of(int(tensor))])] += graph.tensor_bytes[tensor]
    return resident


def _take(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Index, where there may be nothing to index."""
    return values[at] if values.size else np.full(len(at), -1, np.int32)
