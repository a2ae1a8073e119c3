"""What loads are made of: units, the tensors between them, devices and channels."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int8, Int32, Int64

from graphs.kinds import Phase, Storage
from placement.problem import Problem
from placement.throughput.forward_order import forward_order
from placement.throughput.held_memory import HeldMemory, held_memory, most_steps_held
from placement.throughput.request import Throughput, Transfers
from placement.throughput.transfer_costs import (
    TransferCosts,
    channel_costs,
    channel_count,
    hop_costs,
)
from simulator.clusters.host_costs import runs_alone
from simulator.event_engine.phases import step_phases


class LoadArrays(NamedTuple):
    """Units and tensors for compiled kernels; a tensor's readers are units other than its maker."""

    seconds: Float64[np.ndarray, "units devices"]
    memory_bytes: Float64[np.ndarray, " units"]
    makers: Int32[np.ndarray, " tensors"]
    tensor_bytes: Float64[np.ndarray, " tensors"]
    shares: Float64[np.ndarray, " tensors"]
    """How often a tensor is made in a step: 1, or less for what updates read or make."""
    copy_bytes: Float64[np.ndarray, " tensors"]
    """Memory on each device that receives a tensor."""
    reader_offsets: Int64[np.ndarray, " tensors+1"]
    readers: Int32[np.ndarray, " reads"]
    touched_offsets: Int64[np.ndarray, " units+1"]
    touched: Int32[np.ndarray, " touches"]
    """Tensors that each unit makes or reads, each once."""
    touch_reads: Int8[np.ndarray, " touches"]
    """1 where the unit reads it, 0 where it makes it."""
    weight_bytes: Float64[np.ndarray, " weights"]
    """Of weights that several units read: held once on each device where any of these is."""
    weight_offsets: Int64[np.ndarray, " units+1"]
    weights: Int32[np.ndarray, " weight_reads"]
    """Shared weights that each unit reads."""
    capacity_bytes: Float64[np.ndarray, " devices"]
    channel_seconds: Float64[np.ndarray, " channels"]
    """Zeros, one for each channel."""
    costs: TransferCosts


@dataclass(frozen=True, eq=False)
class LoadProblem:
    """One problem of the least largest load.

    A *resource* is a device or a channel: devices come first, then channels.
    """

    problem: Problem
    arrays: LoadArrays
    transfers: Transfers
    request: Throughput | None = None

    @property
    def unit_count(self) -> int:
        return len(self.arrays.memory_bytes)

    @property
    def device_count(self) -> int:
        return len(self.arrays.capacity_bytes)

    @cached_property
    def before(self) -> tuple[frozenset[int], ...]:
        """Units that must be in the same or an earlier stage, per unit: forward order."""
        found: list[set[int]] = [set() for _ in range(self.unit_count)]
        earlier, later = self.order_pairs
        for first, second in zip(earlier.tolist(), later.tolist(), strict=True):
            found[second].add(first)
        return tuple(map(frozenset, found))

    @cached_property
    def order_pairs(self) -> tuple[Int32[np.ndarray, " pairs"], Int32[np.ndarray, " pairs"]]:
        """The same as pairs of an earlier and a later unit."""
        return forward_order(self.problem)

    @cached_property
    def sends(self) -> Int32[np.ndarray, " devices"]:
        """1 for devices that pay for transfers, 0 for those that compute in the host's memory."""
        kinds = [device.kind for device in self.problem.cluster.devices]
        return np.array([not kind.startswith("cpu") for kind in kinds], np.int32)


def load_problem(problem: Problem, hop_bytes_per_second: float) -> LoadProblem:
    """Contract a problem to its units, in the semantics of hops through the host.

    Stages follow the forward pass; a backward op is where its unit is. Backward ops without a
    forward op in their unit come in the reverse order of the backward pass.

    Args:
        problem: of any graph; transfers of control edges and weights are free.
        hop_bytes_per_second: bandwidth between a device and the host's memory.
    """
    costs = hop_costs(problem.cluster, hop_bytes_per_second)
    scale = np.ones(problem.graph.op_count)
    arrays = _arrays(problem, problem.seconds, scale, costs, held_memory(problem, 0))
    return LoadProblem(problem, arrays, Transfers.HOPS)


def channel_problem(
    problem: Problem, request: Throughput, steps_held: int | None = None
) -> LoadProblem:
    """Contract a problem to its units, on the machine that the simulator runs.

    A core's load has what `HostCosts` say: exact for ops, sending, receiving and bytes; runs are
    counted for each tensor that comes in and each op that is always alone, and kernels take as long
    as if all other cores were at work.

    Args:
        steps_held: of which memory holds something on each device; None: as many as the request
            allows.
    """
    costs = channel_costs(problem.cluster)
    held = most_steps_held(problem, request) if steps_held is None else steps_held
    memory = held_memory(problem, held)
    scale = op_shares(problem, request.micro_batches)
    arrays = _arrays(problem, _host_seconds(problem), scale, costs, memory)
    return LoadProblem(problem, arrays, Transfers.CHANNELS, request)


