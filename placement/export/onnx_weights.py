"""Where the weights of exported ONNX models lie: referred to, or written once beside them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from graphs.importers.onnx_models.file import external_location
from graphs.importers.onnx_models.topology import bodies_of
from graphs.whole_files import errors_naming, new_beside, put_in_place
from placement.export.errors import ExportError
from placement.export.request import ExportRequest
from simulator.units import format_bytes

#: Smaller weights stay inside the model files.
_SMALLEST_APART = 1024
#: Weights of at least this size begin on a page, so that runtimes can map them.
_PAGE = 4096
_CHUNK = 1 << 24


@dataclass
class WeightFile:
    """Weights of all parts of a model in one file, each once; written while parts are made.

    ONNX refuses weights outside a model's folder, behind links of either kind included, so that
    weights that already lie in files are referred to where `folder` holds them, and must be copied
    elsewhere.
    """

    folder: Path
    """The folder that the exported models lie in."""
    name: str
    source: Path
    """Folder of the original model."""
    may_copy: bool
    _file: BinaryIO | None = None
    _partial: Path | None = None
    _size: int = 0
    _written: dict[str, tuple[int, int]] = field(default_factory=dict)
    _referred: set[str] = field(default_factory=set)

    @property
    def path(self) -> Path:
        return self.folder / self.name

    @property
    def bytes_written(self) -> int:
        return self._size

    @property
    def referred(self) -> tuple[str, ...]:
        """Files of the original model that the export needs."""
        return tuple(sorted(self._referred))

    def placed(self, tensor: TensorProto) -> TensorProto:
        """The weight as an exported model holds it: small ones inside, others in a file.

        Raises:
            ExportError: it lies outside the folder, and copying was not allowed.
            OSError: the file cannot be written; its `filename` is `path`.
        """
        with errors_naming(self.path):
            return self._placed(tensor)

    def _placed(self, tensor: TensorProto) -> TensorProto:
        if tensor.data_location == TensorProto.EXTERNAL:
            return self._from_file(tensor)
        if tensor.data_type == TensorProto.STRING or tensor.ByteSize() < _SMALLEST_APART:
            return tensor
        if tensor.name not in self._written:
            whole = tensor
            if not tensor.HasField("raw_data"):
                whole = numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name)
            self._written[tensor.name] = self._append(whole.raw_data)
        return _external(tensor, self.name, *self._written[tensor.name])

    def _from_file(self, tensor: TensorProto) -> TensorProto:
        file = (self.source / external_location(tensor)).resolve()
        folder = self.folder.resolve()
        entries = {entry.key: entry.value for entry in tensor.external_data}
        offset = int(entries.get("offset", "0"))
        if file.is_relative_to(folder):
            location = file.relative_to(folder).as_posix()
            self._referred.add(location)
            length = entries.get("length")
            return _external(tensor, location, offset, None if length is None else int(length))
        if not self.may_copy:
            raise ExportError(
                f"the weights of this model lie in {file}, and ONNX reads weights from a model's "
                f"own folder only: export into {file.parent} (nothing is copied then), or allow "
                "copying (--copy-weights)"
            )
        key = f"{file}@{offset}"
        if key not in self._written:
            length = int(entries.get("length", file.stat().st_size - offset))
            self._written[key] = self._copy(file, offset, length)
        return _external(tensor, self.name, *self._written[key])

    def _begin(self, size: int) -> BinaryIO:
        if self._file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._partial = new_beside(self.path)
            self._file = self._partial.open("xb")
        align = _PAGE if size >= _PAGE else 64
        padding = -self._size % align
        self._file.write(b"\0" * padding)
        self._size += padding
        return self._file

    def _append(self, data: bytes) -> tuple[int, int]:
        self._begin(len(data)).write(data)
        self._size += len(data)
        return self._size - len(data), len(data)

    def _copy(self, path: Path, offset: int, length: int) -> tuple[int, int]:
        target = self._begin(length)
        begun, left = self._size, length
        with path.open("rb") as source:
            source.seek(offset)
            while left:
                block = source.read(min(_CHUNK, left))
                if not block:
                    raise ExportError(f"{path}: ends {format_bytes(left)} before a weight does")
                target.write(block)
                left -= len(block)
        self._size += length
        return begun, length

    def close(self, keep: bool) -> None:
        """Give the file its name, or remove it."""
        if self._file is None or self._partial is None:
            return
        try:
            with errors_naming(self.path):
                self._file.close()
            if keep:
                put_in_place(self._partial, self.path)
        finally:
            self._partial.unlink(missing_ok=True)


@contextmanager
def weight_file(request: ExportRequest) -> Iterator[WeightFile]:
    """The weights of what is exported; an exception leaves no file behind."""
    weights = WeightFile(
        request.out, f"{request.stem}.weights", request.model.parent, request.copy_weights
    )
    finished = False
    try:
        yield weights
        finished = True
    finally:
        weights.close(keep=finished)


def weights_by_name(model: ModelProto) -> Mapping[str, TensorProto]:
    """The dense initializers of a model's own graph."""
    return {tensor.name: tensor for tensor in model.graph.initializer}


def constant_tensor(node: NodeProto) -> TensorProto | None:
    """The tensor that a `Constant` node holds; None where it holds something else."""
    for attribute in node.attribute:
        if attribute.name == "value":
            tensor = TensorProto()
            tensor.CopyFrom(attribute.t)
            tensor.name = node.output[0]
            return tensor
    return None


def with_placed_bodies(node: NodeProto, weights: WeightFile) -> NodeProto:
    """A node whose control-flow bodies refer to their external weights from the new folder."""
    stored = [t for _, body in bodies_of(node) for t in _store(body)]
    if not any(tensor.data_location == TensorProto.EXTERNAL for tensor in stored):
        return node
    copied = onnx.NodeProto()
    copied.CopyFrom(node)
    for _, body in bodies_of(copied):
        for tensor in _store(body):
            if tensor.data_location == TensorProto.EXTERNAL:
                tensor.CopyFrom(weights.placed(tensor))
    return copied


def _store(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
        for _, body in bodies_of(node):
            yield from _store(body)


def _external(tensor: TensorProto, location: str, offset: int, length: int | None) -> TensorProto:
    result = TensorProto(
        name=tensor.name,
        data_type=tensor.data_type,
        dims=tensor.dims,
        doc_string=tensor.doc_string,
        data_location=TensorProto.EXTERNAL,
    )
    values = {"location": location, "offset": str(offset)}
    if length is not None:
        values["length"] = str(length)
    for key, value in values.items():
        entry = result.external_data.add()
        entry.key, entry.value = key, value
    return result
