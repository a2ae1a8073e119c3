"""The one door: a model file of any known format becomes a `Graph`."""

from collections.abc import Mapping
from pathlib import Path

from graphs.errors import ModelError
from graphs.file_presence import is_folder, is_there
from graphs.foreign_files import foreign_file
from graphs.formats import described_formats, file_format, folder_format
from graphs.graph import Graph
from graphs.import_gaps import check_known
from graphs.import_limits import ImportLimits


def load(
    path: str | Path,
    dims: Mapping[str, int] | None = None,
    *,
    signature: str | None = None,
    allow_unknown: bool = False,
    limits: ImportLimits | None = None,
) -> Graph:
    """Read a model; the format is recognised by content first and by suffix second.

    Args:
        path: a model file, or a SavedModel folder.
        dims: sizes for symbolic dimensions, such as `{"batch": 8}`.
        signature: which signature of a SavedModel is meant; None is `serving_default`, or the
            only one. Other formats have none.
        allow_unknown: let a model through of which more than a tenth of the tensors have no known
            shape.
        limits: models in formats of other projects are read in a process of their own, which is
            ended where it takes more than this, crashes or hangs. None: in this process.

    Raises:
        ModelError: no such file, an unknown format or signature, a model that cannot become a
            graph, one of which too little is known, or a process that had to be ended.
        GraphError: a damaged graphwright graph file.

    Example:
        >>> graph = load("bert.gwgraph")
        >>> graph.op_count
        346
    """
    graph = _read(Path(path), dict(dims or {}), signature, limits)
    if not allow_unknown:
        check_known(graph, str(path))
    return graph


def _read(
    path: Path, dims: Mapping[str, int], signature: str | None, limits: ImportLimits | None
) -> Graph:
    for name, size in dims.items():
        if size < 1:
            raise ModelError(f"dimension {name}={size}: a dimension must be at least 1")
    if not is_there(path):
        raise ModelError(f"{path}: no such file; expected {described_formats()}")
    if is_folder(path):
        form = folder_format(path)
        if form is None:
            raise ModelError(
                f"{path}: a folder without saved_model.pb is not a SavedModel; expected "
                f"{described_formats()}"
            )
        return form.read(path, dims, signature, limits)
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    if not head:
        raise ModelError(f"{path}: the file is empty; expected {described_formats()}")
    if (foreign := foreign_file(path, head)) is not None:
        raise ModelError(f"{path}: {foreign.sentence}")
    form = file_format(path, head)
    if form is None:
        raise ModelError(
            f"{path}: cannot tell its format from content or suffix; expected {described_formats()}"
        )
    return form.read(path, dims, signature, limits)
