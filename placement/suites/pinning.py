"""Pinning a suite, and holding a pinned one against what there is now."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from graphs.errors import GraphwrightError
from placement.placer import OnProgress, silent
from placement.suites.pair import Pair, Suite
from placement.suites.pin import Pin
from placement.suites.suite_file import read_suite

_PINNED = Path(__file__).parent / "pinned"


def pin_suite(suite: Suite, version: str, on_progress: OnProgress = silent) -> Suite:
    """The suite with a pin for each pair: every graph is built, and memory rules become bytes,
    for which the portfolio runs.

    Args:
        suite: any; pins that it has are not taken over.
        version: of the result, letters, digits, dots and dashes.
        on_progress: is told the share of pairs that are done.

    Raises:
        GraphwrightError: a version that cannot be one, or a pair that cannot be built.
    """
    if not version or not all(sign.isalnum() or sign in ".-" for sign in version):
        raise GraphwrightError(
            f"version {version!r}: give letters, digits, dots and dashes, such as 1 or 2026.1"
        )
    label = f"{Path(suite.name).name}@{version}"
    pairs = []
    for number, pair in enumerate(suite.pairs, 1):
        free = replace(pair, pin=None)
        cluster = free.cluster()
        memory = tuple(int(each) for each in cluster.memory_bytes)
        pin = Pin(label, free.graph().digest, cluster.digest, memory)
        pairs.append(replace(pair, pin=pin))
        on_progress(number / len(suite.pairs))
    return Suite(Path(suite.name).name, suite.description, tuple(pairs), version)


def check_pins(pairs: Sequence[Pair]) -> None:
    """Build the graphs and clusters of those pairs that are pinned, before anything runs on them.

    Raises:
        ModelError: a graph that is not what was pinned.
        ClusterError: a cluster that is not what was pinned.
    """
    for pair in sorted((item for item in pairs if item.pin), key=lambda item: item.graph_ref):
        pair.cluster()
        pair.graph()


def pinned_names() -> tuple[str, ...]:
    """The pinned suites that ship: `paper@1` and others; nothing is read."""
    return tuple(sorted(path.stem for path in _PINNED.glob("*.json")))


def load_pinned(name: str) -> Suite:
    """A pinned suite that ships.

    Args:
        name: one of `pinned_names`.

    Raises:
        GraphwrightError: a cluster or a real graph is not what was pinned.
    """
    return read_suite(_PINNED / f"{name}.json")
