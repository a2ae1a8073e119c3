"""Kernels as small graphs of op features, for learned cost models."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from graphs.graph import Graph
from graphs.kinds import DType

#: Buckets that op types are hashed into: the framework's own name tells apart what a kind joins.
OP_TYPE_BUCKETS = 256
FEATURES = 14


@dataclass(frozen=True, eq=False)
class KernelBatch:
    """Several kernels as one disconnected graph."""

    kinds: Int64[np.ndarray, " nodes"]
    op_types: Int64[np.ndarray, " nodes"]
    """Hashed into `OP_TYPE_BUCKETS`."""
    features: Float32[np.ndarray, "nodes features"]
    edges: Int64[np.ndarray, "2 edges"]
    """Producer and consumer, as nodes."""
    kernel_of: Int64[np.ndarray, " nodes"]
    count: int
    """Kernels."""


def op_features(graph: Graph) -> Float32[np.ndarray, "ops features"]:
    """Logarithms of work and sizes, and a few flags, per op."""

    def log(values: np.ndarray) -> np.ndarray:
        return np.log2(1.0 + values.astype(np.float64)) / 10.0

    element = np.array([DType(code).element_bytes for code in graph.dtypes.tolist()])
    moved = graph.bytes_read + graph.bytes_written
    columns = [
        log(graph.flops),
        log(graph.bytes_read),
        log(graph.bytes_written),
        log(graph.resident_bytes),
        log(graph.workspace_bytes),
        log(graph.flops / np.maximum(moved, 1.0)),
        *(log(graph.output_shapes[:, axis]) for axis in range(4)),
        element / 8.0,
        (graph.flops > 0).astype(np.float64),
        np.diff(graph.input_offsets) / 4.0,
        log(np.maximum(graph.bytes_read - graph.resident_bytes, 0.0)),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def kernel_batch(graph: Graph, kernels: Sequence[Sequence[int]]) -> KernelBatch:
    """The given groups of ops, each a kernel, with the edges inside."""
    ops = np.array([op for kernel in kernels for op in kernel], np.int64)
    owner = np.repeat(np.arange(len(kernels)), [len(kernel) for kernel in kernels])
    position = np.full(graph.op_count, -1, np.int64)
    kernel_at = np.full(graph.op_count, -1, np.int64)
    position[ops], kernel_at[ops] = np.arange(len(ops)), owner
    sources = graph.tensor_producers[graph.edge_tensors]
    inside = (kernel_at[sources] >= 0) & (kernel_at[sources] == kernel_at[graph.consumers])
    hashes = np.array(
        [zlib.crc32(graph.op_types[op].encode()) % OP_TYPE_BUCKETS for op in ops.tolist()], np.int64
    )
    return KernelBatch(
        kinds=graph.kinds[ops].astype(np.int64),
        op_types=hashes,
        features=op_features(graph)[ops],
        edges=np.stack([position[sources[inside]], position[graph.consumers[inside]]]),
        kernel_of=owner.astype(np.int64),
        count=len(kernels),
    )


def joined(batches: Sequence[KernelBatch]) -> KernelBatch:
    """Several batches as one."""
    nodes = np.cumsum([0, *(len(batch.kinds) for batch in batches)])
    counts = np.cumsum([0, *(batch.count for batch in batches)])
    return KernelBatch(
        np.concatenate([batch.kinds for batch in batches]),
        np.concatenate([batch.op_types for batch in batches]),
        np.concatenate([batch.features for batch in batches]),
        np.concatenate([b.edges + nodes[i] for i, b in enumerate(batches)], axis=1),
        np.concatenate([b.kernel_of + counts[i] for i, b in enumerate(batches)]),
        int(counts[-1]),
    )


def chosen(batch: KernelBatch, kernels: Int64[np.ndarray, " chosen"]) -> KernelBatch:
    """Some of the kernels, in the given order."""
    number = np.full(batch.count, -1, np.int64)
    number[kernels] = np.arange(len(kernels))
    kept = np.flatnonzero(number[batch.kernel_of] >= 0)
    position = np.full(len(batch.kinds), -1, np.int64)
    position[kept] = np.arange(len(kept))
    edges = position[batch.edges]
    return KernelBatch(
        batch.kinds[kept],
        batch.op_types[kept],
        batch.features[kept],
        edges[:, (edges >= 0).all(axis=0)],
        number[batch.kernel_of[kept]],
        len(kernels),
    )
