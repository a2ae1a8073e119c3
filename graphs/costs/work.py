"""The words in which op costs are written: tensors, an op's signature, and its work."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, prod
from typing import Any

from graphs.errors import ModelError
from graphs.kinds import DType, OpKind

#: What a tensor may have; no device holds as many, and sums of them fit into 64 bits.
LARGEST_ELEMENTS = 2**48
#: What an attribute may be where it counts something.
LARGEST_COUNT = 2**48

#: What a formula raises on shapes or attributes that a valid op cannot have.
FORMULA_ERRORS = (
    IndexError,
    KeyError,
    ValueError,
    TypeError,
    ZeroDivisionError,
    OverflowError,
    AttributeError,
)


class SizeError(ModelError, ValueError):
    """A tensor that no device could hold, or of fewer than no elements."""


class WorkError(ModelError, ValueError):
    """Work that no device could do, or less than none."""


@dataclass(frozen=True)
class TensorSpec:
    """Shape and element type of one tensor; all dimensions are known.

    Raises:
        SizeError: a negative dimension, or more than 2**48 elements.
    """

    shape: tuple[int, ...]
    dtype: DType = DType.FLOAT32

    def __post_init__(self) -> None:
        shape = self.shape
        if shape and (min(shape) < 0 or max(*shape, prod(shape)) > LARGEST_ELEMENTS):
            raise SizeError(
                f"a tensor has the shape {list(shape)!s:.200}; dimensions are not negative, and "
                "make 2**48 elements at most: check the model, and sizes given by --dim"
            )

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

    def integer(self, name: str, default: int | None = None, least: int = 0) -> int:
        """An attribute that counts something; `default` where it is absent.

        Raises:
            KeyError: it is absent, and there is no default.
            ValueError: it is no integer, or not between `least` and 2**48.
        """
        value = self.attributes.get(name, default)
        if value is None:
            raise KeyError(name)
        return _count(name, value, least)

    def integers(self, name: str, default: Sequence[int] | None = None) -> tuple[int, ...]:
        """An attribute that lists sizes, or is one of them; errors as of `integer`."""
        value = self.attributes.get(name, default)
        if value is None:
            raise KeyError(name)
        values = value if isinstance(value, list | tuple) else (value,)
        return tuple(_count(name, item, 0) for item in values)

    def figure(self, name: str) -> float:
        """An attribute that weighs something.

        Raises:
            KeyError: it is absent.
            ValueError: it is no number, or not between 0 and 2**48.
        """
        value = self.attributes[name]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"attribute {name} is {value!r:.80}; it must be a number")
        if not 0 <= value <= LARGEST_COUNT:
            raise ValueError(f"attribute {name} is {value!r:.80}; it must be from 0 to 2**48")
        return float(value)

    def flag(self, name: str, default: bool = False) -> bool:
        """An attribute that is true or false, or a number that is zero or not.

        Raises:
            ValueError: it is neither.
        """
        value = self.attributes.get(name, default)
        if value is None:
            return default
        if not isinstance(value, bool | int):
            raise ValueError(f"attribute {name} is {value!r:.80}; it must be true or false")
        return bool(value)

    def text(self, name: str, default: str = "") -> str:
        """An attribute that is a word.

        Raises:
            ValueError: it is something else.
        """
        value = self.attributes.get(name, default)
        if not isinstance(value, str):
            raise ValueError(f"attribute {name} is {value!r:.80}; it must be text")
        return value

    def values(self, name: str) -> Sequence[Any]:
        """An attribute that lists things of which only the number counts; empty where absent.

        Raises:
            ValueError: it is no list.
        """
        value = self.attributes.get(name, ())
        if not isinstance(value, list | tuple):
            raise ValueError(f"attribute {name} is {value!r:.80}; it must be a list")
        return value


def _count(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= LARGEST_COUNT:
        raise ValueError(
            f"attribute {name} is {value!r:.80}; it must be a whole number from {least} to 2**48"
        )
    return value


#: Flops or bytes of one op; the fastest device there is works on so much for centuries.
_MOST_WORK = 1e30


@dataclass(frozen=True)
class Work:
    """Floating point operations (a multiply-add is two) and bytes moved to and from memory.

    Raises:
        WorkError: a figure that is negative, no number, or beyond 1e30.
    """

    flops: float = 0.0
    bytes_read: float = 0.0
    bytes_written: float = 0.0
    workspace_bytes: int = 0
    launches: int = 1
    """Kernels that are started, one after the other."""

    def __post_init__(self) -> None:
        for figure in (self.flops, self.bytes_read, self.bytes_written, self.workspace_bytes):
            if not 0 <= figure <= _MOST_WORK:
                raise WorkError(
                    f"work of {figure!s:.40} flops or bytes is not from 0 to {_MOST_WORK:.0e}: "
                    "check the model's sizes, and how often its loops run"
                )


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
