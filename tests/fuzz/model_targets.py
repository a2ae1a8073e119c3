"""Targets that are models: the bytes become a file, the file a graph, the graph a file again."""

import gzip
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

from .mutate_bytes import mutate_bytes
from .mutate_documents import document_mutator, mutate_value
from .mutate_messages import message_mutator
from .target import Mutate, OpenTarget

_CORPUS = Path(__file__).with_name("corpus")
_MEMBER = "models/model.json"
_ARCHIVE_ERRORS = (
    zipfile.BadZipFile, zlib.error, struct.error, KeyError, OSError, NotImplementedError, EOFError,
    RuntimeError, ValueError,
)  # fmt: skip


def reader_of(folder: Path, name: str) -> Callable[[bytes], None]:
    """Writes the bytes to a file of that name and imports it; the graph is written and read."""
    from graphs.graph_file import graph_from_bytes, graph_to_bytes
    from graphs.loading import load

    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    model = path.parent if path.parent != folder else path

    def read(data: bytes) -> None:
        path.write_bytes(data)
        graph = load(model, allow_unknown=True)
        again = graph_from_bytes(graph_to_bytes(graph), "again")
        assert again == graph, "a graph file does not give back what was written"
        assert again.report == graph.report, "a graph file loses the import report"

    return read


def open_onnx(folder: Path) -> OpenTarget:
    """ONNX models in binary form."""
    from onnx import ModelProto

    from .onnx_samples import onnx_samples

    return OpenTarget(reader_of(folder, "model.onnx"), onnx_samples(), message_mutator(ModelProto))


def open_graph_def(folder: Path) -> OpenTarget:
    """TensorFlow GraphDefs in binary form."""
    from tensorflow.core.framework import graph_pb2

    samples = [(_CORPUS / name).read_bytes() for name in ("step.pb", "loop.pb")]
    return OpenTarget(reader_of(folder, "model.pb"), samples, message_mutator(graph_pb2.GraphDef))


def open_saved_model(folder: Path) -> OpenTarget:
    """SavedModel folders."""
    from tensorflow.core.protobuf import saved_model_pb2

    samples = [(_CORPUS / "dense.saved_model.pb").read_bytes()]
    read = reader_of(folder, "model/saved_model.pb")
    return OpenTarget(read, samples, message_mutator(saved_model_pb2.SavedModel))


def open_exported_program(folder: Path) -> OpenTarget:
    """Archives of torch.export."""
    samples = [
        _archive((_CORPUS / f"{name}.pt2.json").read_bytes())
        for name in ("layers", "branches", "writes")
    ]
    return OpenTarget(reader_of(folder, "model.pt2"), samples, _mutate_archive)


def _archive(document: bytes) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo(_MEMBER), document)
    return buffer.getvalue()


def _mutate_archive(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    if random.random() < 0.05:
        return mutate_bytes(data, others, random)
    try:
        document, other = _document(data), _document(random.choice(others))
    except _ARCHIVE_ERRORS:
        return mutate_bytes(data, others, random)
    return _archive(document_mutator()(document, [other], random))


def _document(archive: bytes) -> bytes:
    with zipfile.ZipFile(BytesIO(archive)) as opened:
        return opened.read(_MEMBER)


def open_msr_benchmark(folder: Path) -> OpenTarget:
    """Benchmark graphs, which are JSON, and the clusters that belong to them."""
    from simulator.cluster_file import load_cluster
    from simulator.errors import ClusterError

    nodes = [
        {"id": number, "name": f"op{number}", "supportedOnFpga": number % 2, "cpuLatency": 3.5,
         "fpgaLatency": 0.25, "isBackwardNode": number // 3, "size": 4096.0, "colorClass": number}
        for number in range(5)
    ]  # fmt: skip
    edges = [{"sourceId": a, "destId": b, "cost": 0.5} for a, b in ((0, 1), (1, 2), (0, 3), (3, 4))]
    document = {"maxSizePerFPGA": 1e9, "maxFPGAs": 3, "maxCPUs": 1, "nodes": nodes, "edges": edges}
    load_graph = reader_of(folder, "model.json")

    def read(data: bytes) -> None:
        (folder / "model.json").write_bytes(data)
        with suppress(ClusterError):
            load_cluster(folder / "model.json")
        load_graph(data)

    return OpenTarget(read, [json.dumps(document).encode()], document_mutator())


def open_graph_file(folder: Path) -> OpenTarget:
    """graphwright's own graph files; checksums are made to fit again."""
    from graphs.graph_file import graph_to_bytes
    from graphs.loading import load

    from .onnx_samples import onnx_samples

    samples = []
    for number, sample in enumerate(onnx_samples()[:2]):
        path = folder / f"sample{number}.onnx"
        path.write_bytes(sample)
        samples.append(graph_to_bytes(load(path, allow_unknown=True)))
    return OpenTarget(reader_of(folder, "model.gwgraph"), samples, _graph_file_mutator())


def _graph_file_mutator() -> Mutate:
    import lzma
    import struct

    from graphs.graph_file import MAGIC, _checksum

    start = len(MAGIC) + 4

    def mutate(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
        if random.random() < 0.1:
            return mutate_bytes(data, others, random)
        try:
            (length,) = struct.unpack("<I", data[len(MAGIC) : start])
            header: Any = json.loads(data[start : start + length])
            payload = lzma.decompress(data[start + length :])
        except (ValueError, lzma.LZMAError, struct.error, RecursionError):
            return mutate_bytes(data, others, random)
        if random.random() < 0.5:
            payload = mutate_bytes(payload, [payload], random)
        else:
            header = mutate_value(header, header, random)
        packed = lzma.compress(payload, preset=0)
        if isinstance(header, dict):
            header.pop("checksum", None)
            header["checksum"] = _checksum(header, packed)
        encoded = json.dumps(header, sort_keys=True).encode()
        return MAGIC + struct.pack("<I", len(encoded)) + encoded + packed

    return mutate


def open_gzipped(folder: Path) -> OpenTarget:
    """GraphDefs as text, gzipped or not."""
    from google.protobuf import text_format
    from tensorflow.core.framework import graph_pb2

    from .mutate_bytes import mutate_text

    message = graph_pb2.GraphDef.FromString((_CORPUS / "step.pb").read_bytes())
    del message.node[8:]
    text = text_format.MessageToString(message).encode()

    def mutate(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
        if data.startswith(b"\x1f\x8b"):
            return mutate_bytes(data, others, random)
        return mutate_text(data, others, random)

    read = reader_of(folder, "model.pbtxt")
    return OpenTarget(read, [text, gzip.compress(text, mtime=0)], mutate)
