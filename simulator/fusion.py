"""Which ops may become one kernel, groups from priorities, and the graph that results.

A group is a tree that ends in one root: every other member is read only inside the group, so no
cycle can run through the outside. This is XLA's producer-consumer fusion without duplication;
a producer with readers in two kernels stays apart. Groups are found greedily by priority, the
action of Zhou et al. (arXiv 2010.12438, section 3).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int32

from graphs.graph import Graph
from graphs.kinds import FREE_KINDS, OpKind, Storage
from simulator.compiled import compiled_with_allocation
from simulator.errors import PlanError
from simulator.kernel_checks import check_array

#: Members of one kernel at most; beyond it registers spill and compile times explode.
MAX_GROUP_OPS = 32

#: One output element needs a few input elements, so that it can be computed where it is read.
POINTWISE = frozenset(
    {
        OpKind.ELEMENTWISE,
        OpKind.ACTIVATION,
        OpKind.CAST,
        OpKind.BROADCAST,
        OpKind.VIEW,
        OpKind.TRANSPOSE,
        OpKind.PAD,
        OpKind.SPLIT,
        OpKind.GATHER,
        OpKind.QUANTIZE,
        OpKind.ACCUMULATE,
    }
)
#: Can read fused inputs, at most one per kernel.
REDUCTIONS = frozenset(
    {
        OpKind.REDUCE,
        OpKind.SOFTMAX,
        OpKind.NORMALIZATION,
        OpKind.NORMALIZATION_GRAD,
        OpKind.LOSS,
        OpKind.CONCAT,
        OpKind.OPTIMIZER_UPDATE,
    }
)
#: Can have pointwise work appended (an epilogue), at most one per kernel.
CONTRACTIONS = frozenset({OpKind.MATMUL, OpKind.CONV, OpKind.CONV_GRAD, OpKind.DEPTHWISE_CONV})

_POINTWISE, _REDUCTION, _CONTRACTION, _ALONE = 0, 1, 2, 3


def fusion_classes(graph: Graph) -> Int32[np.ndarray, " ops"]:
    """Per op: pointwise 0, reduction 1, contraction 2, never fused 3."""
    table = np.full(len(OpKind), _ALONE, np.int32)
    for kinds, number in (
        (POINTWISE, _POINTWISE),
        (REDUCTIONS, _REDUCTION),
        (CONTRACTIONS, _CONTRACTION),
    ):
        table[[int(kind) for kind in kinds]] = number
    return table[graph.kinds]


def greedy_groups(
    graph: Graph,
    priorities: Float64[np.ndarray, " ops"],
    devices: Int32[np.ndarray, " ops"],
) -> Int32[np.ndarray, " ops"]:
    """Fuse producers into their consumers wherever it is legal, highest priority first.

    Ops whose priority is zero or less are not fused into their consumers. Returns a group per
    op, named by the index of its root, or -1.
    """
    order = np.argsort(-priorities, kind="stable").astype(np.int32)
    order = order[priorities[order] > 0]
    devices = devices.copy()  # numba compiles anew for arrays that cannot be written
    check_array("devices", devices, "int32", (graph.op_count,))
    groups = _greedy(
        order,
        fusion_classes(graph),
        devices,
        graph.output_offsets,
        graph.consumer_offsets,
        graph.consumers,
    )
    sizes = np.bincount(groups, minlength=graph.op_count)
    return np.where(sizes[groups] > 1, groups, -1).astype(np.int32)


def xla_like_groups(graph: Graph, devices: Int32[np.ndarray, " ops"]) -> Int32[np.ndarray, " ops"]:
    """Everything that may be fused, consumers first, as XLA's instruction fusion walks."""
    return greedy_groups(graph, np.arange(1.0, graph.op_count + 1), devices)


