"""The program of a graph's fused kernels, rebuilt in place: what `simulator.fusion.fuse` and
`simulator.event_engine.program.make_program` come to, by compiled code.

Ops keep their numbers, so that nothing is laid out anew but edges. A kernel is its root op; other
members have no work, no outputs that anybody reads, and wait for an input that never comes: the
engine never starts them. Which ops share a kernel follows from wishes and devices: an op is fused
into its consumers' kernel where it wishes to be and that is legal, consumers first
(`simulator.fusion.greedy_groups`). So any wishes on any devices are a legal plan.

Costs are those of the roofline, to the last bit; `can_rebuild` says for which problems.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int32, Int64, UInt8

from graphs.kinds import FREE_KINDS, DType, OpKind, Storage
from placement.problem import Problem
from simulator.clusters.cluster import Device
from simulator.compiled import inlined
from simulator.costs.cost_model import RooflineCosts
from simulator.event_engine.program import ProgramArrays
from simulator.fusion import MAX_GROUP_OPS, fusion_classes
from simulator.kernel_checks import check_record

#: Classes of `simulator.fusion.fusion_classes` that can be fused into what reads them.
FUSIBLE_CLASSES = (0, 2)

_CONTROL_FLOW = int(OpKind.CONTROL_FLOW)


class Sources(NamedTuple):
    """The graph and the devices, as the rebuilding reads them; none of it changes."""

    classes: Int32[np.ndarray, " ops"]
    kinds: Int32[np.ndarray, " ops"]
    dtypes: Int32[np.ndarray, " ops"]
    flops: Float64[np.ndarray, " ops"]
    bytes_read: Float64[np.ndarray, " ops"]
    bytes_written: Float64[np.ndarray, " ops"]
    launches: Int64[np.ndarray, " ops"]
    resident_bytes: Int64[np.ndarray, " ops"]
    workspace_bytes: Int64[np.ndarray, " ops"]
    output_offsets: Int64[np.ndarray, " ops+1"]
    input_offsets: Int64[np.ndarray, " ops+1"]
    input_tensors: Int32[np.ndarray, " all_edges"]
    """The tensors that each op reads, weights too."""
    consumer_offsets: Int64[np.ndarray, " all_tensors+1"]
    consumers: Int32[np.ndarray, " all_edges"]
    tensor_producers: Int32[np.ndarray, " all_tensors"]
    tensor_bytes: Int64[np.ndarray, " all_tensors"]
    place: Int32[np.ndarray, " all_tensors"]
    """Where the program has the tensor: among its tensors, or among its weights."""
    is_weight: UInt8[np.ndarray, " all_tensors"]
    alias_of: Int32[np.ndarray, " all_tensors"]
    """The tensor that a view shares, or -1."""
    local_bytes: Int64[np.ndarray, " all_tensors"]
    """Of a tensor that is no view."""
    refused: UInt8[np.ndarray, "ops devices"]
    is_free: UInt8[np.ndarray, " kinds"]
    flops_per_second: Float64[np.ndarray, "devices dtypes"]
    bytes_per_second: Float64[np.ndarray, " devices"]
    efficiency: Float64[np.ndarray, "devices kinds"]
    launch_seconds: Float64[np.ndarray, " devices"]
    like: Int32[np.ndarray, " devices"]
    """The first device on which everything takes as long."""


class Kernels(NamedTuple):
    """Which kernels the program holds at present, and room for the next ones."""

    wishes: UInt8[np.ndarray, " ops"]
    """1 for ops that are to be fused into their consumers' kernel."""
    roots: Int32[np.ndarray, " ops"]
    """Of the plan at hand; `built` is what the program was rebuilt for."""
    built: Int32[np.ndarray, " ops"]
    sizes: Int32[np.ndarray, " ops"]
    heavy: Int32[np.ndarray, " ops"]
    changed: UInt8[np.ndarray, " ops"]
    """Roots whose kernel is costed anew."""
    main: Int32[np.ndarray, " ops"]
    totals: Float64[np.ndarray, "ops 4"]
    """Flops, bytes read and written, launches beyond the first, by root."""
    ranks: Int32[np.ndarray, " ops"]
    """A kernel has the most urgent rank of its members."""


def can_rebuild(problem: Problem) -> bool:
    """Whether compiled code knows what kernels cost: roofline, on devices without host costs."""
    return type(problem.costs) is RooflineCosts and not any(
        device.host is not None for device in problem.cluster.devices
    )


