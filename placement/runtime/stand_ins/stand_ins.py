"""Kernels for graphs that have none: for each op one that computes and moves as much.

Bundled, generated and traced graphs say how many operations an op takes and how many bytes it reads
and writes, not what its kernel is. A stand-in is a kernel of the same kind and size in single
precision: what it computes is of no use, but each of its outputs depends on each of its inputs, so
that results still tell whether a plan ran as it should.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from graphs.graph import Graph
from graphs.kinds import FREE_KINDS, OpKind

ELEMENT_BYTES = 4

_CONTRACTIONS = frozenset(
    {
        OpKind.MATMUL,
        OpKind.CONV,
        OpKind.CONV_GRAD,
        OpKind.DEPTHWISE_CONV,
        OpKind.RECURRENT,
        OpKind.ATTENTION,
    }
)
_COPIES = frozenset(
    {
        OpKind.TRANSPOSE,
        OpKind.CONCAT,
        OpKind.SPLIT,
        OpKind.PAD,
        OpKind.GATHER,
        OpKind.SCATTER,
        OpKind.BROADCAST,
        OpKind.RESIZE,
        OpKind.CAST,
        OpKind.COLLECTIVE,
    }
)
_REDUCTIONS = frozenset({OpKind.REDUCE, OpKind.LOSS, OpKind.POOL})
_HEAVY = frozenset(
    {OpKind.ACTIVATION, OpKind.SOFTMAX, OpKind.NORMALIZATION, OpKind.NORMALIZATION_GRAD}
)


class KernelForm(StrEnum):
    """What a stand-in does."""

    CONTRACT = "contract"
    """A matrix product of its first input with a matrix of random numbers."""
    MAP = "map"
    """Each element of the output from one of each input."""
    REDUCE = "reduce"
    """Means over neighbours."""
    COPY = "copy"
    VIEW = "view"
    """Nothing: the output is the input."""


@dataclass(frozen=True)
class StandIn:
    """One kernel; sizes are in elements of four bytes."""

    form: KernelForm
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    rows: int = 0
    """Rows of the product's left matrix."""
    depth: int = 0
    columns: int = 0
    heavy: bool = False
    """Whether a map takes a transcendental function."""

    @property
    def constants(self) -> int:
        """Random numbers that it reads."""
        if self.form is KernelForm.CONTRACT:
            return self.depth * self.columns
        return 0 if self.inputs else max(self.outputs, default=0)


def stand_in(graph: Graph, op: int, reads: tuple[int, ...], writes: tuple[int, ...]) -> StandIn:
    """The kernel of an op.

    Args:
        reads: tensors that it reads and that are part of a step; weights and control are not.
        writes: tensors that it makes.
    """
    inputs = tuple(elements(graph, tensor) for tensor in reads)
    outputs = tuple(elements(graph, tensor) for tensor in writes)
    kind = OpKind(int(graph.kinds[op]))
    if not outputs or (kind in FREE_KINDS and inputs):
        return StandIn(KernelForm.VIEW, inputs, outputs)
    size, flops = outputs[0], float(graph.flops[op])
    if kind in _CONTRACTIONS and inputs and flops >= 2 * size:
        columns = _columns(graph.output_shapes[op], size)
        depth = max(round(flops / (2 * size)), 1)
        return StandIn(KernelForm.CONTRACT, inputs, outputs, size // columns, depth, columns)
    if kind in _REDUCTIONS and inputs and inputs[0] >= 2 * size:
        return StandIn(KernelForm.REDUCE, inputs, outputs)
    if kind in _COPIES:
        return StandIn(KernelForm.COPY, inputs, outputs)
    return StandIn(KernelForm.MAP, inputs, outputs, heavy=kind in _HEAVY)


def elements(graph: Graph, tensor: int) -> int:
    """Numbers of four bytes in a tensor; at least one."""
    return max(int(graph.tensor_bytes[tensor]) // ELEMENT_BYTES, 1)


def _columns(shape: np.ndarray, size: int) -> int:
    """How wide to make the product: of the ways to flatten the output, the one nearest a square."""
    widths = [int(np.prod(shape[first:])) for first in range(1, len(shape))]
    fitting = [width for width in widths if width > 0 and size % width == 0] or [1]
    return min(fitting, key=lambda width: abs(np.log(width * width / size)))
