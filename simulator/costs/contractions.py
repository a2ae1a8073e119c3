"""Contractions as matrix products: what a graph's flops, shapes and weights imply."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from graphs.graph import Graph
from graphs.kinds import DType, OpKind, Storage


@dataclass(frozen=True, eq=False)
class OpInputs:
    """What each op reads that other ops made, the largest first, and the weights that it holds."""

    shapes: Float64[np.ndarray, "2 ops 4"]
    """Shapes of the two largest tensors, as in `Graph.output_shapes`; zero where there is none."""
    sizes: Float64[np.ndarray, "2 ops"]
    """Their bytes."""
    count: Float64[np.ndarray, " ops"]
    bytes: Float64[np.ndarray, " ops"]
    """Bytes of all tensors together."""
    weight_bytes: Float64[np.ndarray, " ops"]


def op_inputs(graph: Graph) -> OpInputs:
    """Inputs by size. A weight that several ops read is an op of its own in some graphs; it counts
    as a weight here all the same."""
    tensors, readers = graph.edge_tensors, graph.consumers
    storage = graph.tensor_storage[tensors]
    held = np.isin(storage, (Storage.WEIGHT, Storage.RESIDENT))
    shared = np.bincount(readers[held], graph.tensor_bytes[tensors[held]], graph.op_count)
    weights = graph.resident_bytes + shared.astype(np.float64)
    read = np.flatnonzero(~held & (storage != Storage.CONTROL))
    size = graph.tensor_bytes[tensors[read]]
    read = read[np.lexsort((-size, readers[read]))]
    owner, size = readers[read], graph.tensor_bytes[tensors[read]].astype(np.float64)
    count = np.bincount(owner, minlength=graph.op_count)
    rank = np.arange(len(read)) - np.repeat(np.cumsum(count) - count, count)
    shapes = np.zeros((2, graph.op_count, 4))
    sizes = np.zeros((2, graph.op_count))
    for place in range(2):
        those = rank == place
        producers = graph.tensor_producers[tensors[read[those]]]
        shapes[place, owner[those]] = graph.output_shapes[producers]
        sizes[place, owner[those]] = size[those]
    total = np.bincount(owner, size, graph.op_count)
    return OpInputs(shapes, sizes, count.astype(np.float64), total, weights)


@dataclass(frozen=True, eq=False)
class MatrixProducts:
    """`count` products of `rows` by `inner` with `inner` by `columns` for each op; zero where an op
    is none. A convolution has its output channels as rows and its output pixels as columns."""

    rows: Float64[np.ndarray, " ops"]
    columns: Float64[np.ndarray, " ops"]
    inner: Float64[np.ndarray, " ops"]
    count: Float64[np.ndarray, " ops"]
    stride: Float64[np.ndarray, " ops"]
    """Input pixels for each output pixel of a convolution."""
    window: Float64[np.ndarray, " ops"]
    """Pixels under a convolution's kernel."""
    groups: Float64[np.ndarray, " ops"]
    """Groups of channels; already part of `count`."""


def matrix_products(graph: Graph, inputs: OpInputs) -> MatrixProducts:
    """What each matrix product and convolution multiplies."""
    kinds = graph.kinds
    conv = np.isin(kinds, (OpKind.CONV, OpKind.DEPTHWISE_CONV))
    some = (conv | (kinds == OpKind.MATMUL)) & (graph.flops > 0)
    shape = graph.output_shapes.astype(np.float64)
    elements = np.maximum(shape.prod(axis=1), 1.0)
    inner = np.floor(graph.flops / elements / 2.0)  # a bias is one more flop
    together = inputs.count <= 1  # with a weight, all rows of a batch are one matrix
    batch = shape[:, 0] * shape[:, 1]
    rows = np.where(together, shape[:, 2] * batch, shape[:, 2])
    count = np.where(together, 1.0, batch)
    columns = shape[:, 3]

    element = np.array([DType(code).element_bytes for code in graph.dtypes.tolist()])
    weights = inputs.weight_bytes / np.maximum(element, 0.5)
    flat = _nearer(shape[:, 2] * inner, shape[:, 1] * inner, weights)  # [1, batch, channels, line]
    channels = np.where(flat, shape[:, 2], shape[:, 1])
    images = np.where(flat, shape[:, 1], shape[:, 0])
    pixels = np.where(flat, shape[:, 3], shape[:, 2] * shape[:, 3])
    seen = inputs.shapes[0]
    pixels_in = np.where(flat, seen[:, 3], seen[:, 2] * seen[:, 3])
    channels_in = np.where(flat, seen[:, 2], seen[:, 1])
    alone = kinds == OpKind.DEPTHWISE_CONV
    shared = inner / np.maximum(channels_in, 1.0)  # pixels under the kernel, over groups
    groups = np.where(alone, channels, _groups(shared, channels_in, channels, conv & ~alone))

    def chosen(of_convolution: np.ndarray, of_product: np.ndarray) -> np.ndarray:
        return np.where(some, np.where(conv, of_convolution, of_product), 0.0)

    nothing = np.zeros(graph.op_count)
    return MatrixProducts(
        rows=chosen(channels / groups, rows),
        columns=chosen(pixels, columns),
        inner=np.where(some, np.maximum(inner, 1.0), 0.0),
        count=chosen(images * groups, count),
        stride=chosen(pixels_in / np.maximum(pixels, 1.0), nothing),
        window=chosen(np.where(alone, inner, shared * groups), nothing),
        groups=chosen(groups, nothing),
    )


#: Kernels of convolutions, in pixels, the likelier first.
_WINDOWS = (9, 1, 25, 49, 3, 5, 7, 4, 16, 81, 121, 256)


def _groups(
    shared: np.ndarray, channels_in: np.ndarray, channels: np.ndarray, asked: np.ndarray
) -> np.ndarray:
    """How many groups of channels explain a convolution that reads so little for each pixel; one
    where a kernel without groups explains it."""
    sizes = np.ones(len(shared))
    for op in np.flatnonzero(asked & ((shared < 1) | (shared != np.round(shared)))).tolist():
        for window in _WINDOWS:
            count = window / max(shared[op], 1e-9)
            whole = round(count)
            if abs(count - whole) < 1e-6 * count and not (
                channels_in[op] % whole or channels[op] % whole
            ):
                sizes[op] = whole
                break
    return sizes


def _nearer(a: np.ndarray, b: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Whether `a` is nearer than `b`, as a quotient."""
    logs = [np.log(np.maximum(values, 1.0)) for values in (a, b, wanted)]
    return np.abs(logs[0] - logs[2]) < np.abs(logs[1] - logs[2])
