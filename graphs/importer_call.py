"""Runs an importer that is named by its module and its function."""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

from graphs.graph import Graph

#: Reads a model file or folder; the second argument has sizes of symbolic dimensions, a third
#: names a signature where the format has them.
Importer = Callable[..., Graph]


def run_importer(
    importer: str, path: Path, dims: Mapping[str, int], signature: str | None
) -> Graph:
    """Import a model in this process by an importer's `module:function`."""
    module, _, name = importer.partition(":")
    function: Importer = getattr(import_module(module), name)
    return function(path, dims) if signature is None else function(path, dims, signature)
