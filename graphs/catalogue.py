"""Real graphs that ship with the package, without their weights."""

from importlib.resources import files
from pathlib import Path

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


def resolve(model: str | Path, dims: dict[str, int] | None = None) -> Graph:
    """A model file, or else a bundled graph of that name, or else a generated one.

    Raises:
        ModelError: neither, or a model that cannot become a graph.
    """
    from graphs.families.reference import graph_of_reference, is_reference
    from graphs.loading import load

    if not Path(model).exists():
        if str(model) in bundled_names():
            return load_bundled(str(model))
        if is_reference(str(model)):
            return graph_of_reference(str(model))
    try:
        return load(model, dims)
    except ModelError as error:
        if Path(model).exists():
            raise
        raise ModelError(f"{error}; or a bundled graph: {', '.join(bundled_names())}") from error
