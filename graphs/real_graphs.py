"""Graphs of models as packages define them, by name, with the split that they belong to.

They ship beside the bundled graphs, without weights: one file each, and a manifest that says what
they are. Nothing but the manifest is read until a graph is asked for.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from graphs.errors import ModelError
from graphs.graph import Graph
from graphs.graph_file import SUFFIX, graph_from_bytes

PREFIX = "real/"
MANIFEST = "manifest.json"
SPLITS = ("train", "validation", "test")
_MANIFEST_FORMAT = 1


@dataclass(frozen=True)
class RealGraph:
    """What the manifest says of a graph."""

    name: str
    """Its name; the reference is `real/` and the name."""
    family: str
    """The architecture family."""
    kin: str
    """Families with the same blocks; all of a kin are in one split."""
    split: str
    """`train`, `validation` or `test`."""
    package: str
    """The package that defines the model."""
    version: str
    training: bool
    """Whether it is a training step; inference otherwise."""
    batch: int
    """Samples of a step."""
    ops: int
    edges: int
    digest: str
    guesses: Mapping[str, object]
    """What the import did not know; empty where nothing was guessed."""

    @property
    def reference(self) -> str:
        """What `graphs.catalogue.resolve` calls it."""
        return f"{PREFIX}{self.name}"


def is_real_reference(text: str) -> bool:
    """Whether a text means a graph of this corpus, existing or not."""
    return text.startswith(PREFIX)


@cache
def real_graphs() -> Mapping[str, RealGraph]:
    """All graphs of the corpus by name, in order of names; reads the manifest alone.

    Raises:
        ModelError: a manifest of another format.
    """
    document = json.loads((files("graphs") / "real" / MANIFEST).read_text(encoding="utf-8"))
    if document.get("format") != _MANIFEST_FORMAT:
        raise ModelError(
            f"the manifest of real graphs has format {document.get('format')}; this graphwright "
            f"reads format {_MANIFEST_FORMAT}: install the package anew"
        )
    wanted = RealGraph.__dataclass_fields__
    rows = (
        RealGraph(**{key: value for key, value in row.items() if key in wanted})
        for row in document["graphs"]
    )
    return MappingProxyType({row.name: row for row in rows})


def load_real(reference: str) -> Graph:
    """A graph of the corpus.

    Args:
        reference: its name, with or without `real/` before it.

    Raises:
        ModelError: no graph of that name; the message has the closest ones.
        GraphError: a damaged file.
    """
    name = reference.removeprefix(PREFIX)
    known = real_graphs()
    if name not in known:
        close = get_close_matches(name, known, 5, 0.4)
        hint = f"close are {', '.join(PREFIX + item for item in close)}; " if close else ""
        raise ModelError(
            f"no real graph {reference!r}; {hint}`graphwright graphs list --real` lists all "
            f"{len(known)}"
        )
    path = files("graphs") / "real" / f"{name}{SUFFIX}"
    graph = graph_from_bytes(path.read_bytes(), f"{PREFIX}{name}")
    if graph.digest != known[name].digest:
        raise ModelError(
            f"{PREFIX}{name}: digest {graph.digest}, the manifest says {known[name].digest}; "
            "install the package anew"
        )
    return graph