@compiled_with_allocation
def _greedy(
    order: Int32[np.ndarray, " prioritised"],
    classes: Int32[np.ndarray, " ops"],
    devices: Int32[np.ndarray, " ops"],
    output_offsets: np.ndarray,
    consumer_offsets: np.ndarray,
    consumers: Int32[np.ndarray, " edges"],
) -> np.ndarray:
    ops = classes.size
    parent = np.arange(ops).astype(np.int32)
    size = np.ones(ops, np.int32)
    heavy = ((classes == 1) | (classes == 2)).astype(np.int32)
    for op in order:
        if classes[op] != 0 and classes[op] != 2:
            continue
        target = -1
        legal = True
        first = consumer_offsets[output_offsets[op]]
        last = consumer_offsets[output_offsets[op + 1]]
        for edge in range(first, last):
            consumer = consumers[edge]
            if devices[consumer] != devices[op] or (
                classes[consumer] != 0 and not (classes[consumer] == 1 and classes[op] == 0)
            ):
                legal = False
                break
            root = consumer
            while parent[root] != root:
                parent[root] = parent[parent[root]]
                root = parent[root]
            if target >= 0 and root != target:
                legal = False
                break
            target = root
        if not legal or target < 0:
            continue
        if size[op] + size[target] > MAX_GROUP_OPS or heavy[op] + heavy[target] > 1:
            continue
        parent[op] = target
        size[target] += size[op]
        heavy[target] += heavy[op]
    for op in range(ops):
        root = op
        while parent[root] != root:
            root = parent[root]
        parent[op] = root
    return parent


def check_fusion(
    graph: Graph, fusion: Int32[np.ndarray, " ops"], devices: Int32[np.ndarray, " ops"]
) -> None:
    """Raise `PlanError` unless every group may become one kernel."""
    roots = kernel_roots(graph, fusion)
    members = np.flatnonzero(fusion >= 0)
    if members.size == 0:
        return

    def refuse(op: np.integer, why: str) -> None:
        raise PlanError(f"fusion group {fusion[op]}: op {graph.op_names[op]!r} {why}")

    classes = fusion_classes(graph)
    for op in members[classes[members] == _ALONE]:
        refuse(op, f"({graph.op_types[op]}) is of a kind that cannot be fused")
    for op in members[devices[members] != devices[roots[members]]]:
        refuse(op, "is on another device than the rest of its group")
    sizes = np.bincount(fusion[members])
    if sizes.max() > MAX_GROUP_OPS:
        raise PlanError(
            f"fusion group {sizes.argmax()} has {sizes.max()} ops; at most {MAX_GROUP_OPS} may fuse"
        )
    heavy = members[np.isin(classes[members], (_REDUCTION, _CONTRACTION))]
    if heavy.size and (crowded := np.bincount(fusion[heavy])).max() > 1:
        raise PlanError(
            f"fusion group {crowded.argmax()} has {crowded.max()} reductions or contractions; "
            "a kernel can hold one"
        )
    producers = graph.tensor_producers[graph.edge_tensors]
    inside = (fusion[producers] >= 0) & (fusion[producers] == fusion[graph.consumers])
    leaks = producers[~inside & (fusion[producers] >= 0)]
    for op in leaks[roots[leaks] != leaks]:
        refuse(op, "is read outside its group, but only the group's last op may be")
    into_contraction = inside & (classes[graph.consumers] == _CONTRACTION)
    for op in producers[into_contraction]:
        refuse(op, "feeds a contraction, whose inputs must be in memory")
    from_reduction = inside & (classes[producers] == _REDUCTION)
    for op in producers[from_reduction]:
        refuse(op, "is a reduction, which can only end a kernel")
    epilogue = inside & (classes[producers] == _CONTRACTION) & (classes[graph.consumers] != 0)
    for op in producers[epilogue]:
        refuse(op, "is a contraction, which only pointwise ops can follow in a kernel")
    connected = np.zeros(graph.op_count, bool)
    connected[producers[inside]] = True
    for op in members[~connected[members] & (roots[members] != members)]:
        refuse(op, "is not connected to its group")


def kernel_roots(graph: Graph, fusion: Int32[np.ndarray, " ops"]) -> Int32[np.ndarray, " ops"]:
    """The last op of each op's group; itself for an op of its own."""
    roots = np.arange(graph.op_count, dtype=np.int32)
    members = np.flatnonzero(fusion >= 0)
    if members.size:
        last = np.zeros(int(fusion[members].max()) + 1, np.int32)
        np.maximum.at(last, fusion[members], members.astype(np.int32))
        roots[members] = last[fusion[members]]
    return roots


