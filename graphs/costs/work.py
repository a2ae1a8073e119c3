"""The words in which op costs are written: tensors, an op's signature, and its work."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, prod
from typing import Any

from graphs.kinds import DType, OpKind


@dataclass(frozen=True)
class TensorSpec:
    """Shape and element type of one tensor; all dimensions are known."""

    shape: tuple[int, ...]
    dtype: DType = DType.FLOAT32

    @property
    def elements(self) -> int:
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        return ceil(self.elements * self.dtype.element_bytes)


@dataclass(frozen=True)
class Signature:
    """What a cost formula may look at."""

    op_type: str
    inputs: Sequence[TensorSpec]
    """Absent optional inputs are left out; weights are inputs like any other."""
    outputs: Sequence[TensorSpec]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Framework attributes as plain Python values (int, float, str, bool, lists of these)."""

    @property
    def input_bytes(self) -> int:
        return sum(tensor.bytes for tensor in self.inputs)

    @property
    def output_bytes(self) -> int:
        return sum(tensor.bytes for tensor in self.outputs)


@dataclass(frozen=True)
class Work:
    """Floating point operations (a multiply-add is two) and bytes moved to and from memory."""

    flops: float = 0.0
    bytes_read: float = 0.0
    bytes_written: float = 0.0
    workspace_bytes: int = 0
    launches: int = 1
    """Kernels that are started, one after the other."""


def repeated(parts: Sequence[Work], trips: int = 1) -> Work:
    """Work of a body of ops that runs `trips` times as one op: every kernel is launched each time.

    Ops that neither compute nor move anything have no kernel. Workspaces follow one another, so
    the largest counts.
    """
    kernels = [work for work in parts if work.flops or work.bytes_read or work.bytes_written]
    return Work(
        trips * sum(work.flops for work in parts),
        trips * sum(work.bytes_read for work in parts),
        trips * sum(work.bytes_written for work in parts),
        max((work.workspace_bytes for work in parts), default=0),
        trips * sum(work.launches for work in kernels),
    )


Formula = Callable[[Signature], Work]


@dataclass(frozen=True)
class OpCost:
    """One line of a framework's table: the kind of an op type and the formula of its work."""

    kind: OpKind
    formula: Formula
