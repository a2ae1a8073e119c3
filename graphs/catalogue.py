"""What a user may call a model: a file, a bundled graph, a real one, or a generated one."""

from pathlib import Path

from graphs.bundled_graphs import bundled_names, load_bundled
from graphs.errors import ModelError
from graphs.families.reference import graph_of_reference, is_reference
from graphs.file_presence import is_there
from graphs.graph import Graph
from graphs.import_limits import DEFAULT_LIMITS, ImportLimits
from graphs.loading import load
from graphs.real_graphs import is_real_reference, load_real


def resolve(
    model: str | Path,
    dims: dict[str, int] | None = None,
    *,
    signature: str | None = None,
    allow_unknown: bool = False,
    limits: ImportLimits | None = DEFAULT_LIMITS,
) -> Graph:
    """A model file, or else a bundled graph of that name, a real or a generated one.

    Real graphs are called `real/NAME`, generated ones `family:seed:ops`. The arguments are those
    of `graphs.load`, but foreign formats are read in a process of their own unless `limits` is
    None.

    Raises:
        ModelError: neither, or a model that cannot become a graph.
    """
    if not is_there(model):
        if str(model) in bundled_names():
            return load_bundled(str(model))
        if is_real_reference(str(model)):
            return load_real(str(model))
        if is_reference(str(model)):
            return graph_of_reference(str(model))
    try:
        return load(model, dims, signature=signature, allow_unknown=allow_unknown, limits=limits)
    except ModelError as error:
        if is_there(model):
            raise
        raise ModelError(f"{error}; or a bundled graph: {', '.join(bundled_names())}") from error
