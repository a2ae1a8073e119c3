"""Steps that overlap, as the kernel's arrays: slots for steps on the way, and who goes first.

A step on the way has a *slot*, a place for what changes while it runs; the next step that is let in
takes over the slot of one that has ended. Updates of a training step, which run once for all its
micro-batches, have a slot of their own. What is recorded has a *row* for each step, and one for the
updates.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int32, Int64, UInt8

from graphs.graph import Graph
from graphs.kinds import Phase, Storage
from simulator.clusters.cluster import Cluster
from simulator.errors import PlanError
from simulator.event_engine.program import Program, ProgramArrays
from simulator.plan import NO_HOLDS
from simulator.steps import StepOrder, StepSchedule


class Slots(NamedTuple):
    """How much of everything there is, small enough to hand to every function that counts."""

    several: tuple[()] | tuple[int]
    """Empty for a single step: its kernel is compiled apart, without all that is for several."""
    steps: int
    in_flight: int
    """Slots of steps; a slot more is for updates, where there are any."""
    rows: int
    """Steps, and one for the updates."""
    phases_apart: int
    """1 where a whole phase is behind another in the order of each device, else 0."""
    updates: int
    """1 where there are updates, else 0."""
    ops: int
    tensors: int
    edges: int
    transfers: int
    """Room for transfers that somebody still needs; those beyond take the places of the first."""
    row: Int64[np.ndarray, " slots"]
    """The row of what is in a slot."""


class Overlap(NamedTuple):
    """What the engine keeps of all steps; arrays of length zero switch off what they are for."""

    slots: Slots
    order_offsets: Int64[np.ndarray, " ordered"]
    """Added to where an op stands in the order of its device."""
    phases: UInt8[np.ndarray, " phased"]
    """`Phase` of each op as the order of steps sees it; none where nothing depends on it."""
    accumulator_bytes: Int64[np.ndarray, " accumulated"]
    """What holds the sum of a tensor over all steps, for tensors that updates read."""
    into_update: UInt8[np.ndarray, " accumulated"]
    """Tensors of steps that updates read."""
    accumulate_seconds: Float64[np.ndarray, "accumulating devices"]
    """Seconds in which an op adds what it made to the sum of earlier steps."""
    made: Int32[np.ndarray, " accumulated"]
    """Steps that have made a tensor."""
    windows: Int32[np.ndarray, " windowed"]
    """Most steps begun and not finished on each device."""
    finished_here: Int32[np.ndarray, " windowed"]
    """Steps that are finished on each device."""
    left_here: Int32[np.ndarray, " slots_windowed"]
    """Ops of each slot that are left on each device."""
    forward_left: Int64[np.ndarray, " barred"]
    """Forward ops that are left on each device, over all steps, before any backward op starts."""
    slot_left: Int64[np.ndarray, " slots"]
    """Ops that are left in a slot."""
    release_seconds: Float64[np.ndarray, " rows"]
    end_seconds: Float64[np.ndarray, " rows"]
    busy_seconds: Float64[np.ndarray, " busy"]
    """Seconds for which each device is occupied in all."""


def single_step(p: ProgramArrays) -> Overlap:
    """One step of a program, the engine's usual work."""
    none = np.zeros(0, np.int32)
    wide, bytes_ = np.zeros(0, np.int64), np.zeros(0, np.uint8)
    return Overlap(
        slots=Slots(
            several=(),
            steps=1,
            in_flight=1,
            rows=1,
            phases_apart=0,
            updates=0,
            ops=len(p.seconds),
            tensors=len(p.tensor_bytes),
            edges=len(p.consumers),
            transfers=len(p.consumers),
            row=np.zeros(1, np.int64),
        ),
        order_offsets=wide,
        phases=bytes_,
        accumulator_bytes=wide.copy(),
        into_update=bytes_.copy(),
        accumulate_seconds=np.zeros((0, 0)),
        made=none,
        windows=none.copy(),
        finished_here=none.copy(),
        left_here=none.copy(),
        forward_left=wide.copy(),
        slot_left=np.zeros(1, np.int64),
        release_seconds=np.zeros(1),
        end_seconds=np.zeros(1),
        busy_seconds=np.zeros(0),
    )


