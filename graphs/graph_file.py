"""graphwright's own graph file: a JSON header and an LZMA block of little-endian arrays.

Layout: eight magic bytes, the header's length (uint32, little-endian), the header (JSON, UTF-8),
the compressed payload. The header lists every array with its type and shape in payload order, and
has a checksum of all the rest of the file, the name and the import report too.
Nothing in the file is ever executed.
"""

import hashlib
import json
import lzma
import struct
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from graphs.errors import GraphError
from graphs.graph import Graph
from graphs.import_report import ImportReport
from graphs.whole_files import write_whole

SUFFIX = ".gwgraph"
MAGIC = b"GWGRAPH\n"
#: Version 2 has `launches`; the graphs of version 1 start one kernel an op.
SCHEMA_VERSION = 2
_MAX_HEADER_BYTES = 1 << 24
_MAX_PAYLOAD_BYTES = 1 << 31
#: What a count in an import report may be.
_MOST_COUNTED = 1 << 53
_STRINGS = ("op_names", "op_types")
_ARRAY_TYPES = frozenset({"|u1", "<i4", "<i8", "<f8"})


def graph_to_bytes(graph: Graph, preset: int = 6) -> bytes:
    """Serialise a graph; equal graphs with equal name and report give equal bytes.

    Args:
        graph: any graph.
        preset: how well LZMA packs it, from 0 (fast) to 9 (small).
    """
    blocks: list[bytes] = []
    arrays: list[dict[str, Any]] = []

    def put(name: str, values: np.ndarray) -> None:
        data = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
        arrays.append({"name": name, "dtype": data.dtype.str, "shape": list(data.shape)})
        blocks.append(data.tobytes())

    for item in fields(graph):
        value = getattr(graph, item.name)
        if isinstance(value, np.ndarray):
            put(item.name, value)
    for kind in sorted(graph.profiled_seconds):
        put(f"profiled_seconds/{kind}", graph.profiled_seconds[kind])
    for name in _STRINGS:
        put(name, np.frombuffer(json.dumps(getattr(graph, name)).encode(), np.uint8))
    header = {
        "schema_version": SCHEMA_VERSION,
        "name": graph.name,
        "digest": graph.digest,
        "arrays": arrays,
        "report": asdict(graph.report),
    }
    payload = lzma.compress(b"".join(blocks), preset=preset)
    header["checksum"] = _checksum(header, payload)
    encoded = json.dumps(header, sort_keys=True).encode()
    return MAGIC + struct.pack("<I", len(encoded)) + encoded + payload


def graph_from_bytes(data: bytes, origin: str) -> Graph:
    """Read a graph that `graph_to_bytes` wrote.

    Raises:
        GraphError: not such a file, cut short, damaged, or of a newer schema version.
    """
    if not data.startswith(MAGIC):
        raise GraphError(f"{origin}: not a graphwright graph file (its first bytes are wrong)")
    try:
        header, packed, payload = _split(data)
        if header["schema_version"] > SCHEMA_VERSION:
            raise GraphError(
                f"{origin}: schema version {header['schema_version']}; this graphwright reads up "
                f"to {SCHEMA_VERSION}: update graphwright or write the file with this version"
            )
        checksum = header.pop("checksum", None)  # files of earlier versions have none
        if checksum is not None and checksum != _checksum(header, packed):
            raise GraphError(f"{origin}: damaged, its content does not match its checksum")
        values = _arrays(header, payload)
        for name in _STRINGS:
            values[name] = tuple(json.loads(values[name].tobytes().decode()))
        if header["schema_version"] == 1:
            values["launches"] = np.ones(len(values["op_names"]), np.int64)
        prefix = "profiled_seconds/"
        profiled = {k.removeprefix(prefix): values.pop(k) for k in list(values) if prefix in k}
        report = _report(header["report"])
        graph = Graph(name=header["name"], profiled_seconds=profiled, report=report, **values)
        if graph.digest != header["digest"]:
            raise GraphError(f"{origin}: damaged, its content does not match its digest")
    except GraphError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, lzma.LZMAError, struct.error,
            EOFError, OverflowError, RecursionError) as error:  # fmt: skip
        raise GraphError(f"{origin}: damaged or cut short ({error})") from error
    return graph


def _split(data: bytes) -> tuple[dict[str, Any], bytes, bytes]:
    """The header, and the payload as it is in the file and unpacked."""
    start = len(MAGIC) + 4
    (length,) = struct.unpack("<I", data[len(MAGIC) : start])
    if length > _MAX_HEADER_BYTES or start + length > len(data):
        raise ValueError("the header is longer than the file")
    header = json.loads(data[start : start + length].decode())
    if not isinstance(header, dict):
        raise ValueError("the header is not an object")
    decompressor = lzma.LZMADecompressor()
    packed = data[start + length :]
    payload = decompressor.decompress(packed, _MAX_PAYLOAD_BYTES)
    if not decompressor.eof or decompressor.unused_data:
        raise ValueError("the payload does not end where the file does")
    return header, packed, payload


def _arrays(header: dict[str, Any], payload: bytes) -> dict[str, Any]:
    values: dict[str, Any] = {}
    position = 0
    for entry in header["arrays"]:
        if entry["dtype"] not in _ARRAY_TYPES:
            raise ValueError(f"unknown array type {entry['dtype']!r}")
        dtype = np.dtype(entry["dtype"])
        shape = tuple(int(size) for size in entry["shape"])
        count = int(np.prod(shape, dtype=np.int64))
        if count < 0 or position + count * dtype.itemsize > len(payload):
            raise ValueError(f"array {entry['name']!r} is longer than the payload")
        flat = np.frombuffer(payload, dtype, count, position)
        values[entry["name"]] = flat.astype(dtype.newbyteorder("=")).reshape(shape)
        position += count * dtype.itemsize
    return values


def _report(values: dict[str, Any]) -> ImportReport:
    """The import report, with every field of the type that it must have."""
    for item in fields(ImportReport):
        value = values.get(item.name)
        if item.type is str:
            fits = isinstance(value, str)
        elif isinstance(item.default, tuple):
            fits = isinstance(value, list) and all(isinstance(text, str) for text in value)
            if isinstance(value, list):
                values[item.name] = tuple(value)
        else:
            fits = isinstance(value, dict) and all(
                isinstance(count, int) and 0 <= count <= _MOST_COUNTED for count in value.values()
            )
        if item.name in values and not fits:
            raise ValueError(f"{item.name} of the import report is {value!r:.80}")
    return ImportReport(**values)


def _checksum(header: Mapping[str, Any], payload: bytes) -> str:
    state = hashlib.blake2b(json.dumps(header, sort_keys=True).encode(), digest_size=16)
    state.update(payload)
    return state.hexdigest()


def write_graph(graph: Graph, path: Path) -> None:
    """Write a graph file; an existing file is replaced whole or not at all."""
    write_whole(path, graph_to_bytes(graph))


def read_graph(path: Path, dims: Mapping[str, int]) -> Graph:
    """Read a graph file; sizes of dimensions were settled when it was written.

    Raises:
        GraphError: a damaged file, or one of another version.
    """
    del dims
    return graph_from_bytes(path.read_bytes(), str(path))
