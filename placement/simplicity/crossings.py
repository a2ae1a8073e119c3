"""How many crossings a move saves, counted at its border only."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, Int64

from placement.problem import Problem
from simulator.compiled import compiled
from simulator.event_engine.program import ProgramArrays
from simulator.kernel_checks import check_indices, check_offsets, check_record


class Tally(NamedTuple):
    """Who reads each tensor where, under one placement."""

    devices: Int32[np.ndarray, " ops"]
    readers: Int32[np.ndarray, "tensors devices"]
    """Ops on each device that read the tensor."""
    marks: Int32[np.ndarray, " tensors"]
    """The last move that touched the tensor; all below zero at first."""


class Moves(NamedTuple):
    """Moves that are looked at, each on its own."""

    offsets: Int64[np.ndarray, " moves+1"]
    ops: Int64[np.ndarray, " moved"]
    targets: Int32[np.ndarray, " moves"]


def tally(problem: Problem, devices: Int32[np.ndarray, " ops"]) -> Tally:
    """Count the readers; weights lie wherever they are read and are no tensors here."""
    arrays = problem.simulator.program.arrays
    count = problem.cluster.device_count
    readers = np.zeros((len(arrays.tensor_producers), count), np.int32)
    np.add.at(readers, (arrays.edge_tensors, devices[arrays.consumers]), 1)
    return Tally(devices.copy(), readers, np.full(len(readers), -1, np.int32))


def crossings_saved(problem: Problem, counted: Tally, moves: Moves) -> Int64[np.ndarray, " moves"]:
    """Crossings less after each of the moves; below zero where there would be more.

    Raises:
        KernelInputError: arrays of another form, or an op or device that does not exist.
    """
    sizes = check_record(moves)
    check_record(counted)
    check_indices("devices", counted.devices, problem.cluster.device_count)
    check_indices("targets", moves.targets, problem.cluster.device_count)
    check_indices("moved ops", moves.ops, problem.graph.op_count)
    check_offsets("offsets", moves.offsets, len(moves.ops))
    saved = np.zeros(sizes["moves"], np.int64)
    _count_saved(problem.simulator.program.arrays, counted, moves, saved)
    return saved


@compiled
def _count_saved(
    p: ProgramArrays, t: Tally, moves: Moves, saved: Int64[np.ndarray, " moves"]
) -> None:
    for move in range(moves.targets.size):
        target = moves.targets[move]
        ops = moves.ops[moves.offsets[move] : moves.offsets[move + 1]]
        for op in ops:
            for tensor in range(p.output_offsets[op], p.output_offsets[op + 1]):
                if t.marks[tensor] != move:
                    t.marks[tensor] = move
                    saved[move] += _receivers(t, tensor, t.devices[op])
            for at in range(p.input_offsets[op], p.input_offsets[op + 1]):
                tensor = p.edge_tensors[p.input_edges[at]]
                if t.marks[tensor] != move:
                    t.marks[tensor] = move
                    saved[move] += _receivers(t, tensor, t.devices[p.tensor_producers[tensor]])
        _shift(p, t, ops, target, 1)
        moved = -2 - move  # another mark, so that each tensor is counted once more
        for op in ops:
            for tensor in range(p.output_offsets[op], p.output_offsets[op + 1]):
                if t.marks[tensor] != moved:
                    t.marks[tensor] = moved
                    saved[move] -= _receivers(t, tensor, target)
        for op in ops:
            for at in range(p.input_offsets[op], p.input_offsets[op + 1]):
                tensor = p.edge_tensors[p.input_edges[at]]
                if t.marks[tensor] != moved:
                    t.marks[tensor] = moved
                    saved[move] -= _receivers(t, tensor, t.devices[p.tensor_producers[tensor]])
        _shift(p, t, ops, target, -1)


@compiled
def _receivers(t: Tally, tensor: int, home: int) -> int:
    count = 0
    for device in range(t.readers.shape[1]):
        count += device != home and t.readers[tensor, device] > 0
    return count


@compiled
def _shift(p: ProgramArrays, t: Tally, ops: Int64[np.ndarray, " moved"], to: int, by: int) -> None:
    """Count what the ops read on the target instead of their own devices, or back."""
    for op in ops:
        for at in range(p.input_offsets[op], p.input_offsets[op + 1]):
            tensor = p.edge_tensors[p.input_edges[at]]
            t.readers[tensor, t.devices[op]] -= by
            t.readers[tensor, to] += by