@dataclass(frozen=True, eq=False)
class FusedGraph:
    """A graph whose ops are kernels, and which kernel each original op went into."""

    graph: Graph
    kernel_of: Int32[np.ndarray, " ops"]
    root_of: Int32[np.ndarray, " kernels"]
    """The original op whose place a kernel takes."""


def fuse(
    graph: Graph, fusion: Int32[np.ndarray, " ops"], devices: Int32[np.ndarray, " ops"]
) -> FusedGraph:
    """Contract fusion groups: flops add up, bytes count only what crosses a kernel's border.

    Raises:
        PlanError: a group that cannot be one kernel.
    """
    check_fusion(graph, fusion, devices)
    roots = kernel_roots(graph, fusion)
    root_of = np.unique(roots).astype(np.int32)
    kernel_of = np.searchsorted(root_of, roots).astype(np.int32)
    kernels = len(root_of)
    producers = graph.tensor_producers[graph.edge_tensors]
    inside = kernel_of[producers] == kernel_of[graph.consumers]
    is_root = roots[graph.tensor_producers] == graph.tensor_producers

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(kernel_of, values, kernels)

    edge_bytes = graph.tensor_bytes[graph.edge_tensors] * inside
    saved_reads = np.minimum(
        np.bincount(graph.consumers, edge_bytes, graph.op_count), graph.bytes_read
    )
    hidden = np.where(is_root, 0, graph.tensor_bytes)
    saved_writes = np.minimum(
        np.bincount(graph.tensor_producers, hidden, graph.op_count), graph.bytes_written
    )
    main = _main_ops(graph, kernel_of, kernels)
    kept = np.flatnonzero(is_root)
    renumber = np.cumsum(is_root, dtype=np.int32) - 1
    edge_kept = is_root[graph.edge_tensors]
    pairs = np.unique(
        np.stack([renumber[graph.edge_tensors[edge_kept]], kernel_of[graph.consumers[edge_kept]]]),
        axis=1,
    )
    storage, alias_of = graph.tensor_storage[kept].copy(), graph.tensor_alias_of[kept]
    lost = (storage == Storage.ALIAS) & ~is_root[alias_of]
    storage[lost] = Storage.BUFFER
    counts = np.bincount(pairs[0], minlength=len(kept))
    workspace = np.zeros(kernels, np.int64)
    np.maximum.at(workspace, kernel_of, graph.workspace_bytes)
    fused = Graph(
        name=graph.name,
        op_names=tuple(graph.op_names[op] for op in root_of),
        op_types=tuple(graph.op_types[op] for op in main),
        kinds=graph.kinds[main],
        phases=graph.phases[root_of],
        dtypes=graph.dtypes[main],
        flops=total(graph.flops),
        bytes_read=total(graph.bytes_read - saved_reads),
        bytes_written=total(graph.bytes_written - saved_writes),
        resident_bytes=total(graph.resident_bytes).astype(np.int64),
        workspace_bytes=workspace,
        launches=1 + total(graph.launches - 1).astype(np.int64),
        output_shapes=graph.output_shapes[root_of],
        colocation=graph.colocation[root_of],
        tensor_producers=kernel_of[graph.tensor_producers[kept]],
        tensor_bytes=graph.tensor_bytes[kept],
        tensor_storage=storage,
        tensor_alias_of=np.where(storage == Storage.ALIAS, renumber[alias_of], np.int32(-1)).astype(
            np.int32
        ),
        consumer_offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]),
        consumers=pairs[1].astype(np.int32),
        profiled_seconds={kind: total(seconds) for kind, seconds in graph.profiled_seconds.items()},
        report=graph.report,
    )
    return FusedGraph(fused, kernel_of, root_of)


def _main_ops(
    graph: Graph, kernel_of: Int32[np.ndarray, " ops"], kernels: int
) -> Int32[np.ndarray, " kernels"]:
    """The op that names a kernel's kind: a contraction or reduction, else the one moving most."""
    heavy = np.isin(fusion_classes(graph), (_REDUCTION, _CONTRACTION))
    free = np.isin(graph.kinds, [int(kind) for kind in FREE_KINDS])
    traffic = graph.bytes_read + graph.bytes_written
    order = np.lexsort((traffic, ~free, heavy, kernel_of))
    main = np.zeros(kernels, np.int32)
    main[kernel_of[order]] = order
    return main
