"""Placers that other distributions add, as a mapping that imports one when it is looked up."""

from collections.abc import Iterator, Mapping

from placement.placer import Placer
from placement.plug_ins import PLACER_GROUP, plug_ins


class AddedPlacers(Mapping[str, Placer]):
    """By name; each is imported by `[]` alone.

    Raises:
        GraphwrightError: from `[]`, a plug-in that cannot be imported or is no function; the
            message names its distribution.
    """

    def __getitem__(self, name: str) -> Placer:
        found = plug_ins(PLACER_GROUP)[name]
        placer = found.load()
        if not callable(placer):
            raise found.broken(
                f"{found.target} is of type {type(placer).__name__}; a placer is a function "
                "(problem, budget, seed, on_progress) -> Placed"
            )
        return placer

    def __contains__(self, name: object) -> bool:
        return name in plug_ins(PLACER_GROUP)

    def __iter__(self) -> Iterator[str]:
        return iter(plug_ins(PLACER_GROUP))

    def __len__(self) -> int:
        return len(plug_ins(PLACER_GROUP))
