"""Graph files: an exact round trip, and a `GraphError` for anything damaged."""

import contextlib
import json
import lzma
import struct
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shape_checks
from graph_samples import graph_of, op, random_graph
from hypothesis import given, settings
from hypothesis import strategies as st

from graphs import load
from graphs.errors import GraphError
from graphs.graph import Graph
from graphs.graph_file import MAGIC, SCHEMA_VERSION, graph_from_bytes, graph_to_bytes, write_graph
from graphs.import_report import ImportReport

BUNDLED = sorted((Path(__file__).resolve().parents[2] / "graphs" / "bundled").glob("*.gwgraph"))


def sample() -> Graph:
    report = ImportReport("onnx", {"batch": 8}, notes=("one", "two"), estimated_ops={"Odd": 2})
    graph = replace(random_graph(3, 12), name="sample", report=report)
    return replace(graph, profiled_seconds={"gpu": np.arange(12.0), "cpu": np.full(12, np.inf)})


DATA = graph_to_bytes(sample())


def parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and unpacked payload of a graph file, without the checksum, as in older files."""
    start = len(MAGIC) + 4
    (length,) = struct.unpack("<I", data[len(MAGIC) : start])
    payload = lzma.decompress(data[start + length :])
    header = json.loads(data[start : start + length])
    del header["checksum"]
    return header, payload


def assembled(header: object, payload: bytes) -> bytes:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return MAGIC + struct.pack("<I", len(encoded)) + encoded + lzma.compress(payload)


@given(st.integers(0, 10_000), st.integers(1, 40))
def test_round_trip(seed: int, ops: int) -> None:
    graph = random_graph(seed, ops)
    again = graph_from_bytes(graph_to_bytes(graph), "memory")
    assert again == graph
    assert graph_to_bytes(again) == graph_to_bytes(graph)


def test_nothing_is_lost() -> None:
    graph, again = sample(), graph_from_bytes(DATA, "memory")
    assert (again.name, again.report) == (graph.name, graph.report)
    assert set(again.profiled_seconds) == {"gpu", "cpu"}
    for item in fields(graph):
        value = getattr(graph, item.name)
        if isinstance(value, np.ndarray):
            found = getattr(again, item.name)
            assert found.dtype == value.dtype
            np.testing.assert_array_equal(found, value)


def test_names_of_any_script() -> None:
    graph = graph_of(op("größe/λ", 1), op("'\"\\ \t🙂", 1), op("", 1))
    assert graph_from_bytes(graph_to_bytes(graph), "memory").op_names == graph.op_names


def test_writing_replaces_a_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "model.gwgraph"
    path.write_bytes(b"old")
    write_graph(sample(), path)
    assert load(path) == sample()
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.gwgraph"]


@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: path.stem)
def test_bundled_graphs_load(path: Path) -> None:
    assert load(path).op_count > 100


def test_a_newer_schema_says_what_to_do() -> None:
    header, payload = parts(DATA)
    header["schema_version"] = SCHEMA_VERSION + 1
    with pytest.raises(GraphError, match="schema version 3; this graphwright reads up to 2: upd"):
        graph_from_bytes(assembled(header, payload), "new.gwgraph")


def test_version_1_starts_one_kernel_an_op() -> None:
    header, payload = parts(DATA)
    kept, start = [], 0
    arrays = header["arrays"]
    for entry in arrays:
        size = int(np.prod(entry["shape"])) * np.dtype(entry["dtype"]).itemsize
        if entry["name"] != "launches":
            kept.append(payload[start : start + size])
        start += size
    header["arrays"] = [entry for entry in arrays if entry["name"] != "launches"]
    header["schema_version"] = 1
    assert graph_from_bytes(assembled(header, b"".join(kept)), "old.gwgraph") == sample()


def test_another_file_is_recognised() -> None:
    for data in (b"", b"GW", b"PK\x03\x04", b"\x00" * 100, DATA[1:]):
        with pytest.raises(GraphError, match="not a graphwright graph file"):
            graph_from_bytes(data, "other")


@pytest.mark.parametrize("extra", [b"\x00", b"trailing"])
def test_bytes_behind_the_end_are_refused(extra: bytes) -> None:
    with pytest.raises(GraphError, match="does not end where the file does"):
        graph_from_bytes(DATA + extra, "long")


def test_every_truncation_is_refused() -> None:
    for length in range(len(MAGIC), len(DATA)):
        with pytest.raises(GraphError, match="cut short"):
            graph_from_bytes(DATA[:length], "short")


def _edited(edit: Callable[[dict[str, Any]], object]) -> bytes:
    header, payload = parts(DATA)
    edit(header)
    return assembled(header, payload)


def _array(header: dict[str, Any], name: str) -> dict[str, Any]:
    return next(entry for entry in header["arrays"] if entry["name"] == name)


@pytest.mark.parametrize(
    "edit",
    [
        lambda h: h.update(digest="0" * 16),
        lambda h: h.pop("digest"),
        lambda h: h.pop("arrays"),
        lambda h: h.pop("report"),
        lambda h: h.update(report={"unknown": 1}),
        lambda h: h.update(report=[]),
        lambda h: h.update(schema_version="1"),
        lambda h: h.update(arrays=None),
        lambda h: h["arrays"].pop(),
        lambda h: h["arrays"].pop(0),
        lambda h: h["arrays"].append({"name": "extra", "dtype": "|u1", "shape": [0]}),
        lambda h: _array(h, "kinds").update(dtype="|O"),
        lambda h: _array(h, "kinds").update(dtype="<f8"),
        lambda h: _array(h, "kinds").update(dtype="V0"),
        lambda h: _array(h, "kinds").update(dtype=["<i8"]),
        lambda h: _array(h, "kinds").update(shape=[-1]),
        lambda h: _array(h, "kinds").update(shape=[1 << 40]),
        lambda h: _array(h, "kinds").update(shape=[1 << 33, 1 << 31]),
        lambda h: _array(h, "kinds").update(shape=[1 << 80]),
        lambda h: _array(h, "kinds").update(shape=["a"]),
        lambda h: _array(h, "kinds").update(shape=[12, 1]),
        lambda h: _array(h, "kinds").update(name="phases"),
        lambda h: _array(h, "flops").update(dtype="<i8"),
        lambda h: _array(h, "profiled_seconds/gpu").update(dtype="<i8"),
    ],
)
def test_headers_that_do_not_fit_are_refused(edit: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(GraphError):
        graph_from_bytes(_edited(edit), "damaged")
    shape_checks.violations.clear()  # wrong arrays are what the reader must cope with here


@pytest.mark.parametrize(
    "header", [b"[]", b"{", b"\xff", b"[" * 200_000, b"{}", b"null", b'{"schema_version": 1}']
)
def test_headers_of_another_form_are_refused(header: bytes) -> None:
    with pytest.raises(GraphError):
        graph_from_bytes(assembled(header, b""), "damaged")


@pytest.mark.parametrize(
    "report",
    [{"notes": "text"}, {"notes": [1]}, {"assumed_dims": []}, {"estimated_ops": {"Conv": "two"}},
     {"opaque_ops": {"Conv": -1}}, {"folded_ops": {"Conv": 10**30}}, {"source_format": 3}],
)  # fmt: skip
def test_import_reports_of_another_form_are_refused(report: dict[str, Any]) -> None:
    with pytest.raises(GraphError, match="of the import report is"):
        graph_from_bytes(_edited(lambda header: header["report"].update(report)), "damaged")


@pytest.mark.parametrize("name", [3, None, "\ud800"])
def test_a_graph_is_called_by_a_text(name: object) -> None:
    with pytest.raises(GraphError):
        graph_from_bytes(_edited(lambda header: header.update(name=name)), "damaged")
    shape_checks.violations.clear()


def test_names_that_are_no_text_are_refused() -> None:
    graph = graph_of(op("a", 1), op("b", 1))
    header, payload = parts(graph_to_bytes(graph))
    with pytest.raises(GraphError):
        graph_from_bytes(assembled(header, payload.replace(b'["a", "b"]', b"[1234, 56]")), "bad")
    with pytest.raises(GraphError):
        graph_from_bytes(assembled(header, payload.replace(b'["a", "b"]', b'["a", "a"]')), "bad")
    shape_checks.violations.clear()


@settings(max_examples=300)
@given(st.integers(0, len(DATA) * 8 - 1))
def test_a_flipped_bit_changes_neither_graph_nor_name_nor_report(bit: int) -> None:
    data = bytearray(DATA)
    data[bit // 8] ^= 1 << bit % 8
    with contextlib.suppress(GraphError):
        found, graph = graph_from_bytes(bytes(data), "flipped"), sample()
        assert found == graph
        assert (found.name, found.report) == (graph.name, graph.report)
    shape_checks.violations.clear()


@settings(max_examples=200)
@given(st.data())
def test_mutated_files_give_a_graph_or_a_graph_error(data: st.DataObject) -> None:
    header, payload = parts(DATA)
    changed = bytearray(payload)
    for position in data.draw(st.lists(st.integers(0, len(payload) - 1), max_size=4)):
        changed[position] = data.draw(st.integers(0, 255))
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
        max_leaves=5,
    )
    target = data.draw(st.sampled_from([header, header["report"], *header["arrays"]]))
    target[data.draw(st.sampled_from(sorted(target)))] = data.draw(values)
    with contextlib.suppress(GraphError):
        assert isinstance(graph_from_bytes(assembled(header, bytes(changed)), "mutated"), Graph)
    shape_checks.violations.clear()
