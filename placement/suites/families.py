"""The part of a suite that is of some families."""

from collections.abc import Sequence
from dataclasses import replace

from graphs.errors import GraphwrightError
from placement.suites.pair import Suite


def of_families(suite: Suite, families: Sequence[str]) -> Suite:
    """The pairs whose graphs are of one of these families (`Pair.family`); all for none.

    Raises:
        GraphwrightError: a family that the suite has no graph of; the message lists them.
    """
    if not families:
        return suite
    known = dict.fromkeys(pair.family for pair in suite.pairs)
    for family in families:
        if family not in known:
            raise GraphwrightError(
                f"suite {suite.label} has no graph of family {family!r}; it has {', '.join(known)}"
            )
    return replace(suite, pairs=tuple(pair for pair in suite.pairs if pair.family in families))
