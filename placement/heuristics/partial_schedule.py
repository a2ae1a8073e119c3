"""What a list scheduler knows while it places ops one by one: where and when, and memory in use."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int32, Int64

from placement.problem import Problem
from simulator.compiled import inlined
from simulator.event_engine.program import ProgramArrays
from simulator.kernel_checks import check_array, check_record


class PartialSchedule(NamedTuple):
    """Ops placed so far, and an estimate of the memory that they hold."""

    devices: Int32[np.ndarray, " ops"]
    """Device of each op; -1 before it is placed."""
    finish: Float64[np.ndarray, " ops"]
    unit_of: Int32[np.ndarray, " ops"]
    unit_device: Int32[np.ndarray, " units"]
    """Where a unit's first op went, and all others must go; -1 before."""
    unit_resident_bytes: Int64[np.ndarray, " units"]
    arrival: Float64[np.ndarray, "tensors devices"]
    """When a tensor that is sent is there; -1 where it is not sent to."""
    readers_left: Int32[np.ndarray, " tensors"]
    device_free: Float64[np.ndarray, " devices"]
    capacity: Int64[np.ndarray, " devices"]
    """Bytes that may be used."""
    used: Int64[np.ndarray, " devices"]


def begin_schedule(problem: Problem, memory_share: float) -> PartialSchedule:
    """Nothing is placed yet; a share of each device's memory may be filled."""
    arrays = problem.simulator.program.arrays
    ops, count = arrays.seconds.shape
    tensors, units = len(arrays.tensor_bytes), problem.unit_count
    resident = np.bincount(problem.unit_of, problem.graph.resident_bytes, units)
    partial = PartialSchedule(
        devices=np.full(ops, -1, np.int32),
        finish=np.zeros(ops),
        unit_of=problem.unit_of,
        unit_device=np.full(units, -1, np.int32),
        unit_resident_bytes=resident.astype(np.int64),
        arrival=np.full((tensors, count), -1.0),
        readers_left=np.diff(arrays.consumer_offsets),
        device_free=np.zeros(count),
        capacity=(problem.cluster.memory_bytes * memory_share).astype(np.int64),
        used=np.zeros(count, np.int64),
    )
    check_record(partial, ops=ops, units=units, tensors=tensors, devices=count)
    return partial


def planned_program(problem: Problem, seconds: Float64[np.ndarray, "ops devices"]) -> ProgramArrays:
    """The problem's program with other compute seconds: infinite where an op must not go."""
    arrays, seconds = problem.simulator.program.arrays, np.array(seconds, order="C")
    check_array("seconds", seconds, "float64", arrays.seconds.shape)
    return arrays._replace(seconds=seconds)


@inlined
def put_op(partial: PartialSchedule, op: int, device: int) -> None:
    """Place an op; the first of a unit takes what is resident of it along."""
    partial.devices[op] = device
    unit = partial.unit_of[op]
    if partial.unit_device[unit] < 0:
        partial.unit_device[unit] = device
        partial.used[device] += partial.unit_resident_bytes[unit]
