"""Reads GraphDef files and SavedModel folders into protobuf messages; nothing is executed."""

import gzip
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import DecodeError
from tensorflow.core.framework import graph_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from graphs.errors import ModelError

_MAX_BYTES = 1 << 31
_PIECE_BYTES = 1 << 20
_ALLOWED = "expected a GraphDef (.pb, .pbtxt, .graphdef, also .gz) or a SavedModel folder"
_SERVING = "serving_default"


@dataclass(frozen=True)
class TensorflowModel:
    """A graph as it lies in the file, and what the file says about its results."""

    graph_def: Any
    fetches: tuple[str, ...] | None
    """Names of tensors that the file declares as its results; None: it declares none."""
    notes: tuple[str, ...] = ()


def read_model(path: Path, signature: str | None = None) -> TensorflowModel:
    """Read a GraphDef file or a SavedModel folder.

    Args:
        path: the file or the folder.
        signature: the SavedModel's signature that is meant; None is `serving_default`, or the
            only one.

    Raises:
        ModelError: the file is unreadable, cut short, not a TensorFlow graph, or a SavedModel
            whose signature is ambiguous or unknown; the message names the file.
    """
    if path.is_dir():
        for name in ("saved_model.pb", "saved_model.pbtxt"):
            if (path / name).exists():
                return _read_saved_model(path / name, signature)
        raise ModelError(f"{path}: the folder holds no saved_model.pb; {_ALLOWED}")
    if path.name in {"saved_model.pb", "saved_model.pbtxt"}:
        return _read_saved_model(path, signature)
    if signature is not None:
        raise ModelError(
            f"{path}: a GraphDef has no signatures, but {signature!r} was asked for; leave it out, "
            "or give the SavedModel folder"
        )
    return TensorflowModel(parse_file(path, graph_pb2.GraphDef, "GraphDef"), None)


def _read_saved_model(path: Path, signature: str | None) -> TensorflowModel:
    model = parse_file(path, saved_model_pb2.SavedModel, "SavedModel")
    graphs = sorted(model.meta_graphs, key=lambda meta: "serve" not in meta.meta_info_def.tags)
    if not graphs:
        raise ModelError(f"{path}: the SavedModel holds no graph; {_ALLOWED}")
    meta = next((meta for meta in graphs if signature in _signatures(meta)), graphs[0])
    known = _signatures(meta)
    key = _chosen(path, known, signature)
    if key is None:
        return TensorflowModel(meta.graph_def, None, ("The SavedModel has no signature.",))
    outputs = meta.signature_def[key].outputs
    fetches = tuple(sorted({name for item in outputs for name in _tensors_of(outputs[item])}))
    others = [name for name in known if name != key]
    note = f"Imported signature {key!r}; resource initialisation is not part of the step."
    more = (f"The SavedModel's other signatures: {', '.join(others)}.",) if others else ()
    return TensorflowModel(meta.graph_def, fetches, (note, *more))


def _signatures(meta: meta_graph_pb2.MetaGraphDef) -> list[str]:
    """Names of the signatures that compute something, in alphabetical order."""
    return sorted(
        key
        for key in meta.signature_def
        if meta.signature_def[key].outputs and not key.startswith("__saved_model")
    )


def _chosen(path: Path, known: Sequence[str], signature: str | None) -> str | None:
    if signature is not None:
        if signature not in known:
            listed = ", ".join(map(repr, known)) or "none"
            raise ModelError(f"{path}: no signature {signature!r}; the SavedModel has {listed}")
        return signature
    if _SERVING in known or not known:
        return _SERVING if known else None
    if len(known) > 1:
        raise ModelError(
            f"{path}: signatures {', '.join(map(repr, known))}, none of them {_SERVING!r}; "
            "choose one with --signature, or signature= in Python"
        )
    return known[0]


def _tensors_of(result: Any) -> list[str]:
    """Names of the tensors of one result: a tensor, the parts of a sparse or a composite one."""
    encoding = result.WhichOneof("encoding")
    if encoding == "name":
        return [result.name] if result.name else []
    if encoding == "coo_sparse":
        sparse = result.coo_sparse
        names = (
            sparse.values_tensor_name, sparse.indices_tensor_name, sparse.dense_shape_tensor_name
        )  # fmt: skip
        return [name for name in names if name]
    if encoding == "composite_tensor":
        return [name for part in result.composite_tensor.components for name in _tensors_of(part)]
    return []


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
    except (DecodeError, text_format.ParseError, ValueError, RecursionError) as error:
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
            data = _unpacked(path)
    except (OSError, EOFError, zlib.error) as error:
        raise ModelError(f"{path}: cannot be read or is cut short ({error}); {_ALLOWED}") from error
    if len(data) > _MAX_BYTES:
        raise ModelError(f"{path}: more than {_MAX_BYTES >> 30} GiB of protobuf; {_ALLOWED}")
    return data, is_text


def _unpacked(path: Path) -> bytes:
    """What a gzipped file holds, up to one piece more than is allowed.

    It is read in pieces: asked for all that is allowed, the reader takes so much memory at once.
    """
    pieces: list[bytes] = []
    size = 0
    with gzip.open(path) as file:
        while size <= _MAX_BYTES and (piece := file.read(_PIECE_BYTES)):
            pieces.append(piece)
            size += len(piece)
    return b"".join(pieces)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
