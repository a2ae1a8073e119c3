"""What groups of ops are called: by their names' common path, or by what they mostly do."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

#: Op types that name a group.
_TYPES_SHOWN = 2


@dataclass(frozen=True)
class Run:
    """A stretch of ops in topological order that no common name holds together."""

    first: int
    last: int
    """Positions among the stretches, from one; of several stretches in a row, the last one's."""
    count: int

    @property
    def place(self) -> str:
        span = f"{self.first}" if self.first == self.last else f"{self.first} to {self.last}"
        return f"{span} of {self.count}"


@dataclass(frozen=True)
class GroupNames:
    """Names the groups of one graph."""

    parts: Sequence[Sequence[str]]
    """The parts of each op's name."""
    types: Sequence[str]
    """The type of each op."""
    lasting: Float64[np.ndarray, " ops"]
    """Compute seconds of each op."""

    def of_run(self, ops: Sequence[int], run: Run, depth: int) -> str:
        """Common parts of the names from `depth` on, the types that take longest, the place."""
        path = "/".join(self._common(ops, depth))
        kinds = ", ".join(self._dominating(ops))
        named = f"{path}: {kinds}" if path else kinds
        return named if run.count == 1 else f"{named} ({run.place})"

    def of_part(self, op: int, depth: int) -> str:
        """A part of a name; a number goes with the part before it (`layers.7`)."""
        part = self.parts[op][depth]
        return f"{self.parts[op][depth - 1]}.{part}" if part.isdigit() and depth else part

    def _common(self, ops: Sequence[int], depth: int) -> list[str]:
        """Parts that all names share from `depth` on; the last part tells ops apart."""
        first = self.parts[ops[0]][depth:-1]
        shared = len(first)
        for op in ops:
            other = self.parts[op][depth:-1]
            while first[:shared] != other[:shared]:
                shared -= 1
        return list(first[:shared])

    def _dominating(self, ops: Sequence[int]) -> list[str]:
        """The types that compute longest; where nothing does, the most frequent ones."""
        taken: dict[str, tuple[float, int]] = {}
        for op in ops:
            seconds, count = taken.get(self.types[op], (0.0, 0))
            taken[self.types[op]] = seconds + float(self.lasting[op]), count + 1
        ranked = sorted(taken, key=lambda kind: (-taken[kind][0], -taken[kind][1], kind))
        return [_short(kind) for kind in ranked[:_TYPES_SHOWN]]


def _short(kind: str) -> str:
    """An op type without namespace and overload, as torch has them (`aten.add.Tensor`)."""
    parts = kind.split(".")
    return parts[1] if len(parts) == 3 else kind


def joined(outer: str, inner: str) -> str:
    """A group's name with that of the group that held it."""
    last = outer.rpartition("/")[2]
    return f"{outer}{inner[len(last) :]}" if inner.startswith(f"{last}.") else f"{outer}/{inner}"


def spanned(names: Sequence[str]) -> str:
    """Of several groups in a row, the first and the last name."""
    return names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}"
