"""All placers by name."""

from collections.abc import Mapping

from graphs.errors import GraphwrightError
from placement.heuristics.placements import HeuristicPlacer
from placement.placer import Placer
from placement.placers.genetic import genetic
from placement.placers.portfolio import MEMBERS, portfolio
from placement.placers.search import search

PLACERS: Mapping[str, Placer] = {
    **{name: HeuristicPlacer(heuristic) for name, heuristic in MEMBERS.items()},
    "portfolio": portfolio,
    "genetic": genetic,
    "search": search,
}


def get_placer(name: str) -> Placer:
    """A placer by name.

    Raises:
        GraphwrightError: no placer of that name.
    """
    if name not in PLACERS:
        raise GraphwrightError(f"unknown placer {name!r}; there are {', '.join(PLACERS)}")
    return PLACERS[name]
