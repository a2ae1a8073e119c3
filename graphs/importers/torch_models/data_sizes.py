"""Sizes that only the data decide: how many elements are not zero, say. Upper estimates of them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil

from graphs.costs.work import TensorSpec
from graphs.importers.torch_models.calls import base_name
from graphs.kinds import DType

#: torch's names for sizes that no input has.
_UNBACKED = re.compile(r"^(u|zu|zuf)\d+$")
#: A larger bound of torch's says nothing.
_LARGEST_BOUND = 2**31

_SPLITS = ("split", "split_with_sizes", "unsafe_split", "tensor_split", "chunk")
_PARTS = ("slice", "narrow")
_INDEXED = ("index", "_unsafe_index", "index_put")


def is_unbacked(symbol: str) -> bool:
    """Whether a symbol stands for a size that the data decide."""
    return _UNBACKED.match(symbol) is not None


def upper_estimate(
    target: str, inputs: Sequence[TensorSpec], outputs: int, axis: int
) -> int | None:
    """The most that an output's dimension can be, as far as the operands tell.

    Args:
        target: the operator.
        inputs: its tensors.
        outputs: how many tensors it returns.
        axis: the output's dimension.

    Returns:
        For a search the number of elements that are searched, for a part the size of the whole,
        for each of several parts its share; None without operands.
    """
    base = base_name(target).rstrip("_")
    if not inputs:
        return None
    whole = inputs[0].shape[axis] if axis < len(inputs[0].shape) else inputs[0].elements
    if base in _SPLITS:
        return ceil(whole / max(outputs, 1))
    if base in _PARTS:
        return whole
    if base in _INDEXED:
        return max((t.elements for t in inputs[1:] if t.dtype is DType.BOOL), default=whole)
    if base in ("nonzero", "argwhere", "where") or "unique" in base:
        return inputs[0].elements
    return max(tensor.elements for tensor in inputs)


@dataclass
class DataSizes:
    """The sizes of a program that its data decide, found call by call."""

    given: Mapping[str, int]
    """What the user bound."""
    bounds: Mapping[str, int]
    """The largest value that torch itself allows for a symbol."""
    estimated: dict[str, int] = field(default_factory=dict)
    """Upper estimates."""
    unbounded: list[str] = field(default_factory=list)
    """Symbols of which nothing is known: they count 1."""

    def known(self) -> dict[str, int]:
        """All sizes so far."""
        return {**self.estimated, **self.given}

    def settle(self, symbol: str, estimate: int | None) -> None:
        """Decide a symbol where it first occurs."""
        if symbol in self.given or symbol in self.estimated:
            return
        bound = self.bounds.get(symbol)
        if bound is not None and 0 < bound < _LARGEST_BOUND:
            estimate = bound if estimate is None else min(bound, estimate)
        if estimate is None:
            self.unbounded.append(symbol)
        self.estimated[symbol] = max(estimate or 1, 1)

    def notes(self) -> list[str]:
        """What a user should know of them, one sentence each."""
        said = []
        found = [f"{name} = {size}" for name, size in sorted(self.estimated.items())
                 if name not in self.unbounded]  # fmt: skip
        if found:
            more = f" and {len(found) - 5} more" if len(found) > 5 else ""
            said.append(
                "Sizes that depend on data are estimates, all that a search may find or an equal "
                f"share of what is split: {', '.join(found[:5])}{more}."
            )
        if self.unbounded:
            said.append(
                f"Sizes that depend on data and have no bound count as 1: "
                f"{', '.join(sorted(self.unbounded))}."
            )
        return said