def op_shares(problem: Problem, micro_batches: int) -> Float64[np.ndarray, " ops"]:
    """How often each op runs in a step: updates, and what depends on them, once in all
    micro-batches."""
    return np.where(step_phases(problem.graph) == Phase.UPDATE, 1.0 / micro_batches, 1.0)


def _host_seconds(problem: Problem) -> Float64[np.ndarray, "ops devices"]:
    seconds = problem.seconds.copy()
    hosts = [device.host for device in problem.cluster.devices]
    if not any(hosts):
        return seconds
    alone = runs_alone(problem.graph)
    works = seconds > 0
    for device, host in enumerate(hosts):
        if host is None:
            continue
        column = seconds[:, device] * (1.0 + host.contention * (len(hosts) > 1))
        more = host.op_seconds + alone * host.launch_seconds
        seconds[:, device] = column + np.where(works[:, device], more, 0.0)
    return seconds


def _arrays(
    problem: Problem,
    seconds: Float64[np.ndarray, "ops devices"],
    shares: Float64[np.ndarray, " ops"],
    costs: TransferCosts,
    memory: HeldMemory,
) -> LoadArrays:
    graph, unit_of, count = problem.graph, problem.unit_of, problem.unit_count
    unit_seconds = np.zeros((count, problem.cluster.device_count))
    for device in range(problem.cluster.device_count):
        unit_seconds[:, device] = np.bincount(unit_of, seconds[:, device] * shares, count)
    edges = graph.edge_tensors
    sent = ~np.isin(graph.tensor_storage[edges], (Storage.WEIGHT, Storage.CONTROL))
    makers = unit_of[graph.tensor_producers[edges]]
    crossing = sent & (makers != unit_of[graph.consumers])
    pairs = np.unique(np.stack([edges[crossing], unit_of[graph.consumers[crossing]]]), axis=1)
    tensors, numbers = np.unique(pairs[0], return_inverse=True)
    tensor_makers = unit_of[graph.tensor_producers[tensors]].astype(np.int32)
    of_tensor = np.zeros(graph.tensor_count)
    np.maximum.at(of_tensor, edges[crossing], shares[graph.consumers[crossing]])
    of_tensor = np.minimum(of_tensor, shares[graph.tensor_producers])
    owners = np.concatenate([tensor_makers, pairs[1]])
    touched = np.concatenate([np.arange(len(tensors)), numbers])
    reads = np.concatenate([np.zeros(len(tensors), np.int8), np.ones(len(numbers), np.int8)])
    by_owner = np.lexsort((touched, owners))
    weight_offsets, weights = _weight_reads(problem, memory)
    return LoadArrays(
        seconds=unit_seconds,
        memory_bytes=memory.unit_bytes,
        makers=tensor_makers,
        tensor_bytes=graph.tensor_bytes[tensors].astype(np.float64),
        shares=of_tensor[tensors],
        copy_bytes=memory.copy_bytes[tensors],
        reader_offsets=np.searchsorted(numbers, np.arange(len(tensors) + 1)).astype(np.int64),
        readers=pairs[1].astype(np.int32),
        touched_offsets=_offsets(owners, count),
        touched=touched[by_owner].astype(np.int32),
        touch_reads=reads[by_owner],
        weight_bytes=graph.tensor_bytes[memory.shared_weights].astype(np.float64),
        weight_offsets=weight_offsets,
        weights=weights,
        capacity_bytes=np.maximum(problem.cluster.memory_bytes - memory.reserve_bytes, 1.0),
        channel_seconds=np.zeros(channel_count(costs)),
        costs=costs,
    )


def _weight_reads(
    problem: Problem, memory: HeldMemory
) -> tuple[Int64[np.ndarray, " offsets"], Int32[np.ndarray, " reads"]]:
    """Shared weights that each unit reads, each once."""
    graph = problem.graph
    number = np.full(graph.tensor_count, -1, np.int64)
    number[memory.shared_weights] = np.arange(len(memory.shared_weights))
    edges = np.flatnonzero(number[graph.edge_tensors] >= 0)
    pairs = np.unique(
        np.stack([problem.unit_of[graph.consumers[edges]], number[graph.edge_tensors[edges]]]),
        axis=1,
    )
    return _offsets(pairs[0], problem.unit_count), pairs[1].astype(np.int32)


def _offsets(owners: np.ndarray, count: int) -> Int64[np.ndarray, " offsets"]:
    counts = np.bincount(owners, minlength=count)
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
