"""What happened while several steps of a plan overlapped."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64

from graphs.graph import Graph
from simulator.clusters.cluster import Cluster
from simulator.event_engine.overlap import accumulated_bytes
from simulator.event_engine.program import Program
from simulator.event_engine.state import Recording
from simulator.steps import StepsEvaluation
from simulator.traces.trace import resident_on


@dataclass(frozen=True, eq=False)
class StepsTrace:
    """Start and end of each op and transfer of each step; of a fused plan, of each kernel.

    All times are seconds since the first step was let in. A row is a step; where there are updates,
    which run once, they are the last row.
    """

    graph: Graph
    """The graph of one step that ran: fused kernels are single ops here."""
    cluster: Cluster
    evaluation: StepsEvaluation
    devices: Int32[np.ndarray, " ops"]
    ran: Bool[np.ndarray, "rows ops"]
    """Which ops belong to a row: all of them, unless there are updates."""
    ready: Float64[np.ndarray, "rows ops"]
    start: Float64[np.ndarray, "rows ops"]
    end: Float64[np.ndarray, "rows ops"]
    transfer_rows: Int32[np.ndarray, " transfers"]
    transfer_tensors: Int32[np.ndarray, " transfers"]
    transfer_sources: Int32[np.ndarray, " transfers"]
    transfer_targets: Int32[np.ndarray, " transfers"]
    transfer_request: Float64[np.ndarray, " transfers"]
    transfer_start: Float64[np.ndarray, " transfers"]
    transfer_arrival: Float64[np.ndarray, " transfers"]
    buffer_devices: Int32[np.ndarray, " buffers"]
    buffer_bytes: Int64[np.ndarray, " buffers"]
    buffer_alloc: Float64[np.ndarray, " buffers"]
    buffer_free: Float64[np.ndarray, " buffers"]
    resident_bytes: Int64[np.ndarray, " devices"]
    """Parameters and weights, held once from beginning to end."""

    @property
    def rows(self) -> int:
        """Steps, and one for the updates where there are any."""
        return len(self.start)

    def row_name(self, row: int) -> str:
        """What a row is called where it is shown."""
        return f"step {row}" if row < self.evaluation.schedule.steps else "update"

    @cached_property
    def busy_seconds(self) -> Float64[np.ndarray, " devices"]:
        """For how long each device is occupied, over all steps."""
        lasting = np.where(self.ran, self.end - self.start, 0.0).sum(axis=0)
        return np.bincount(self.devices, lasting, self.cluster.device_count)

    def memory_timeline(self, device: int) -> tuple[np.ndarray, np.ndarray]:
        """Times and bytes in use from each on (frees before allocations at equal times)."""
        mine = self.buffer_devices == device
        scratch = (self.devices == device) & (self.graph.workspace_bytes > 0)
        rows, ops = np.nonzero(self.ran & scratch)
        work = self.graph.workspace_bytes[ops]
        times = np.concatenate(
            [self.buffer_free[mine], self.end[rows, ops],
             self.buffer_alloc[mine], self.start[rows, ops]]
        )  # fmt: skip
        sizes = np.concatenate([-self.buffer_bytes[mine], -work, self.buffer_bytes[mine], work])
        order = np.argsort(times, kind="stable")
        levels = self.resident_bytes[device] + np.concatenate([[0], np.cumsum(sizes[order])])
        instants = np.concatenate([[0.0], times[order]])
        last = np.append(np.diff(instants) > 0, True)
        return instants[last], levels[last].astype(np.int64)


def make_steps_trace(
    program: Program,
    devices: Int32[np.ndarray, " ops"],
    record: Recording,
    evaluation: StepsEvaluation,
) -> StepsTrace:
    """Turn what the kernel recorded of several steps into graph terms."""
    graph, arrays = program.graph, program.arrays
    ops, tensors = graph.op_count, program.tensor_count
    rows = len(record.op_start) // ops
    first = rows * tensors
    used = np.flatnonzero(record.copy_tensor[first:] >= 0) + first
    sent_rows, sent = np.divmod(record.copy_tensor[used], tensors)
    producers = arrays.tensor_producers
    phases = program.step_phases
    steps = evaluation.schedule.steps
    once = phases == phases.max() if rows > steps else np.zeros(ops, bool)
    ran = np.concatenate([np.tile(~once, (steps, 1)), np.tile(once, (rows - steps, 1))])
    start = record.op_start.reshape(rows, ops)
    # Originals: what each op of a row makes, and the sums of what all steps make.
    sizes = np.where(ran[:, producers], arrays.local_bytes, 0)
    alloc = start[:, producers]
    if rows > steps:
        sums = accumulated_bytes(graph, phases)[program.graph_tensors]
        sizes[steps] += sums
        made = record.copy_start[:first].reshape(rows, tensors)[steps]
        alloc[steps] = np.where(sums > 0, made, alloc[steps])
    local = np.flatnonzero(sizes.ravel() > 0)
    remote = used[arrays.remote_bytes[sent] > 0]
    remote_tensors = record.copy_tensor[remote] % tensors
    return StepsTrace(
        graph=graph,
        cluster=program.cluster,
        evaluation=evaluation,
        devices=devices,
        ran=ran,
        ready=record.op_ready.reshape(rows, ops),
        start=start,
        end=record.op_end.reshape(rows, ops),
        transfer_rows=sent_rows.astype(np.int32),
        transfer_tensors=program.graph_tensors[sent],
        transfer_sources=devices[producers[sent]] if sent.size else np.zeros(0, np.int32),
        transfer_targets=record.copy_device[used],
        transfer_request=record.copy_request[used],
        transfer_start=record.copy_start[used],
        transfer_arrival=record.copy_arrival[used],
        buffer_devices=np.concatenate(
            [devices[producers[local % max(tensors, 1)]], record.copy_device[remote]]
        ).astype(np.int32),
        buffer_bytes=np.concatenate([sizes.ravel()[local], arrays.remote_bytes[remote_tensors]]),
        buffer_alloc=np.concatenate([alloc.ravel()[local], record.copy_start[remote]]),
        buffer_free=record.copy_free[np.concatenate([local, remote])],
        resident_bytes=resident_on(graph, devices, len(evaluation.peak_bytes)),
    )
