"""Real graphs that ship with the package, without their weights."""

from importlib.resources import files

from graphs.errors import ModelError
from graphs.graph import Graph
from graphs.graph_file import SUFFIX, graph_from_bytes


def bundled_names() -> tuple[str, ...]:
    """Names of the graphs that ship with the package."""
    folder = files("graphs") / "bundled"
    names = (entry.name for entry in folder.iterdir() if entry.name.endswith(SUFFIX))
    return tuple(sorted(name.removesuffix(SUFFIX) for name in names))


def load_bundled(name: str) -> Graph:
    """A bundled graph by name.

    Raises:
        ModelError: no graph of that name; the message lists them.
    """
    if name not in bundled_names():
        raise ModelError(f"no bundled graph {name!r}; there are {', '.join(bundled_names())}")
    return graph_from_bytes((files("graphs") / "bundled" / f"{name}{SUFFIX}").read_bytes(), name)
