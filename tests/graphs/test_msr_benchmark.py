"""The dnn-partitioning importer: figures in, figures out, and every bad file refused."""

import copy
import json
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphs import ModelError, OpKind, Phase, Storage, load
from graphs.importers.msr_benchmark import (
    NOMINAL_HOP_BYTES_PER_SECOND,
    import_msr_benchmark,
    read_msr_expert,
)

DATA = Path(__file__).resolve().parents[1] / "data" / "msr"
SAMPLES = sorted(path for path in DATA.glob("*.json") if "expert" not in path.name)


def _node(identifier: int, **changes: Any) -> dict[str, Any]:
    node = {
        "id": identifier,
        "name": f"n{identifier}",
        "supportedOnFpga": True,
        "cpuLatency": 2.0,
        "fpgaLatency": 0.5,
        "isBackwardNode": False,
        "size": 8.0,
    }
    return node | changes


def _document(**changes: Any) -> dict[str, Any]:
    document = {
        "maxSizePerFPGA": 1e9,
        "maxFPGAs": 2,
        "maxCPUs": 1,
        "nodes": [_node(1), _node(7), _node(3)],
        "edges": [
            {"sourceId": 1, "destId": 7, "cost": 0.25},
            {"sourceId": 7, "destId": 3, "cost": 0.5, "size": 12.0},
        ],
    }
    return document | changes


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_samples_keep_every_figure(path: Path) -> None:
    document = json.loads(path.read_text())
    graph = load(path)
    nodes = {node["name"]: node for node in document["nodes"]}
    assert set(graph.op_names) == set(nodes)
    assert graph.edge_count == len(document["edges"])
    assert graph.report.source_format == "msr-benchmark"
    wanted = [nodes[name] for name in graph.op_names]
    np.testing.assert_allclose(
        graph.profiled_seconds["accelerator"] * 1e3, [node["fpgaLatency"] for node in wanted]
    )
    np.testing.assert_allclose(
        graph.profiled_seconds["cpu"] * 1e3, [node["cpuLatency"] for node in wanted]
    )
    np.testing.assert_array_equal(graph.resident_bytes, [node["size"] for node in wanted])
    np.testing.assert_array_equal(
        graph.phases == Phase.BACKWARD, [bool(node["isBackwardNode"]) for node in wanted]
    )
    assert set(graph.tensor_storage) == {Storage.UNCOUNTED}
    reached = {edge["destId"] for edge in document["edges"]}
    parameters = [
        node["id"] not in reached and node["size"] > 0 and not node["cpuLatency"] for node in wanted
    ]
    np.testing.assert_array_equal(graph.kinds == OpKind.VARIABLE, parameters)
    assert set(graph.kinds[~np.array(parameters)]) == {OpKind.CUSTOM}


def test_the_gnmt_sample_takes_the_published_time_on_one_accelerator() -> None:
    graph = load(DATA / "layer_gnmt_training.json")
    assert graph.profiled_seconds["accelerator"].sum() * 1e3 == pytest.approx(520.453, abs=5e-4)


def test_colour_classes_become_colocation_groups() -> None:
    path = DATA / "operator_bert_l-3_training.json"
    graph = load(path)
    color = {node["name"]: node.get("colorClass") for node in json.loads(path.read_text())["nodes"]}
    members: dict[int, set[str]] = {}
    for name in graph.op_names:
        if color[name] is not None:
            members.setdefault(color[name], set()).add(name)
    groups: dict[int, set[str]] = {}
    for name, group in zip(graph.op_names, graph.colocation.tolist(), strict=True):
        if group >= 0:
            groups.setdefault(group, set()).add(name)
    wanted = sorted(map(sorted, (names for names in members.values() if len(names) > 1)))
    assert sorted(map(sorted, groups.values())) == wanted


def test_a_hop_takes_its_milliseconds_at_the_nominal_bandwidth() -> None:
    graph = import_msr_benchmark(_document(), "toy")
    seconds = graph.tensor_bytes / NOMINAL_HOP_BYTES_PER_SECOND
    np.testing.assert_allclose(seconds * 1e3, [0.25, 0.5, 0.0], atol=1e-9)


def test_unsupported_nodes_never_run_on_an_accelerator() -> None:
    nodes = [_node(1), _node(7, supportedOnFpga=0), _node(3)]
    graph = import_msr_benchmark(_document(nodes=nodes), "toy")
    assert graph.profiled_seconds["accelerator"].tolist() == [5e-4, inf, 5e-4]
    assert graph.profiled_seconds["cpu"].tolist() == [2e-3] * 3