def make_sources(problem: Problem) -> Sources:
    """What it takes to rebuild the kernels of a problem."""
    graph, devices = problem.graph, problem.cluster.devices
    is_weight = graph.tensor_storage == Storage.WEIGHT
    columns = problem.simulator.seconds
    given = problem.given_cluster.devices
    like = [
        next(
            first
            for first in range(at + 1)
            if _speed(given[first]) == _speed(given[at])
            and np.array_equal(columns[:, first], columns[:, at])
        )
        for at in range(len(devices))
    ]
    sources = Sources(
        classes=fusion_classes(graph),
        kinds=graph.kinds.astype(np.int32),
        dtypes=graph.dtypes.astype(np.int32),
        flops=graph.flops.copy(),
        bytes_read=graph.bytes_read.copy(),
        bytes_written=graph.bytes_written.copy(),
        launches=graph.launches.copy(),
        resident_bytes=graph.resident_bytes.copy(),
        workspace_bytes=graph.workspace_bytes.copy(),
        output_offsets=graph.output_offsets.copy(),
        input_offsets=graph.input_offsets.copy(),
        input_tensors=graph.edge_tensors[graph.input_edges],
        consumer_offsets=graph.consumer_offsets.copy(),
        consumers=graph.consumers.copy(),
        tensor_producers=graph.tensor_producers.copy(),
        tensor_bytes=graph.tensor_bytes.copy(),
        place=np.where(
            is_weight, np.cumsum(is_weight, dtype=np.int32), np.cumsum(~is_weight, dtype=np.int32)
        ).astype(np.int32)
        - 1,
        is_weight=is_weight.astype(np.uint8),
        alias_of=np.where(
            graph.tensor_storage == Storage.ALIAS, graph.tensor_alias_of, np.int32(-1)
        ).astype(np.int32),
        local_bytes=np.where(
            np.isin(graph.tensor_storage, (Storage.BUFFER, Storage.ALIAS)), graph.tensor_bytes, 0
        ),
        refused=np.isinf(columns).astype(np.uint8),
        is_free=np.isin(np.arange(len(OpKind)), [int(kind) for kind in FREE_KINDS]).astype(
            np.uint8
        ),
        flops_per_second=np.array(
            [[device.peak_flops_per_second(dtype) for dtype in DType] for device in given]
        ),
        bytes_per_second=np.array([device.memory_bytes_per_second for device in given], float),
        efficiency=np.array(
            [[device.efficiency.get(kind.name.lower(), 1.0) for kind in OpKind] for device in given]
        ),
        launch_seconds=np.array([device.launch_seconds for device in given], float),
        like=np.array(like, np.int32),
    )
    check_record(sources)
    return sources


def _speed(device: Device) -> str:
    return repr(replace(device, name="-", memory_bytes=1))


def room_for_kernels(program: ProgramArrays) -> ProgramArrays:
    """A copy of an unfused program in which kernels can be laid out."""
    return program._replace(
        seconds=program.seconds.copy(),
        consumer_offsets=program.consumer_offsets.copy(),
        consumers=program.consumers.copy(),
        edge_tensors=program.edge_tensors.copy(),
        input_offsets=program.input_offsets.copy(),
        # Members that are no roots wait for one edge each.
        input_edges=np.zeros(len(program.input_edges) + len(program.seconds), np.int32),
        local_bytes=program.local_bytes.copy(),
        alias_edges=program.alias_edges.copy(),
        resident_bytes=program.resident_bytes.copy(),
        workspace_bytes=program.workspace_bytes.copy(),
        weight_offsets=program.weight_offsets.copy(),
        weight_consumers=program.weight_consumers.copy(),
    )


def make_kernels(wishes: np.ndarray) -> Kernels:
    """Room for kernels; nothing is built yet."""
    ops = len(wishes)
    kernels = Kernels(
        wishes=wishes.astype(np.uint8),
        roots=np.zeros(ops, np.int32),
        built=np.full(ops, -1, np.int32),
        sizes=np.zeros(ops, np.int32),
        heavy=np.zeros(ops, np.int32),
        changed=np.zeros(ops, np.uint8),
        main=np.zeros(ops, np.int32),
        totals=np.zeros((ops, 4)),
        ranks=np.zeros(ops, np.int32),
    )
    check_record(kernels, ops=ops)
    return kernels


