"""Suites that other distributions add."""

from placement.plug_ins import SUITE_GROUP, PlugIn, plug_ins
from placement.suites.pair import Suite


def added_suites() -> dict[str, PlugIn]:
    """By name; nothing is imported.

    Raises:
        GraphwrightError: two distributions add the same name.
    """
    return plug_ins(SUITE_GROUP)


def load_added(plug_in: PlugIn) -> Suite:
    """Import a suite: a `Suite`, or a function without arguments that returns one.

    Raises:
        GraphwrightError: the plug-in cannot be imported or gives no suite; the message names its
            distribution.
    """
    found = plug_in.load()
    if not isinstance(found, Suite) and callable(found):
        found = plug_in.called(found)
    if not isinstance(found, Suite):
        raise plug_in.broken(
            f"{plug_in.target} gives {type(found).__name__}; a suite is a placement.suites.Suite, "
            "or a function without arguments that returns one"
        )
    return found
