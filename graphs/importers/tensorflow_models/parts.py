"""The part of a graph that is inferred anew where sizes are stated: what depends on them."""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass

from graphs.importers.tensorflow_models.completion import Pin
from graphs.importers.tensorflow_models.nodes import Endpoint, TensorflowNode

#: Tensors of at most so many elements may be values that shapes are computed from.
_MOST_VALUES = 1024


@dataclass(frozen=True)
class Part:
    """Some nodes of a graph, and what they read of the others."""

    names: Set[str]
    borders: Mapping[Endpoint, Pin]


def part_behind(
    nodes: Mapping[str, TensorflowNode],
    affected: Set[str],
    pins: Mapping[Endpoint, Pin],
    known: Callable[[Endpoint], Pin | None],
) -> Part:
    """The nodes whose shapes may change, with those that compute small values for them.

    Args:
        nodes: the whole graph.
        affected: what depends on the shapes that are stated anew.
        pins: all shapes that are stated.
        known: shape and type of a tensor that is no handle, if they are known.
    """
    names = set(affected)
    borders: dict[Endpoint, Pin] = {}
    todo = list(affected)
    while todo:
        for endpoint in nodes[todo.pop()].inputs:
            if endpoint[0] in names or endpoint in borders:
                continue
            border = pins.get(endpoint) or known(endpoint)
            if border is not None and (endpoint in pins or border.elements > _MOST_VALUES):
                borders[endpoint] = border
            else:
                names.add(endpoint[0])
                todo.append(endpoint[0])
    # What was met as a border and became part of it later is none.
    return Part(names, {e: border for e, border in borders.items() if e[0] not in names})
