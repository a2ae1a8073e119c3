"""Reads ONNX files into a checked `ModelProto`; weights kept in other files are not opened."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx
from google.protobuf import text_format
from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from graphs.errors import ModelError

_TEXT_FORMATS = {".onnxtxt": "onnxtxt", ".textproto": "textproto"}
_LARGEST_PROTOBUF = 2**31 - 1

#: What reading a damaged model raises besides `DecodeError`: protobuf checks text on access
#: (UnicodeDecodeError is a ValueError), and the text parsers have errors of their own.
_READ_ERRORS = (DecodeError, text_format.ParseError, onnx.parser.ParseError, ValueError)


def read_onnx(path: Path) -> ModelProto:
    """Parse a model file and check that it is one; external weights stay where they are.

    Raises:
        ModelError: the file cannot be read, is not an ONNX model, is cut short, or refers to
            weights outside its own folder.
    """
    model = parse_onnx(path)
    check_model(model, str(path))
    check_external_data(model, path.parent, str(path))
    return model


def parse_onnx(path: Path) -> ModelProto:
    """Parse a model file for a reader that checks what it finds, as `onnx_steps` does.

    Raises:
        ModelError: the file cannot be read, or does not parse.
    """
    text_kind = _TEXT_FORMATS.get(path.suffix.lower())
    try:
        size = path.stat().st_size
        if size > _LARGEST_PROTOBUF:
            raise ModelError(
                f"{path}: {size} bytes; a protobuf holds at most 2 GiB: save the model with its "
                "weights as external data"
            )
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        model = onnx.load_model_from_string(data, format=text_kind or "protobuf")
    except _READ_ERRORS as error:
        raise ModelError(f"{path}: {_refusal(data, text_kind, error)}") from error
    if not text_kind and not model.HasField("graph") and _is_text(data):
        # Some texts happen to parse: protobuf skips fields that it does not know.
        raise ModelError(f"{path}: {_refusal(data, None, ValueError())}")
    return model


def _refusal(data: bytes, text_kind: str | None, error: Exception) -> str:
    first_line = str(error).strip().splitlines()[:1]
    reason = first_line[0][:200] if first_line else type(error).__name__
    if text_kind:
        return f"not readable as ONNX {text_kind} ({reason})"
    if _is_text(data):
        return (
            "holds text, not a binary ONNX model; ONNX in text form is recognised by the suffixes "
            f"{' and '.join(_TEXT_FORMATS)}"
        )
    return f"damaged, cut short or not an ONNX model ({reason})"


def _is_text(data: bytes) -> bool:
    return data[:512].isascii() and b"\0" not in data[:512]


def check_model(model: ModelProto, origin: str) -> None:
    """Raise `ModelError` unless the message has what every ONNX model has.

    Protobuf skips unknown fields, so that foreign bytes may well parse to an empty message.
    """
    if not model.HasField("graph"):
        raise ModelError(f"{origin}: not an ONNX model (it holds no graph)")
    if model.ir_version < 1:
        raise ModelError(f"{origin}: not an ONNX model (it states no ir_version)")
    if model.ir_version >= 3 and not model.opset_import:
        raise ModelError(
            f"{origin}: states no opset_import, which IR version {model.ir_version} requires"
        )
    newest = onnx.defs.onnx_opset_version()
    for opset in model.opset_import:
        if not 0 <= opset.version < 2**31:
            raise ModelError(f"{origin}: opset {opset.version} of {opset.domain!r} is no version")
        if opset.domain in ("", "ai.onnx") and not 1 <= opset.version <= newest:
            raise ModelError(
                f"{origin}: opset {opset.version}; onnx {onnx.__version__} reads 1 to {newest}: "
                "export with an older opset or update onnx"
            )
    if not model.graph.node:
        raise ModelError(f"{origin}: the graph has no ops; a model needs at least one")
    if not model.graph.output:
        raise ModelError(f"{origin}: the graph declares no outputs, so no op is needed")
    for text in _texts(model):
        if not isinstance(text, str):
            raise ModelError(f"{origin}: damaged, {text[:40]!r} is not UTF-8 text")


def _texts(model: ModelProto) -> Iterator[str | bytes]:
    """Every name in a model; protobuf hands out bytes where they are not valid text."""
    for opset in model.opset_import:
        yield opset.domain
    for function in model.functions:
        yield from (function.name, function.domain, *function.input, *function.output)
        for node in function.node:
            yield from _texts_of_node(node)
    yield from _texts_of_graph(model.graph)


def _texts_of_graph(graph: GraphProto) -> Iterator[str | bytes]:
    yield graph.name  # of a body it names ops
    for value in (*graph.input, *graph.output, *graph.value_info):
        yield value.name
        for dim in value.type.tensor_type.shape.dim:
            yield dim.dim_param
    for tensor in graph.initializer:
        yield tensor.name
        for entry in tensor.external_data:
            yield from (entry.key, entry.value)
    for sparse in graph.sparse_initializer:
        yield sparse.values.name
    for node in graph.node:
        yield from _texts_of_node(node)


def _texts_of_node(node: NodeProto) -> Iterator[str | bytes]:
    yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
    for attribute in node.attribute:
        yield attribute.name
        if attribute.HasField("g"):
            yield from _texts_of_graph(attribute.g)
        for body in attribute.graphs:
            yield from _texts_of_graph(body)


def check_external_data(model: ModelProto, folder: Path | None, origin: str) -> None:
    """Raise `ModelError` if any weight points outside the model's folder.

    Args:
        model: a parsed model.
        folder: the model's folder; None for a model in memory, whose links are not followed.
        origin: the file's name, for messages.
    """
    for tensor in _tensors(model.graph):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        location = external_location(tensor)
        parts = (*PurePosixPath(location).parts, *PureWindowsPath(location).parts)
        outside = ".." in parts or "\0" in location or PurePosixPath(location).is_absolute()
        outside = outside or bool(PureWindowsPath(location).anchor)
        if folder is not None and not outside:
            outside = not (folder / location).resolve().is_relative_to(folder.resolve())
        if outside:
            raise ModelError(
                f"{origin}: weight {tensor.name!r} is stored at {location!r}, outside the model's "
                "folder; external data must be a file beside the model"
            )


def external_location(tensor: TensorProto) -> str:
    """The path that an external tensor names, relative to its model."""
    return next((entry.value for entry in tensor.external_data if entry.key == "location"), "")


def read_external(tensor: TensorProto, folder: Path, length: int) -> bytes | None:
    """The first `length` bytes of a weight, or None where its file lacks them."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    try:
        with (folder / external_location(tensor)).open("rb") as file:
            file.seek(int(entries.get("offset", "0")))
            data = file.read(length)
    except (OSError, ValueError):
        return None
    return data if len(data) == length else None


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Every stored tensor of a graph and its bodies."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _tensors_of_node(node)


def _tensors_of_node(node: NodeProto) -> Iterator[TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        if attribute.HasField("g"):
            yield from _tensors(attribute.g)
        for body in attribute.graphs:
            yield from _tensors(body)
