"""The event engine's memory: what a run changes, and what it leaves behind for a trace.

All arrays are made here, once, and handed to the compiled kernel, which allocates none. They are
writable and lie row by row in memory: numba compiles a kernel anew for any other kind of array.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int32, Int64, UInt8

from simulator.event_engine.overlap import Overlap, single_step
from simulator.event_engine.program import ProgramArrays
from simulator.kernel_checks import check_record
from simulator.plan import NO_HOLDS


class Recording(NamedTuple):
    """What happened, for a `Trace`. Arrays of length zero switch recording off.

    A copy is a tensor on one device: copy `t` below the number of tensors is the original of
    tensor `t`, those above are transfers in the order of their creation. Of several steps, the ops
    of each follow those of the one before, row by row, and so do the originals; all transfers are
    after them.
    """

    op_ready: Float64[np.ndarray, " ops"]
    op_start: Float64[np.ndarray, " ops"]
    op_end: Float64[np.ndarray, " ops"]
    op_cause_edge: Int32[np.ndarray, " ops"]
    """The edge whose arrival made the op ready, or -1."""
    op_previous: Int32[np.ndarray, " ops"]
    """The op that held the device just before, or -1."""
    finish_order: Int32[np.ndarray, " ops"]
    """Ops as they ended: producers before consumers, and each device's in the order they ran."""
    copy_tensor: Int32[np.ndarray, " copies"]
    copy_device: Int32[np.ndarray, " copies"]
    copy_request: Float64[np.ndarray, " copies"]
    copy_start: Float64[np.ndarray, " copies"]
    copy_arrival: Float64[np.ndarray, " copies"]
    copy_blocker: Int32[np.ndarray, " copies"]
    """The transfer that held the limiting channel, or -1."""
    copy_free: Float64[np.ndarray, " copies"]


def make_recording(ops: int, tensors: int, edges: int, rows: int = 1) -> Recording:
    """Arrays to record into; `rows` of them where several steps run."""
    ops, copies = rows * ops, rows * (tensors + edges)
    return Recording(
        op_ready=np.zeros(ops),
        op_start=np.zeros(ops),
        op_end=np.zeros(ops),
        op_cause_edge=np.full(ops, -1, np.int32),
        op_previous=np.full(ops, -1, np.int32),
        finish_order=np.zeros(ops, np.int32),
        copy_tensor=np.full(copies, -1, np.int32),
        copy_device=np.full(copies, -1, np.int32),
        copy_request=np.zeros(copies),
        copy_start=np.zeros(copies),
        copy_arrival=np.zeros(copies),
        copy_blocker=np.full(copies, -1, np.int32),
        copy_free=np.zeros(copies),
    )


NO_RECORDING = make_recording(0, 0, 0)


def check_recording(r: Recording, p: ProgramArrays, rows: int = 1) -> None:
    """Raise `KernelInputError` unless a recording has room for runs of a program, or for none."""
    rows = rows if len(r.op_start) > 0 else 0
    copies = len(p.tensor_bytes) + len(p.consumers)
    check_record(r, ops=len(p.seconds) * rows, copies=copies * rows)


class EngineState(NamedTuple):
    """Everything that changes during a run; reusable for the next one."""

    devices: Int32[np.ndarray, " ops"]
    ranks: Int32[np.ndarray, " ops"]
    op_of_rank: Int32[np.ndarray, " ops"]
    missing: Int32[np.ndarray, " slot_ops"]
    """Inputs that an op still waits for, slot by slot."""
    ready: Int32[np.ndarray, " slot_ops"]
    """One heap of keys per device, at `ready_base`: the step's row times ops, and the rank."""
    ready_base: Int64[np.ndarray, " devices+1"]
    ready_size: Int64[np.ndarray, " devices"]
    running: Int32[np.ndarray, " devices"]
    """The slot times ops and the op that runs on each device, or -1."""
    last_op: Int32[np.ndarray, " devices"]
    """The row times ops and the op that ran there before, or -1."""
    event_time: Float64[np.ndarray, " events"]
    event_key: Int64[np.ndarray, " events"]
    """The key of an op that ends; beyond all keys, the number of a transfer that arrives.

    The heap stays small: of each link it holds the first coming arrival only, for those of one
    link come in the order of its transfers.
    """
    edge_copy: Int32[np.ndarray, " slot_edges"]
    """The copy that serves each edge, slot by slot: a tensor, or beyond all tensors a transfer."""
    references: Int32[np.ndarray, " copies"]
    """Readers, transfers and views that still need a copy: originals slot by slot, transfers."""
    transfer_device: Int32[np.ndarray, " transfers"]
    transfer_tensor: Int32[np.ndarray, " transfers"]
    transfer_slot: Int32[np.ndarray, " transfers"]
    transfer_number: Int32[np.ndarray, " transfers"]
    """In the order of request, over all steps."""
    transfer_link: Int32[np.ndarray, " transfers"]
    transfer_start: Float64[np.ndarray, " transfers"]
    transfer_arrival: Float64[np.ndarray, " transfers"]
    next_start: Int32[np.ndarray, " transfers"]
    """The transfer that starts next on the same link, or -1.

    Starts are no events: between two events they do nothing but take memory, so all that lie in
    between are made up for at once.
    """
    next_arrival: Int32[np.ndarray, " transfers"]
    first_start: Int32[np.ndarray, " links"]
    """The first transfer that waits to start on a link, or -1."""
    last_start: Int32[np.ndarray, " links"]
    earliest_start: Float64[np.ndarray, " 1"]
    """The earliest start among transfers that wait."""
    last_arrival: Int32[np.ndarray, " links"]
    sent_tensor: Int64[np.ndarray, " devices"]
    """The row times tensors and the tensor last sent to each device, to send it there once."""
    sent_transfer: Int32[np.ndarray, " devices"]
    starting: Int32[np.ndarray, " transfers"]
    """Transfers that begin at this instant."""
    channel_free: Float64[np.ndarray, " channels"]
    channel_copy: Int32[np.ndarray, " channels"]
    """The copy, as it is recorded, that held each channel last."""
    memory: Int64[np.ndarray, " devices"]
    touched: UInt8[np.ndarray, " devices"]
    """Devices that may start an op or hold more memory at this instant."""
    seen_weight: Int64[np.ndarray, " devices"]
    starting_op: Int32[np.ndarray, " devices"]
    """On devices with host costs, the slot times ops and the op that starts at this instant, or
    -1."""
    run: Int32[np.ndarray, " devices"]
    """Number of the run of ops that a device is in."""
    cut: UInt8[np.ndarray, " devices"]
    """Whether the next op of a device begins a run."""
    crosses: UInt8[np.ndarray, " ops"]
    """Ops whose device receives or sends for them, and which need it even without a kernel."""
    counted: Int32[np.ndarray, " devices"]
    """The tensor last counted as sent to each device."""
    taken: Int32[np.ndarray, " copies"]
    """The last run that took in a copy; `-2 - run` where it has not left the run that made it; -1
    for what is in no run yet."""
    counts: Int64[np.ndarray, " 6"]
    work_left: Float64[np.ndarray, " devices"]
    """Seconds of all ops that a device has not started yet, in a single step."""
    deadline: Float64[np.ndarray, " 1"]
    """A single step that is sure to take longer than this ends before its time; infinite where all
    of it is wanted."""
    held: Int32[np.ndarray, " held"]
    """Ops that wait for another op's end, by that op at `held_offsets`; none where empty."""
    held_offsets: Int32[np.ndarray, " held_bounds"]
    overlap: Overlap
    """Which steps run."""


