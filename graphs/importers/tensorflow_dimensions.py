"""Open dimensions of a TensorFlow graph's inputs: their names and their sizes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphs.importers.tensorflow_nodes import Node

DEFAULT_BATCH = 1


@dataclass
class Dimensions:
    """Sizes of open dimensions: what the user bound, and what had to be assumed."""

    given: Mapping[str, int]
    assumed: dict[str, int] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)

    def size(self, node: str, axis: int) -> int:
        """Size of an open dimension of an input: `node:axis`, else `batch` if it leads."""
        exact = f"{node}:{axis}"
        name = exact if exact in self.given or axis > 0 else "batch"
        if name in self.given:
            self.used[name] = self.given[name]
            return self.given[name]
        self.assumed[name] = DEFAULT_BATCH
        return DEFAULT_BATCH

    @property
    def batch(self) -> int:
        return self.given.get("batch", DEFAULT_BATCH)


def has_open_inputs(nodes: Mapping[str, Node]) -> bool:
    """Whether any input of the graph has a dimension without a size."""
    return any(
        dim.size < 0 for node in nodes.values() for shape in input_shapes(node) for dim in shape
    )


def open_dimensions(nodes: Mapping[str, Node]) -> list[str]:
    """Names by which the graph's open dimensions can be bound."""
    names: dict[str, None] = {}
    for node in nodes.values():
        for shape in input_shapes(node):
            for axis, dim in enumerate(shape):
                if dim.size < 0:
                    names["batch" if axis == 0 else f"{node.name}:{axis}"] = None
    return list(names)


def input_shapes(node: Node) -> Sequence[Any]:
    """Dimension lists of the outputs of an input node; empty for any other."""
    attributes = node.definition.attr
    if node.op_type in {"Placeholder", "PlaceholderWithDefault"}:
        return [attributes["shape"].shape.dim] if "shape" in attributes else []
    if node.op_type in {"IteratorGetNext", "IteratorGetNextSync"}:
        return [shape.dim for shape in attributes["output_shapes"].list.shape]
    return []
