"""What loads are made of: units, the tensors between them, and devices."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int32, Int64

from graphs.kinds import Phase, Storage
from placement.problem import Problem


class LoadArrays(NamedTuple):
    """Units and tensors for compiled kernels; a tensor's readers are units other than its maker."""

    seconds: Float64[np.ndarray, "units devices"]
    memory_bytes: Float64[np.ndarray, " units"]
    makers: Int32[np.ndarray, " tensors"]
    hop_seconds: Float64[np.ndarray, " tensors"]
    reader_offsets: Int64[np.ndarray, " tensors+1"]
    readers: Int32[np.ndarray, " reads"]
    touched_offsets: Int64[np.ndarray, " units+1"]
    touched: Int32[np.ndarray, " touches"]
    """Tensors that each unit makes or reads, each once."""
    capacity_bytes: Float64[np.ndarray, " devices"]
    sends: Int32[np.ndarray, " devices"]
    """1 for devices that pay for transfers, 0 for those that compute in the host's memory."""


@dataclass(frozen=True, eq=False)
class LoadProblem:
    """One problem of the least largest load."""

    problem: Problem
    arrays: LoadArrays
    before: tuple[frozenset[int], ...]
    """Units that must be in the same or an earlier stage, per unit: forward order."""

    @property
    def unit_count(self) -> int:
        return len(self.arrays.memory_bytes)

    @property
    def device_count(self) -> int:
        return len(self.arrays.capacity_bytes)


def load_problem(problem: Problem, hop_bytes_per_second: float) -> LoadProblem:
    """Contract a problem to its units.

    Stages follow the forward pass; a backward op is where its unit is. Backward ops without a
    forward op in their unit come in the reverse order of the backward pass.

    Args:
        problem: of any graph; transfers of control edges and weights are free.
        hop_bytes_per_second: bandwidth between a device and the host's memory.
    """
    graph, unit_of = problem.graph, problem.unit_of
    count = problem.unit_count
    seconds = np.zeros((count, problem.cluster.device_count))
    np.add.at(seconds, unit_of, problem.seconds)
    edges = graph.edge_tensors
    sent = ~np.isin(graph.tensor_storage[edges], (Storage.WEIGHT, Storage.CONTROL))
    makers = unit_of[graph.tensor_producers[edges]]
    readers = unit_of[graph.consumers]
    crossing = sent & (makers != readers)
    pairs = np.unique(np.stack([edges[crossing], readers[crossing]]), axis=1)
    tensors, numbers = np.unique(pairs[0], return_inverse=True)
    offsets = np.searchsorted(numbers, np.arange(len(tensors) + 1)).astype(np.int64)
    tensor_makers = unit_of[graph.tensor_producers[tensors]].astype(np.int32)
    touches = np.unique(
        np.concatenate(
            [
                np.stack([tensor_makers, np.arange(len(tensors))]),
                np.stack([pairs[1], numbers]),
            ],
            axis=1,
        ),
        axis=1,
    )
    cluster = problem.cluster
    arrays = LoadArrays(
        seconds=seconds,
        memory_bytes=np.bincount(unit_of, graph.resident_bytes, count).astype(np.float64),
        makers=tensor_makers,
        hop_seconds=graph.tensor_bytes[tensors] / hop_bytes_per_second,
        reader_offsets=offsets,
        readers=pairs[1].astype(np.int32),
        touched_offsets=np.searchsorted(touches[0], np.arange(count + 1)).astype(np.int64),
        touched=touches[1].astype(np.int32),
        capacity_bytes=cluster.memory_bytes.astype(np.float64),
        sends=np.array([not device.kind.startswith("cpu") for device in cluster.devices], np.int32),
    )
    return LoadProblem(problem, arrays, _forward_order(problem))


def _forward_order(problem: Problem) -> tuple[frozenset[int], ...]:
    graph, unit_of = problem.graph, problem.unit_of
    forward = graph.phases == Phase.FORWARD
    has_forward = np.zeros(problem.unit_count, bool)
    has_forward[unit_of[forward]] = True
    before: list[set[int]] = [set() for _ in range(problem.unit_count)]
    producers = graph.tensor_producers[graph.edge_tensors]
    for source, target in zip(producers.tolist(), graph.consumers.tolist(), strict=True):
        first, second = int(unit_of[source]), int(unit_of[target])
        if first == second:
            continue
        if forward[source] and (forward[target] or not has_forward[second]):
            before[second].add(first)
        elif not forward[source] and not (has_forward[first] and has_forward[second]):
            before[first].add(second)
    return tuple(frozenset(units) for units in before)


def device_loads(
    problem: LoadProblem, devices: Int32[np.ndarray, " units"]
) -> Float64[np.ndarray, " devices"]:
    """Seconds that each device is busy with a step: compute, and transfers one after the other.

    Example:
        >>> loads = load_problem(Problem(graph, cluster), 1e12)
        >>> everything = np.zeros(loads.unit_count, np.int32)
        >>> device_loads(loads, everything)[1:].tolist() == [0.0] * (loads.device_count - 1)
        True
    """
    p = problem.arrays
    units = np.arange(problem.unit_count)
    loads = np.bincount(devices, p.seconds[units, devices], problem.device_count)
    for tensor in range(len(p.makers)):
        home = devices[p.makers[tensor]]
        there = devices[p.readers[p.reader_offsets[tensor] : p.reader_offsets[tensor + 1]]]
        others = np.unique(there[there != home])
        loads[others] += p.hop_seconds[tensor] * p.sends[others]
        if others.size:
            loads[home] += p.hop_seconds[tensor] * p.sends[home]
    return loads


def fits(problem: LoadProblem, devices: Int32[np.ndarray, " units"]) -> bool:
    """Whether what the units hold fits on their devices."""
    held = np.bincount(devices, problem.arrays.memory_bytes, problem.device_count)
    return bool((held <= problem.arrays.capacity_bytes).all())