def overlap_steps(
    program: Program,
    schedule: StepSchedule,
    devices: Int32[np.ndarray, " ops"],
    holds: Int32[np.ndarray, " _"] = NO_HOLDS,
) -> Overlap:
    """Lay out a schedule for the kernel.

    Args:
        program: of the graph of one step; with updates it is a training step's micro-batch.
        devices: of the plan, which says what is a stage.

    Raises:
        PlanError: too many steps for the engine's numbers, or holds between a step and the updates.
    """
    p, graph = program.arrays, program.graph
    ops, count = p.seconds.shape
    in_flight = schedule.most_in_flight
    phases = program.step_phases
    updates = bool((phases == Phase.UPDATE).any())
    if updates and (phases == Phase.UPDATE).all():
        raise PlanError(f"all ops of graph {graph.name!r} are updates: no step is left to repeat")
    rows, slots = schedule.steps + updates, in_flight + updates
    if 2 * rows * ops >= np.iinfo(np.int32).max:
        raise PlanError(
            f"{schedule.steps} steps of {ops} ops are more than the engine counts; take at most "
            f"{np.iinfo(np.int32).max // (2 * ops) - 1}"
        )
    _check_holds(graph, phases, holds)
    accumulators = accumulated_bytes(graph, phases)[program.graph_tensors]
    into = read_by_updates(graph, phases)[program.graph_tensors]
    seconds = accumulate_seconds(graph, program.cluster, phases)
    ordered = schedule.order != StepOrder.OLDEST_FIRST
    late = phases != (Phase.BACKWARD if schedule.order == StepOrder.ONE_F_ONE_B else Phase.FORWARD)
    windowed = schedule.order == StepOrder.ONE_F_ONE_B
    windows = stage_windows(phases, devices, count) if windowed else np.zeros(0, np.int32)
    barred = schedule.order == StepOrder.GPIPE
    return Overlap(
        slots=Slots(
            several=(1,),
            steps=schedule.steps,
            in_flight=in_flight,
            rows=rows,
            phases_apart=int(ordered),
            updates=int(updates),
            ops=ops,
            tensors=len(p.tensor_bytes),
            edges=len(p.consumers),
            # A step overlaps with as many before it as after it, and all with the updates.
            transfers=len(p.consumers) * (2 * in_flight - 1 + updates),
            row=np.zeros(slots, np.int64),
        ),
        order_offsets=(late * (rows * ops if ordered else 0)).astype(np.int64)[: ops * ordered],
        phases=phases if ordered or updates else np.zeros(0, np.uint8),
        accumulator_bytes=accumulators if updates else np.zeros(0, np.int64),
        into_update=into.astype(np.uint8) if updates else np.zeros(0, np.uint8),
        accumulate_seconds=seconds if updates else np.zeros((0, count)),
        made=np.zeros(len(p.tensor_bytes) if updates else 0, np.int32),
        windows=windows,
        finished_here=np.zeros(len(windows), np.int32),
        left_here=np.zeros(slots * len(windows), np.int32),
        forward_left=np.zeros(count if barred else 0, np.int64),
        slot_left=np.zeros(slots, np.int64),
        release_seconds=np.zeros(rows),
        end_seconds=np.zeros(rows),
        busy_seconds=np.zeros(count),
    )


def read_by_updates(graph: Graph, phases: UInt8[np.ndarray, " ops"]) -> np.ndarray:
    """Whether a tensor that every step makes is read by what runs once, per tensor of the graph."""
    tensors = graph.edge_tensors[phases[graph.consumers] == Phase.UPDATE]
    read = np.zeros(graph.tensor_count, bool)
    read[tensors] = True
    made_by = phases[graph.tensor_producers]
    return read & (made_by != Phase.UPDATE) & (graph.tensor_storage != Storage.WEIGHT)


def accumulated_bytes(
    graph: Graph, phases: UInt8[np.ndarray, " ops"]
) -> Int64[np.ndarray, " tensors"]:
    """What the sum of a tensor over all steps takes; a variable's value is resident anyway."""
    counted = np.isin(graph.tensor_storage, (Storage.BUFFER, Storage.ALIAS))
    return np.where(counted & read_by_updates(graph, phases), graph.tensor_bytes, 0).astype(
        np.int64
    )


def accumulate_seconds(
    graph: Graph, cluster: Cluster, phases: UInt8[np.ndarray, " ops"]
) -> Float64[np.ndarray, "ops devices"]:
    """What adding gradients to the sums of earlier micro-batches takes: a kernel for each tensor.

    It reads the sum and the new gradient and writes the sum, at the bandwidth of the device.
    """
    summed = accumulated_bytes(graph, phases)
    summed[phases[graph.tensor_producers] != Phase.BACKWARD] = 0
    tensors = np.flatnonzero(summed)
    producers = graph.tensor_producers[tensors]
    size = np.bincount(producers, summed[tensors], graph.op_count)
    kernels = np.bincount(producers, minlength=graph.op_count)
    seconds = np.zeros((graph.op_count, cluster.device_count))
    for column, device in enumerate(cluster.devices):
        seconds[:, column] = 3 * size / device.memory_bytes_per_second
        seconds[:, column] += kernels * device.launch_seconds
    return seconds


def stage_windows(
    phases: UInt8[np.ndarray, " ops"], devices: Int32[np.ndarray, " ops"], count: int
) -> Int32[np.ndarray, " {count}"]:
    """Steps begun and not finished that 1F1B allows on each device: stages from it to the last.

    Devices are stages in the order of the mean position of their forward ops.
    """
    position = np.arange(len(phases), dtype=np.float64)
    forward = phases == Phase.FORWARD
    taken = forward if forward.any() else np.ones_like(forward)
    ops = np.bincount(devices[taken], minlength=count)
    mean = np.bincount(devices[taken], position[taken], count) / np.maximum(ops, 1)
    used = np.flatnonzero(ops)
    windows = np.ones(count, np.int32)
    order = used[np.argsort(mean[used], kind="stable")]
    windows[order] = np.arange(len(order), 0, -1)
    return windows


def _check_holds(graph: Graph, phases: np.ndarray, holds: np.ndarray) -> None:
    held = np.flatnonzero(holds >= 0)
    once = phases == Phase.UPDATE
    crossing = held[once[held] != once[holds[held]]]
    if crossing.size:
        op = int(crossing[0])
        raise PlanError(
            f"op {graph.op_names[op]!r} is held until {graph.op_names[holds[op]]!r} has ended, but "
            "one of them runs in every micro-batch and the other once: place without holds"
        )
