"""Part of a graph as a graph of its own."""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Int

from graphs.errors import GraphError
from graphs.graph import Graph
from graphs.kinds import OpKind, Storage


def subgraph(graph: Graph, ops: Int[np.ndarray, " chosen"]) -> Graph:
    """The chosen ops, and the edges between them.

    What they read from other ops comes from `INPUT` ops that bear those ops' names and cost
    nothing; control edges from outside are dropped, and so is what nobody chosen reads of them.

    Raises:
        GraphError: no ops, or an index out of range.
    """
    if len(ops) == 0 or ops.min() < 0 or ops.max() >= graph.op_count:
        raise GraphError(f"a subgraph needs ops between 0 and {graph.op_count - 1}; got {ops}")
    chosen = np.zeros(graph.op_count, bool)
    chosen[ops] = True
    own = chosen[graph.tensor_producers]
    edge_kept = chosen[graph.consumers] & (
        own[graph.edge_tensors] | (graph.tensor_storage[graph.edge_tensors] != Storage.CONTROL)
    )
    read = np.zeros(graph.tensor_count, bool)
    read[graph.edge_tensors[edge_kept]] = True
    tensor_kept = own | read
    stub = ~chosen
    stub[graph.tensor_producers[own]] = False
    op_kept = chosen.copy()
    op_kept[graph.tensor_producers[tensor_kept]] = True
    return _select(graph, op_kept, stub & op_kept, tensor_kept, edge_kept)


def _select(
    graph: Graph,
    op_kept: Bool[np.ndarray, " ops"],
    stub: Bool[np.ndarray, " ops"],
    tensor_kept: Bool[np.ndarray, " tensors"],
    edge_kept: Bool[np.ndarray, " edges"],
) -> Graph:
    op_number = np.cumsum(op_kept, dtype=np.int32) - 1
    tensor_number = np.cumsum(tensor_kept, dtype=np.int32) - 1
    kept = np.flatnonzero(op_kept)
    counts = np.bincount(graph.edge_tensors[edge_kept], minlength=graph.tensor_count)[tensor_kept]
    inside = ~stub[graph.tensor_producers]
    storage = graph.tensor_storage.copy()
    storage[~inside & np.isin(storage, (Storage.ALIAS, Storage.RESIDENT))] = Storage.BUFFER
    alias = np.where(storage == Storage.ALIAS, graph.tensor_alias_of, 0)

    def cost(values: np.ndarray) -> np.ndarray:
        return np.where(stub, 0, values)[kept].astype(values.dtype)

    return replace(
        graph,
        op_names=tuple(graph.op_names[op] for op in kept),
        op_types=tuple("Input" if stub[op] else graph.op_types[op] for op in kept),
        kinds=np.where(stub, np.uint8(OpKind.INPUT), graph.kinds)[kept].astype(np.uint8),
        phases=graph.phases[kept],
        dtypes=graph.dtypes[kept],
        flops=cost(graph.flops),
        bytes_read=cost(graph.bytes_read),
        bytes_written=cost(graph.bytes_written),
        resident_bytes=cost(graph.resident_bytes),
        workspace_bytes=cost(graph.workspace_bytes),
        launches=np.where(stub, 1, graph.launches)[kept].astype(np.int64),
        output_shapes=graph.output_shapes[kept],
        colocation=np.where(stub, -1, graph.colocation)[kept].astype(np.int32),
        tensor_producers=op_number[graph.tensor_producers[tensor_kept]],
        tensor_bytes=graph.tensor_bytes[tensor_kept],
        tensor_storage=storage[tensor_kept],
        tensor_alias_of=np.where(storage == Storage.ALIAS, tensor_number[alias], np.int32(-1))[
            tensor_kept
        ].astype(np.int32),
        consumer_offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        consumers=op_number[graph.consumers[edge_kept]],
        profiled_seconds={kind: cost(s) for kind, s in graph.profiled_seconds.items()},
    )