@inlined
def find_kernels(g: Sources, k: Kernels, devices: Int32[np.ndarray, " ops"]) -> bool:
    """Fuse what wishes to be and may; whether the program is of other kernels."""
    other = False
    for op in range(devices.size):
        k.sizes[op] = 1
        k.heavy[op] = 1 if g.classes[op] == 1 or g.classes[op] == 2 else 0
    for back in range(devices.size):
        op = devices.size - 1 - back
        root = op
        if k.wishes[op] != 0 and (g.classes[op] == 0 or g.classes[op] == 2):
            root = _kernel_of_consumers(g, k, devices, op)
            if root < 0 or (
                k.sizes[op] + k.sizes[root] > MAX_GROUP_OPS or k.heavy[op] + k.heavy[root] > 1
            ):
                root = op
        if root != op:
            k.sizes[root] += k.sizes[op]
            k.heavy[root] += k.heavy[op]
        k.roots[op] = root
        other |= root != k.built[op]
    return other


@inlined
def _kernel_of_consumers(
    g: Sources, k: Kernels, devices: Int32[np.ndarray, " ops"], op: int
) -> int:
    """Root of the one kernel that reads an op and may hold it, or -1."""
    target = -1
    for edge in range(
        g.consumer_offsets[g.output_offsets[op]], g.consumer_offsets[g.output_offsets[op + 1]]
    ):
        consumer = g.consumers[edge]
        of = g.classes[consumer]
        if devices[consumer] != devices[op] or (of != 0 and not (of == 1 and g.classes[op] == 0)):
            return -1
        root = k.roots[consumer]
        if target >= 0 and root != target:
            return -1
        target = root
    return target


@inlined
def rebuild(g: Sources, k: Kernels, p: ProgramArrays) -> None:
    """Lay out the kernels that were found; those that were there before keep their costs."""
    ops = k.roots.size
    for op in range(ops):
        k.changed[op] = 0
    for op in range(ops):
        if k.roots[op] != k.built[op]:
            k.changed[k.roots[op]] = 1
            k.changed[k.built[op] if k.built[op] >= 0 else op] = 1
    for op in range(ops):
        k.built[op] = k.roots[op]
        if k.changed[op] != 0:
            k.main[op] = -1
            k.totals[op, :] = 0.0
            p.seconds[op, :] = 0.0
            p.resident_bytes[op] = 0
            p.workspace_bytes[op] = 0
    for op in range(ops):
        if k.changed[k.roots[op]] != 0:
            _add_member(g, k, p, op, k.roots[op])
    for op in range(ops):
        if k.changed[op] != 0:
            _cost(g, k, p, op)
    _lay_out_edges(g, k, p)


@inlined
def _add_member(g: Sources, k: Kernels, p: ProgramArrays, op: int, root: int) -> None:
    saved_reads = 0.0
    for index in range(g.input_offsets[op], g.input_offsets[op + 1]):
        tensor = g.input_tensors[index]
        if k.roots[g.tensor_producers[tensor]] == root:
            saved_reads += g.tensor_bytes[tensor]
    saved_writes = 0.0
    if op != root:
        for tensor in range(g.output_offsets[op], g.output_offsets[op + 1]):
            saved_writes += g.tensor_bytes[tensor]
    k.totals[root, 0] += g.flops[op]
    k.totals[root, 1] += g.bytes_read[op] - min(saved_reads, g.bytes_read[op])
    k.totals[root, 2] += g.bytes_written[op] - min(saved_writes, g.bytes_written[op])
    k.totals[root, 3] += g.launches[op] - 1
    p.resident_bytes[root] += g.resident_bytes[op]
    p.workspace_bytes[root] = max(p.workspace_bytes[root], g.workspace_bytes[op])
    for device in range(g.like.size):
        if g.refused[op, device] != 0:
            p.seconds[root, device] = np.inf
    main = k.main[root]
    if main < 0 or not _names_before(g, main, op):
        k.main[root] = op


@inlined
def _names_before(g: Sources, one: int, other: int) -> bool:
    """Whether the first op names a kernel's kind rather than the second, which comes later."""
    heavy, rival = (
        g.classes[one] == 1 or g.classes[one] == 2,
        (g.classes[other] == 1 or g.classes[other] == 2),
    )
    if heavy != rival:
        return heavy
    free, rival_free = g.is_free[g.kinds[one]] != 0, g.is_free[g.kinds[other]] != 0
    if free != rival_free:
        return rival_free
    return g.bytes_read[one] + g.bytes_written[one] > g.bytes_read[other] + g.bytes_written[other]


