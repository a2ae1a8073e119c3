"""All placers by name: heuristics, what searches from their plans, and what others add."""

from collections.abc import Iterator, Mapping
from itertools import chain

from graphs.errors import GraphwrightError
from placement.heuristics.registry import HEURISTICS
from placement.placer import Placer
from placement.placers.added import AddedPlacers
from placement.placers.genetic import genetic
from placement.placers.portfolio import portfolio
from placement.placers.search import search

#: Placers that run all heuristics first; heuristics are in `HEURISTICS`.
SEARCHES: dict[str, Placer] = {
    "portfolio": portfolio,
    "genetic": genetic,
    "search": search,
}


class _AllPlacers(Mapping[str, Placer]):
    """Heuristics, searches, then what other distributions add under a name that is not taken."""

    def __init__(self) -> None:
        self._parts: tuple[Mapping[str, Placer], ...] = (HEURISTICS, SEARCHES, AddedPlacers())

    def __getitem__(self, name: str) -> Placer:
        for part in self._parts:
            if name in part:
                return part[name]
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return any(name in part for part in self._parts)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(chain.from_iterable(self._parts)))

    def __len__(self) -> int:
        return sum(1 for _ in self)


#: All together, heuristics first; what is added to any is in it. A plug-in (`placement.plug_ins`)
#: is imported when it is looked up.
PLACERS: Mapping[str, Placer] = _AllPlacers()


def get_placer(name: str) -> Placer:
    """A placer by name.

    Raises:
        GraphwrightError: no placer of that name, or one of another distribution that is broken.

    Example:
        >>> get_placer("heft")(Problem(graph, cluster), Budget(1.0), 0, silent).best.origin
        'heft:1.0'
    """
    if name not in PLACERS:
        raise GraphwrightError(f"unknown placer {name!r}; there are {', '.join(PLACERS)}")
    return PLACERS[name]
