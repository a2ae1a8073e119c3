"""Reads GraphDef files and SavedModel folders into protobuf messages; nothing is executed."""

import gzip
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import DecodeError
from tensorflow.core.framework import graph_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from graphs.errors import ModelError

_MAX_BYTES = 1 << 31
_ALLOWED = "expected a GraphDef (.pb, .pbtxt, .graphdef, also .gz) or a SavedModel folder"
_SERVING = "serving_default"


@dataclass(frozen=True)
class TensorflowModel:
    """A graph as it lies in the file, and what the file says about its results."""

    graph_def: Any
    fetches: tuple[str, ...] | None
    """Names of tensors that the file declares as its results; None: it declares none."""
    notes: tuple[str, ...] = ()


def read_model(path: Path) -> TensorflowModel:
    """Read a GraphDef file or a SavedModel folder.

    Raises:
        ModelError: the file is unreadable, cut short, not a TensorFlow graph, or a SavedModel
            whose signature is ambiguous; the message names the file.
    """
    if path.is_dir():
        for name in ("saved_model.pb", "saved_model.pbtxt"):
            if (path / name).exists():
                return _read_saved_model(path / name)
        raise ModelError(f"{path}: the folder holds no saved_model.pb; {_ALLOWED}")
    if path.name in {"saved_model.pb", "saved_model.pbtxt"}:
        return _read_saved_model(path)
    return TensorflowModel(parse_file(path, graph_pb2.GraphDef, "GraphDef"), None)


def _read_saved_model(path: Path) -> TensorflowModel:
    model = parse_file(path, saved_model_pb2.SavedModel, "SavedModel")
    graphs = list(model.meta_graphs)
    if not graphs:
        raise ModelError(f"{path}: the SavedModel holds no graph; {_ALLOWED}")
    meta = next((graph for graph in graphs if "serve" in graph.meta_info_def.tags), graphs[0])
    key = _signature_key(path, meta)
    if key is None:
        return TensorflowModel(meta.graph_def, None, ("The SavedModel has no signature.",))
    outputs = meta.signature_def[key].outputs
    fetches = tuple(sorted({outputs[name].name for name in outputs if outputs[name].name}))
    note = f"Imported signature {key!r}; resource initialisation is not part of the step."
    return TensorflowModel(meta.graph_def, fetches, (note,))


def _signature_key(path: Path, meta: meta_graph_pb2.MetaGraphDef) -> str | None:
    keys = sorted(key for key in meta.signature_def if meta.signature_def[key].outputs)
    keys = [key for key in keys if not key.startswith("__saved_model")]
    if _SERVING in keys or not keys:
        return _SERVING if keys else None
    if len(keys) > 1:
        raise ModelError(
            f"{path}: signatures {', '.join(map(repr, keys))}, none of them {_SERVING!r}; "
            f"save the model with one signature or with {_SERVING!r}"
        )
    return keys[0]


def parse_file(path: Path, message_type: Callable[[], Any], what: str) -> Any:
    """A protobuf from a file in binary or text form, gzipped or not.

    Raises:
        ModelError: the file is unreadable, empty, too large or no such message.
    """
    data, is_text = _content(path)
    if not data:
        raise ModelError(f"{path}: the file is empty; {_ALLOWED}")
    message = message_type()
    try:
        if is_text:
            text_format.Parse(data.decode("utf-8"), message)
        else:
            message.ParseFromString(data)
    except (DecodeError, text_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        form = "text" if is_text else "binary"
        raise ModelError(
            f"{path}: not a {what} in {form} form, or cut short ({_first_line(error)}); {_ALLOWED}"
        ) from error
    return message


def _content(path: Path) -> tuple[bytes, bool]:
    """The file's bytes, decompressed, and whether they are text."""
    is_text = ".pbtxt" in [suffix.lower() for suffix in path.suffixes]
    try:
        data = path.read_bytes()
        if data.startswith(b"\x1f\x8b"):
            with gzip.open(path) as file:
                data = file.read(_MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ModelError(f"{path}: cannot be read or is cut short ({error}); {_ALLOWED}") from error
    if len(data) > _MAX_BYTES:
        raise ModelError(f"{path}: more than {_MAX_BYTES >> 30} GiB of protobuf; {_ALLOWED}")
    return data, is_text


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
