"""What a tape deals in: values, the ops that made them, variables."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from graphs.costs.work import TensorSpec

Shape = tuple[int, ...]
Attributes = Mapping[str, Any]

NO_ATTRIBUTES: Attributes = {}


class TapeValue(NamedTuple):
    """A tensor on the tape."""

    tensor: int
    op: int
    spec: TensorSpec
    trained: bool
    """Whether it depends on a trained variable, so that a gradient flows back through it."""

    @property
    def shape(self) -> Shape:
        return self.spec.shape


class TapeOp(NamedTuple):
    """A forward op, as the backward pass needs to know it."""

    op_type: str
    inputs: tuple[TapeValue, ...]
    outputs: tuple[TapeValue, ...]
    attributes: Attributes
    scope: str


class Variable(NamedTuple):
    """A trained variable."""

    name: str
    handle: TapeValue
    value: TapeValue
    group: int