def test_repeated_names_get_their_id() -> None:
    nodes = [_node(1), _node(7, name="same"), _node(3, name="same")]
    graph = import_msr_benchmark(_document(nodes=nodes), "toy")
    assert graph.op_names == ("n1", "same#7", "same#3")


def test_uneven_edge_costs_move_the_largest_and_are_noted() -> None:
    edges = [
        {"sourceId": 1, "destId": 7, "cost": 0.25},
        {"sourceId": 1, "destId": 3, "cost": 0.75},
    ]
    graph = import_msr_benchmark(_document(edges=edges), "toy")
    assert graph.tensor_bytes[0] == round(0.75e-3 * NOMINAL_HOP_BYTES_PER_SECOND)
    assert any("different cost" in note for note in graph.report.notes)


def test_the_expert_split_covers_the_graph() -> None:
    split = read_msr_expert(json.loads((DATA / "gnmt_training_expert.json").read_text()), "expert")
    nodes = json.loads((DATA / "layer_gnmt_training.json").read_text())["nodes"]
    assert set(split) == {node["id"] for node in nodes}
    assert set(split.values()) == {f"accelerator:{index}" for index in range(6)}
    assert split[1] == "accelerator:0"


def _with(path: tuple[Any, ...], value: object) -> dict[str, Any]:
    document = copy.deepcopy(_document())
    target: Any = document
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return document


BAD = {
    "a list": ([], "expected a JSON object"),
    "another json": ({"a": 1}, "no 'nodes' and 'edges'"),
    "nodes not a list": (_with(("nodes",), {}), "expected a JSON list"),
    "no nodes": (_document(nodes=[], edges=[]), "no ops"),
    "a node that is a number": (_with(("nodes", 0), 5), "expected a JSON object"),
    "no name": (_with(("nodes", 0, "name"), ""), "non-empty string"),
    "id as text": (_with(("nodes", 0, "id"), "1"), "expected an integer"),
    "id as flag": (_with(("nodes", 0, "id"), True), "expected an integer"),
    "repeated id": (_with(("nodes", 1, "id"), 1), "repeats the id 1"),
    "negative latency": (_with(("nodes", 0, "cpuLatency"), -1.0), "number from 0"),
    "nan latency": (_with(("nodes", 0, "fpgaLatency"), float("nan")), "number from 0"),
    "infinite size": (_with(("nodes", 0, "size"), inf), "number from 0"),
    "huge integer": (_with(("nodes", 0, "size"), 10**400), "number from 0"),
    "latency as text": (_with(("nodes", 0, "cpuLatency"), "1"), "number from 0"),
    "flag as text": (_with(("nodes", 0, "supportedOnFpga"), "yes"), "true or false"),
    "flag of two": (_with(("nodes", 0, "isBackwardNode"), 2), "true or false"),
    "colour as text": (_with(("nodes", 0, "colorClass"), "red"), "expected an integer"),
    "unknown node": (_with(("edges", 0, "destId"), 99), "no node has that id"),
    "edge without cost": (_with(("edges", 0), {"sourceId": 1, "destId": 7}), "lacks 'cost'"),
    "negative cost": (_with(("edges", 0, "cost"), -0.1), "number from 0"),
    "repeated edge": (
        _with(("edges", 1), {"sourceId": 1, "destId": 7, "cost": 0.1}),
        "repeats the edge",
    ),
    "cycle": (_with(("edges", 1), {"sourceId": 7, "destId": 1, "cost": 0.1}), "cycle"),
    "self loop": (_with(("edges", 1), {"sourceId": 7, "destId": 7, "cost": 0.1}), "cycle"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_documents_are_refused(case: str) -> None:
    document, message = BAD[case]
    with pytest.raises(ModelError, match=message) as caught:
        import_msr_benchmark(document, "some.json")
    assert "some.json" in str(caught.value)


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"fpgas": [{}], "cpus": []},
        {"fpgas": [{"nodes": ["a"]}], "cpus": []},
        {"fpgas": [{"nodes": [1]}, {"nodes": [1]}], "cpus": []},
    ],
)
def test_bad_splits_are_refused(document: object) -> None:
    with pytest.raises(ModelError, match=r"split\.json"):
        read_msr_expert(document, "split.json")