@inlined
def _cost(g: Sources, k: Kernels, p: ProgramArrays, root: int) -> None:
    """Seconds of a kernel on each device, as the roofline has them."""
    main = k.main[root]
    for device in range(g.like.size):
        if main < 0 or p.seconds[root, device] == np.inf:
            continue
        if g.like[device] != device:
            p.seconds[root, device] = p.seconds[root, g.like[device]]
            continue
        kind = g.kinds[main]
        traffic = k.totals[root, 1] + k.totals[root, 2]
        compute = k.totals[root, 0] / g.flops_per_second[device, g.dtypes[main]]
        memory = traffic / g.bytes_per_second[device]
        seconds = max(compute, memory) / g.efficiency[device, kind]
        seconds += (1.0 + k.totals[root, 3]) * g.launch_seconds[device]
        if g.is_free[kind] != 0 or (
            kind == _CONTROL_FLOW and k.totals[root, 0] == 0.0 and traffic == 0.0
        ):
            seconds = 0.0
        p.seconds[root, device] = seconds


@inlined
def _lay_out_edges(g: Sources, k: Kernels, p: ProgramArrays) -> None:
    ops = k.roots.size
    edges, weight_edges = 0, 0
    p.consumer_offsets[0] = 0
    p.weight_offsets[0] = 0
    for op in range(ops + 1):
        p.input_offsets[op] = 0
    for tensor in range(g.place.size):
        producer = g.tensor_producers[tensor]
        place = g.place[tensor]
        hidden = k.roots[producer] != producer
        if g.is_weight[tensor] != 0:
            weight_edges = _readers(g, k, tensor, p.weight_consumers, weight_edges)
            p.weight_offsets[place + 1] = weight_edges
            continue
        first = edges
        if not hidden:
            edges = _readers(g, k, tensor, p.consumers, edges)
            for edge in range(first, edges):
                p.edge_tensors[edge] = place
                p.input_offsets[p.consumers[edge] + 1] += 1
        p.consumer_offsets[place + 1] = edges
        shared = g.alias_of[tensor]
        if shared >= 0:
            _alias(g, k, p, tensor, shared, hidden)
    for op in range(ops):
        if k.roots[op] != op:
            p.input_offsets[op + 1] = 1  # what never comes
        p.input_offsets[op + 1] += p.input_offsets[op]
    for edge in range(edges):
        op = p.consumers[edge]
        p.input_edges[p.input_offsets[op]] = edge
        p.input_offsets[op] += 1
    # Each offset of a root has moved on to where the next op's begin.
    end = 0
    for op in range(ops):
        following = p.input_offsets[op] if k.roots[op] == op else p.input_offsets[op] + 1
        p.input_offsets[op] = end
        end = following


@inlined
def _alias(
    g: Sources, k: Kernels, p: ProgramArrays, tensor: int, shared: int, hidden: bool
) -> None:
    """A view keeps what it views alive, unless that stays inside of a kernel."""
    place, owner = g.place[tensor], g.tensor_producers[shared]
    p.alias_edges[place] = -1
    if hidden:
        return
    if k.roots[owner] != owner:
        p.local_bytes[place] = g.local_bytes[tensor]
        return
    p.local_bytes[place] = 0
    if g.is_weight[shared] == 0:
        producer = g.tensor_producers[tensor]
        at = g.place[shared]
        for edge in range(p.consumer_offsets[at], p.consumer_offsets[at + 1]):
            if p.consumers[edge] == producer:
                p.alias_edges[place] = edge


@inlined
def _readers(
    g: Sources, k: Kernels, tensor: int, into: Int32[np.ndarray, " edges"], first: int
) -> int:
    """Write the kernels that read a tensor, ascending and once each; returns where they end."""
    end = first
    for edge in range(g.consumer_offsets[tensor], g.consumer_offsets[tensor + 1]):
        root = k.roots[g.consumers[edge]]
        at = end
        while at > first and into[at - 1] > root:
            at -= 1
        if at > first and into[at - 1] == root:
            continue
        for index in range(end, at, -1):
            into[index] = into[index - 1]
        into[at] = root
        end += 1
    return end


@inlined
def rank_kernels(k: Kernels, ranks: Int32[np.ndarray, " ops"]) -> None:
    """A permutation in which each root has the most urgent rank of its kernel."""
    for op in range(ranks.size):
        k.ranks[op] = ranks[op]
    for op in range(ranks.size):
        root = k.roots[op]
        if root != op and k.ranks[op] < k.ranks[root]:
            k.ranks[op], k.ranks[root] = k.ranks[root], k.ranks[op]
