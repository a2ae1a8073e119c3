"""What other distributions add, by entry points: listed at once, imported when it is asked for.

A distribution names an object in its metadata, in `pyproject.toml` as

    [project.entry-points."graphwright.placers"]
    by-halves = "their_package.placers:by_halves"
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from graphs.errors import GraphwrightError

PLACER_GROUP, SUITE_GROUP = "graphwright.placers", "graphwright.suites"


@dataclass(frozen=True)
class PlugIn:
    """One thing that a distribution adds."""

    name: str
    group: str
    distribution: str
    """Name and version."""
    target: str
    """Module and object: `their_package.placers:by_halves`."""

    def load(self) -> Any:
        """Import the object.

        Raises:
            GraphwrightError: the import fails, whatever the reason; the message names the
                distribution.
        """
        entry = EntryPoint(self.name, self.target, self.group)
        return self._guarded(entry.load, "cannot be imported")

    def called(self, function: Callable[[], Any]) -> Any:
        """What a function of the plug-in returns.

        Raises:
            GraphwrightError: it raises anything; the message names the distribution.
        """
        return self._guarded(function, "fails when it is called")

    def _guarded(self, act: Callable[[], Any], what: str) -> Any:
        try:
            return act()
        # A stranger's module may raise anything; whose it is, is what the user needs to know.
        except Exception as error:
            raise self.broken(f"{self.target} {what}: {_said(error)}") from error

    def broken(self, why: str) -> GraphwrightError:
        """The error that says so of this plug-in."""
        kind = self.group.rpartition(".")[2].removesuffix("s")
        return GraphwrightError(
            f"{kind} {self.name!r} of the distribution {self.distribution} is broken: {why}; "
            f"repair or uninstall {self.distribution.partition(' ')[0]}"
        )


def plug_ins(group: str) -> dict[str, PlugIn]:
    """All that installed distributions add to a group, by name; nothing is imported.

    Raises:
        GraphwrightError: two distributions add the same name.
    """
    found: dict[str, PlugIn] = {}
    for entry in sorted(entry_points(group=group), key=lambda item: (item.name, item.value)):
        about = entry.dist
        distribution = f"{about.name} {about.version}" if about is not None else "unknown"
        added = PlugIn(entry.name, group, distribution, entry.value)
        before = found.setdefault(entry.name, added)
        if before != added:
            raise GraphwrightError(
                f"{group}: {entry.name!r} is added by {before.distribution} and by "
                f"{distribution}; uninstall one of them"
            )
    return found


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
