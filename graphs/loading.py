"""The one door: a model file of any known format becomes a `Graph`."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

from graphs.errors import ModelError
from graphs.graph import Graph
from graphs.graph_file import MAGIC, SUFFIX, graph_from_bytes

_FORMATS = (
    "an ONNX model (.onnx), a TensorFlow GraphDef (.pb, .pbtxt, also .gz) or SavedModel folder, "
    "a torch.export program (.pt2), a dnn-partitioning benchmark graph (.json) "
    f"or a graphwright graph ({SUFFIX})"
)


def load(path: str | Path, dims: Mapping[str, int] | None = None) -> Graph:
    """Read a model; the format is recognised by content first and by suffix second.

    Args:
        path: a model file, or a SavedModel folder.
        dims: sizes for symbolic dimensions, such as `{"batch": 8}`.

    Raises:
        ModelError: no such file, an unknown format, or a model that cannot become a graph.
        GraphError: a damaged graphwright graph file.
    """
    path = Path(path)
    dims = dict(dims or {})
    for name, size in dims.items():
        if size < 1:
            raise ModelError(f"dimension {name}={size}: a dimension must be at least 1")
    if not path.exists():
        raise ModelError(f"{path}: no such file; expected {_FORMATS}")
    if path.is_dir():
        return _load_folder(path, dims)
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    if not head:
        raise ModelError(f"{path}: the file is empty; expected {_FORMATS}")
    if head.startswith(MAGIC):
        return graph_from_bytes(path.read_bytes(), str(path))
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if head.startswith(b"\x1f\x8b"):
        return _load_tensorflow(path, dims)
    if ".pt2" in suffixes[-1:] or (head.startswith(b"PK") and zipfile.is_zipfile(path)):
        from graphs.importers.torch_models.exported import import_torch_export

        return import_torch_export(path, dims)
    if ".json" in suffixes[-1:] or head.lstrip().startswith(b"{"):
        return _load_json(path)
    if suffixes[-1:] in ([".pb"], [".pbtxt"], [".graphdef"]):
        return _load_tensorflow(path, dims)
    if suffixes[-1:] in ([".onnx"], [".onnxtxt"], [".textproto"]):
        from graphs.importers.onnx_models.model import import_onnx

        return import_onnx(path, dims)
    raise ModelError(f"{path}: cannot tell its format from content or suffix; expected {_FORMATS}")


def _load_folder(path: Path, dims: Mapping[str, int]) -> Graph:
    if any((path / name).exists() for name in ("saved_model.pb", "saved_model.pbtxt")):
        return _load_tensorflow(path, dims)
    raise ModelError(
        f"{path}: a folder without saved_model.pb is not a SavedModel; expected {_FORMATS}"
    )


def _load_tensorflow(path: Path, dims: Mapping[str, int]) -> Graph:
    from graphs.importers.tensorflow_models.graph import import_tensorflow

    return import_tensorflow(path, dims)


def _load_json(path: Path) -> Graph:
    from graphs.importers.msr_benchmark import import_msr_benchmark

    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: looks like JSON but is not ({error})") from error
    return import_msr_benchmark(document, str(path))
