"""Kernels as small graphs of op features, for learned cost models."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

from graphs.graph import Graph
from graphs.kinds import DType, OpKind
from simulator.costs.contractions import matrix_products, op_inputs

#: Buckets that op types are hashed into: the framework's own name tells apart what a kind joins.
#: So many that types of one framework hardly ever meet.
OP_TYPE_BUCKETS = 4093
FEATURES = 68
TOTALS = 6
#: Bytes around which caches end; the network sees on which side of them a kernel lies.
_CACHES = (32 << 10, 256 << 10, 2 << 20, 16 << 20)
#: Numbers in a vector register, and rows of a block in the usual matrix kernels.
_VECTOR, _BLOCK = 16, 12
#: Dimensions of the first input and of the output whose equality tells transpositions apart.
_CROSSED = ((3, 2), (2, 3), (3, 1), (1, 3), (2, 1), (1, 2))


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
    totals: Float32[np.ndarray, "kernels totals"]
    """Logarithms of a kernel's flops, of the bytes that it reads and writes across its border, of
    the different tensors that it reads and of their bytes, and of its ops."""
    count: int
    """Kernels."""


def op_features(graph: Graph) -> Float32[np.ndarray, "ops features"]:
    """Work, shapes, the matrix product behind a contraction, and where caches and vectors end.

    Sizes are logarithms; what is not there is zero.
    """
    inputs = op_inputs(graph)
    product = matrix_products(graph, inputs)
    element = np.array([DType(code).element_bytes for code in graph.dtypes.tolist()])
    moved = graph.bytes_read + graph.bytes_written
    output = graph.output_shapes.astype(np.float64)
    first, second = inputs.shapes
    elements = np.maximum(output.prod(axis=1), 1.0)
    there = product.rows > 0
    columns = [
        _log(graph.flops),
        _log(graph.bytes_read),
        _log(graph.bytes_written),
        _log(inputs.weight_bytes),
        _log(graph.workspace_bytes),
        _log(graph.flops / np.maximum(moved, 1.0)),
        _log(graph.flops / elements),
        *(_log(shape[:, axis]) for shape in (output, first, second) for axis in range(4)),
        *(_log(size) for size in inputs.sizes),
        _log(inputs.bytes),
        _log(elements),
        _log(first.prod(axis=1)) - _log(elements),
        _log(second.prod(axis=1)) - _log(elements),
        inputs.count / 4.0,
        element / 8.0,
        graph.flops > 0,
        *(shape[:, axis] == output[:, axis] for shape in (first, second) for axis in range(4)),
        *(first[:, a] == output[:, b] for a, b in _CROSSED),
        *(_log(size) for size in (product.rows, product.columns, product.inner, product.count)),
        np.where(there, np.log2(np.maximum(product.stride, 0.25)), 0.0),
        _log(product.window),
        _log(product.groups),
        *transposition(graph, first),
        _log(product.columns * product.inner),
        _log(product.rows * product.inner),
        product.rows == 1,
        product.columns == 1,
        _waste_of(product.rows, _BLOCK),
        _waste_of(product.columns, _VECTOR),
        _waste_of(product.inner, _VECTOR),
        _waste_of(output[:, 3], _VECTOR),
        _waste_of(output[:, 3], 4),
        _waste_of(first[:, 3], _VECTOR),
        *(_beyond(moved, size) for size in _CACHES),
        *(_beyond(inputs.weight_bytes, size) for size in _CACHES[1:3]),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def transposition(
    graph: Graph, first: Float64[np.ndarray, "ops 4"]
) -> Float64[np.ndarray, "3 ops"]:
    """How far a transposition jumps, as logarithms: elements that stay together, elements between
    what the output has side by side, and between what the input has so. Zero for other ops."""
    result = np.zeros((3, graph.op_count))
    for op in np.flatnonzero(graph.kinds == OpKind.TRANSPOSE).tolist():
        before = [int(size) for size in first[op] if size > 1]
        after = [int(size) for size in graph.output_shapes[op] if size > 1]
        if before == after or not before:  # equal sizes change places, or a weight's do
            before = [*after[:-2], *after[:-3:-1]]
        if sorted(before) != sorted(after) or len(after) < 2:
            continue
        kept = 1
        while before != after and before[-1] == after[-1]:
            kept *= before.pop()
            after.pop()
        if before == after:
            result[:, op] = 1, after[-1], after[-1]
        elif before:
            source = max(at for at, size in enumerate(before) if size == after[-1])
            target = max(at for at, size in enumerate(after) if size == before[-1])
            jumps = np.prod(before[source + 1 :]) * kept, np.prod(after[target + 1 :]) * kept
            result[:, op] = kept, *jumps
    return _log(result)


def _log(values: np.ndarray) -> np.ndarray:
    return np.log2(1.0 + np.maximum(values.astype(np.float64), 0.0)) / 10.0


def _waste_of(sizes: np.ndarray, step: int) -> np.ndarray:
    """Logarithm of how much longer a loop is that goes in steps."""
    sizes = np.maximum(sizes, 1.0)
    return np.log2(np.ceil(sizes / step) * step / sizes)


def _beyond(sizes: np.ndarray, limit: int) -> np.ndarray:
    """From zero to one where sizes pass a limit, mostly within a factor of two."""
    return 1.0 / (1.0 + (np.maximum(sizes, 1.0) / limit) ** -2.0)


def kernel_totals(
    graph: Graph, kernels: Sequence[Sequence[int]]
) -> Float64[np.ndarray, "kernels totals"]:
    """Flops, bytes read and written across its border, different tensors read and their bytes, and
    ops of each kernel, whose last op is the one that hands its result out."""
    rows = np.zeros((len(kernels), TOTALS))
    for row, kernel in enumerate(kernels):
        ops = np.array(kernel, np.int64)
        read = dict(zip(kernel, graph.bytes_read[ops].tolist(), strict=True))
        written = dict(zip(kernel, graph.bytes_written[ops].tolist(), strict=True))
        for op in kernel if len(kernel) > 1 else ():
            for tensor in graph.outputs_of(op):
                size, readers = int(graph.tensor_bytes[tensor]), graph.consumers_of(tensor).tolist()
                kept = [reader for reader in readers if reader in read]
                for reader in kept:
                    read[reader] = max(read[reader] - size, 0.0)
                if op != kernel[-1] and len(kept) == len(readers):
                    written[op] = max(written[op] - size, 0.0)
        seen = {int(tensor) for op in kernel for tensor in graph.inputs_of(op)}
        seen -= {tensor for op in kernel for tensor in graph.outputs_of(op)}
        size = sum(graph.tensor_bytes[tensor].item() for tensor in seen)
        crossing = sum(read.values()), sum(written.values())
        rows[row] = graph.flops[ops].sum(), *crossing, len(seen), size, len(ops)
    return rows


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
        totals=_log(kernel_totals(graph, kernels)).astype(np.float32),
        count=len(kernels),
    )


def join_batches(batches: Sequence[KernelBatch]) -> KernelBatch:
    """Several batches as one."""
    nodes = np.cumsum([0, *(len(batch.kinds) for batch in batches)])
    counts = np.cumsum([0, *(batch.count for batch in batches)])
    return KernelBatch(
        np.concatenate([batch.kinds for batch in batches]),
        np.concatenate([batch.op_types for batch in batches]),
        np.concatenate([batch.features for batch in batches]),
        np.concatenate([b.edges + nodes[i] for i, b in enumerate(batches)], axis=1),
        np.concatenate([b.kernel_of + counts[i] for i, b in enumerate(batches)]),
        np.concatenate([batch.totals for batch in batches]),
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
        batch.totals[kernels],
        len(kernels),
    )
