"""All placers by name: heuristics, and what searches from their plans."""

from collections import ChainMap
from collections.abc import Mapping, MutableMapping
from typing import cast

from graphs.errors import GraphwrightError
from placement.heuristics.registry import HEURISTICS
from placement.placer import Placer
from placement.placers.genetic import genetic
from placement.placers.portfolio import portfolio
from placement.placers.search import search

#: Placers that run all heuristics first; heuristics are in `HEURISTICS`.
SEARCHES: dict[str, Placer] = {
    "portfolio": portfolio,
    "genetic": genetic,
    "search": search,
}

#: Both together, heuristics first; what is added to either is in it.
PLACERS: Mapping[str, Placer] = ChainMap(SEARCHES, cast("MutableMapping[str, Placer]", HEURISTICS))


def get_placer(name: str) -> Placer:
    """A placer by name.

    Raises:
        GraphwrightError: no placer of that name.

    Example:
        >>> get_placer("heft")(Problem(graph, cluster), Budget(1.0), 0, silent).best.origin
        'heft:1.0'
    """
    if name not in PLACERS:
        raise GraphwrightError(f"unknown placer {name!r}; there are {', '.join(PLACERS)}")
    return PLACERS[name]