#: Places in `State.counts`: how many there are of each, but for `TOUCHED`, which is a flag.
EVENTS, TRANSFERS, STARTING, TOUCHED, FINISHED, LET_IN = range(6)


def make_engine_state(
    p: ProgramArrays, holds: Int32[np.ndarray, " _"] = NO_HOLDS, overlap: Overlap | None = None
) -> EngineState:
    """Room for runs of one program, one at a time.

    Args:
        holds: for each op the op that it waits for, or -1; of length 0 where none waits.
        overlap: which steps run; a single one where none is given.
    """
    overlap = single_step(p) if overlap is None else overlap
    slots, transfers = len(overlap.slots.row), overlap.slots.transfers
    ops, devices = p.seconds.shape
    held = np.flatnonzero(holds >= 0)
    held = held[np.argsort(holds[held], kind="stable")].astype(np.int32)
    after = np.searchsorted(holds[held], np.arange(ops + 1)) if held.size else np.zeros(0)
    edges = len(p.consumers)
    return EngineState(
        devices=np.empty(ops, np.int32),
        ranks=np.empty(ops, np.int32),
        op_of_rank=np.empty(ops, np.int32),
        missing=np.empty(slots * ops, np.int32),
        ready=np.empty(slots * ops, np.int32),
        ready_base=np.empty(devices + 1, np.int64),
        ready_size=np.empty(devices, np.int64),
        running=np.empty(devices, np.int32),
        last_op=np.empty(devices, np.int32),
        event_time=np.empty(slots * ops + devices * (devices + 1), np.float64),
        event_key=np.empty(slots * ops + devices * (devices + 1), np.int64),
        edge_copy=np.empty(slots * edges, np.int32),
        references=np.empty(slots * len(p.tensor_bytes) + transfers, np.int32),
        transfer_device=np.empty(transfers, np.int32),
        transfer_tensor=np.empty(transfers, np.int32),
        transfer_slot=np.empty(transfers, np.int32),
        transfer_number=np.empty(transfers, np.int32),
        transfer_link=np.empty(transfers, np.int32),
        transfer_start=np.empty(transfers, np.float64),
        transfer_arrival=np.empty(transfers, np.float64),
        next_start=np.empty(transfers, np.int32),
        next_arrival=np.empty(transfers, np.int32),
        first_start=np.empty(devices * devices, np.int32),
        last_start=np.empty(devices * devices, np.int32),
        earliest_start=np.empty(1, np.float64),
        last_arrival=np.empty(devices * devices, np.int32),
        sent_tensor=np.empty(devices, np.int64),
        sent_transfer=np.empty(devices, np.int32),
        starting=np.empty(transfers, np.int32),
        channel_free=np.empty(p.channel_count, np.float64),
        channel_copy=np.empty(p.channel_count, np.int32),
        memory=np.empty(devices, np.int64),
        touched=np.empty(devices, np.uint8),
        seen_weight=np.empty(devices, np.int64),
        starting_op=np.empty(devices, np.int32),
        run=np.empty(devices, np.int32),
        cut=np.empty(devices, np.uint8),
        crosses=np.empty(ops, np.uint8),
        counted=np.empty(devices, np.int32),
        taken=np.empty(slots * len(p.tensor_bytes) + transfers, np.int32),
        counts=np.empty(6, np.int64),
        work_left=np.empty(devices, np.float64),
        deadline=np.full(1, np.inf),
        held=held,
        held_offsets=after.astype(np.int32),
        overlap=overlap,
    )
