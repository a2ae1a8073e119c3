"""Open dimensions of a TensorFlow graph's inputs: their names and their sizes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphs.importers.dimensions import (
    ASSUMED_BATCH,
    ASSUMED_IMAGE_SIDE,
    ASSUMED_LENGTH,
    refuse_unknown_dims,
)
from graphs.importers.tensorflow_models.nodes import TensorflowNode

_INPUTS = frozenset({"Placeholder", "PlaceholderWithDefault"})


@dataclass
class Dimensions:
    """Sizes of open dimensions: what the user bound, and what had to be assumed."""

    given: Mapping[str, int]
    assumed: dict[str, int] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)

    def size(self, node: str, axis: int, rank: int) -> int:
        """Size of an open dimension of an input: `node:axis`, else `batch` if it leads.

        What nobody bound is assumed: a batch of `ASSUMED_BATCH`, images (axes 1 and 2 of 4) of
        `ASSUMED_IMAGE_SIDE`, otherwise `ASSUMED_LENGTH`.
        """
        exact = f"{node}:{axis}"
        name = exact if exact in self.given or axis > 0 else "batch"
        if name in self.given:
            self.used[name] = self.given[name]
            return self.given[name]
        if axis == 0:
            self.assumed[name] = ASSUMED_BATCH
        else:
            self.assumed[name] = ASSUMED_IMAGE_SIDE if rank == 4 and axis < 3 else ASSUMED_LENGTH
        return self.assumed[name]

    @property
    def batch(self) -> int:
        """Size of a leading dimension that depends on data."""
        return self.given.get("batch", ASSUMED_BATCH)


def check_dims(dims: Mapping[str, int], nodes: Mapping[str, TensorflowNode], origin: str) -> None:
    """Refuse sizes for dimensions that the inputs do not leave open.

    Raises:
        ModelError: a name is not one of them, or a size is out of range.
    """
    known: set[str] = set()
    for node in nodes.values():
        shapes = input_shapes(node)
        for shape in shapes:
            for axis, dim in enumerate(shape):
                if dim.size < 0:
                    known |= {
                        f"{node.name}:{axis}",
                        "batch" if axis == 0 else f"{node.name}:{axis}",
                    }
        if node.op_type in _INPUTS and (not shapes or _unknown_rank(node)):
            known.add("batch")  # what follows may still lead with it
    refuse_unknown_dims(dims, frozenset(known), origin)


def has_open_inputs(nodes: Mapping[str, TensorflowNode]) -> bool:
    """Whether any input of the graph has a dimension without a size."""
    return any(
        dim.size < 0 for node in nodes.values() for shape in input_shapes(node) for dim in shape
    )


def _unknown_rank(node: TensorflowNode) -> bool:
    return bool(node.definition.attr["shape"].shape.unknown_rank)


def input_shapes(node: TensorflowNode) -> Sequence[Any]:
    """Dimension lists of the outputs of an input node; empty for any other."""
    attributes = node.definition.attr
    if node.op_type in _INPUTS:
        return [attributes["shape"].shape.dim] if "shape" in attributes else []
    if node.op_type in {"IteratorGetNext", "IteratorGetNextSync"}:
        return [shape.dim for shape in attributes["output_shapes"].list.shape]
    return []
