"""Plan files: an exact round trip, application by name, and a `PlanError` for all else."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graph_samples import graph_of, op, random_cluster, random_devices, random_graph, toy_cluster
from hypothesis import given, settings
from hypothesis import strategies as st

from graphs.graph import Graph
from placement.plan_file import PlanDocument, parse_plan, plan_to_json, read_plan, write_plan
from simulator.errors import PlanError
from simulator.fusion import xla_like_groups
from simulator.plan import Plan


def chain(count: int, prefix: str = "n") -> Graph:
    return graph_of(
        *(op(f"{prefix}{i}", 1, (f"{prefix}{i - 1}",) if i else (), 1) for i in range(count))
    )


CLUSTER = toy_cluster(2)
GRAPH = chain(4)
PLAN = Plan.of(np.array([0, 0, 1, 1]), np.array([3.5, 2.0, 1.0, 0.25]))
TEXT = plan_to_json(PlanDocument(PLAN, {"placer": "test"}, {"seconds": 1.5}), GRAPH, CLUSTER)


@given(st.integers(0, 100_000))
def test_round_trip(seed: int) -> None:
    graph, cluster = random_graph(seed, 40), random_cluster(seed)
    devices = random_devices(graph, cluster, seed)
    priorities = np.random.default_rng(seed).normal(size=40)
    plan = Plan.of(devices, priorities, xla_like_groups(graph, devices) if seed % 2 else None)
    document = PlanDocument(plan, {"seed": seed, "nested": {"a": [1, None]}}, {"seconds": 0.1})
    again = parse_plan(plan_to_json(document, graph, cluster), graph, cluster, "text")
    assert again == document


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text("old")
    write_plan(PlanDocument(PLAN), GRAPH, CLUSTER, path)
    assert read_plan(path, GRAPH, CLUSTER).plan == PLAN
    assert [entry.name for entry in tmp_path.iterdir()] == ["plan.json"]
    with pytest.raises(PlanError, match=r"missing.json: cannot be read"):
        read_plan(tmp_path / "missing.json", GRAPH, CLUSTER)
    path.write_bytes(b"\xff\xff")
    with pytest.raises(PlanError, match="cannot be read"):
        read_plan(path, GRAPH, CLUSTER)


def test_one_line_per_op_for_people_who_read_differences() -> None:
    assert '    ["n0", "d0", 3.5, null],\n    ["n1", "d0", 2.0, null],\n' in TEXT
    body = json.loads(TEXT)
    assert body["graph"] == {"name": "sample", "digest": GRAPH.digest, "ops": 4}
    assert body["cluster"]["devices"] == ["d0", "d1"]


def test_a_plan_is_applied_by_name_whatever_the_order() -> None:
    body = json.loads(TEXT)
    body["ops"].reverse()
    assert parse_plan(json.dumps(body), GRAPH, CLUSTER, "text").plan == PLAN


def test_new_ops_follow_their_first_input_or_first_reader() -> None:
    old = chain(20)
    devices = np.array([0] * 10 + [1] * 10)
    text = plan_to_json(PlanDocument(Plan.of(devices)), old, CLUSTER)
    changed = graph_of(
        op("source", 1, (), 1),
        *(op(f"n{i}", 1, (f"n{i - 1}",) if i else ("source",), 1) for i in range(17)),
        op("n17", 1, ("n16", "extra"), 1),
        op("extra", 1, ("n3",), 1),
    )
    plan = parse_plan(text, changed, CLUSTER, "text").plan
    where = dict(zip(changed.op_names, plan.devices.tolist(), strict=True))
    rank = dict(zip(changed.op_names, plan.priorities.tolist(), strict=True))
    assert (where["source"], rank["source"]) == (where["n0"], rank["n0"])
    assert (where["extra"], rank["extra"]) == (where["n3"], rank["n3"])
    assert all(where[f"n{i}"] == (i >= 10) for i in range(18))


def test_new_ops_of_a_colocation_group_go_where_the_group_is() -> None:
    text = plan_to_json(PlanDocument(Plan.of(np.array([0] * 10 + [1] * 10))), chain(20), CLUSTER)
    changed = graph_of(
        *(op(f"n{i}", 1, (f"n{i - 1}",) if i else (), 1) for i in range(19)),
        op("n19", 1, ("n18",), 1, colocation="g"),
        op("new", 1, ("n0",), 1, colocation="g"),
    )
    plan = parse_plan(text, changed, CLUSTER, "text").plan
    assert plan.devices[changed.op_index["new"]] == 1


def test_a_plan_for_another_graph_is_refused() -> None:
    message = r"no entry for 4 of the 4 ops of 'sample': a plan for another graph \(it was made fo"
    with pytest.raises(PlanError, match=message):
        parse_plan(TEXT, chain(4, "other"), CLUSTER, "text")
    with pytest.raises(PlanError, match="no entry for 2 of the 6 ops"):
        parse_plan(TEXT, chain(6), CLUSTER, "text")


def test_a_plan_for_another_cluster_is_refused() -> None:
    with pytest.raises(PlanError, match="device 'd1' is not in cluster 'toy-1', which has d0"):
        parse_plan(TEXT, GRAPH, toy_cluster(1), "text")


def test_huge_group_numbers_are_only_labels() -> None:
    body = json.loads(TEXT)
    body["ops"] = [[name, "d0", 0, None] for name in GRAPH.op_names]
    body["ops"][0][3] = body["ops"][1][3] = (1 << 31) - 1
    with pytest.raises(PlanError, match=r"fusion group 0 has 2 reductions or contractions"):
        parse_plan(json.dumps(body), GRAPH, CLUSTER, "text")


def _ops(index: int, column: int, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda body: body["ops"][index].__setitem__(column, value)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda b: b.pop("ops"), "not a plan file; it needs schema_version and ops"),
        (lambda b: b.pop("schema_version"), "not a plan file"),
        (lambda b: b.update(schema_version=2), "schema_version 2; this graphwright reads 1"),
        (lambda b: b.update(devices=[]), "unknown key devices"),
        (lambda b: b.update(ops={}), r"ops must be a list of \[name, device, priority, group\]"),
        (lambda b: b.update(ops=[]), "no entry for 4 of the 4"),
        (lambda b: b.update(provenance=[]), "provenance and predicted must be objects"),
        (lambda b: b["ops"].append(b["ops"][0]), "op 'n0' has two entries"),
        (lambda b: b["ops"][1].pop(), r"ops\[1\] must be \[name, device, priority, group or null"),
        (_ops(1, 0, 7), r"ops\[1\] must be"),
        (_ops(1, 1, None), r"ops\[1\] must be"),
        (_ops(1, 1, "gpu"), "device 'gpu' is not in cluster 'toy-2', which has d0, d1"),
        (_ops(1, 2, float("nan")), "found priority nan"),
        (_ops(1, 2, float("inf")), "found priority inf"),
        (_ops(1, 2, 10**400), "found priority 1000"),
        (_ops(1, 2, True), "found priority True"),
        (_ops(1, 2, "1"), "found priority '1'"),
        (_ops(1, 3, -1), "found group -1"),
        (_ops(1, 3, 1 << 31), "found group 2147483648"),
        (_ops(1, 3, 0.5), "found group 0.5"),
        (_ops(1, 3, False), "found group False"),
    ],
)
def test_mistakes_are_explained(edit: Callable[[dict[str, Any]], object], message: str) -> None:
    body = json.loads(TEXT)
    edit(body)
    with pytest.raises(PlanError, match=message):
        parse_plan(json.dumps(body), GRAPH, CLUSTER, "plan.json")


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "7", "[" * 100_000, '{"ops": []}'])
def test_other_documents_are_refused(text: str) -> None:
    with pytest.raises(PlanError):
        parse_plan(text, GRAPH, CLUSTER, "plan.json")


def test_a_colocation_group_must_stay_together() -> None:
    graph = graph_of(*(op(f"n{i}", 1, colocation="g") for i in range(4)))
    with pytest.raises(PlanError, match="colocation group"):
        parse_plan(TEXT, graph, CLUSTER, "plan.json")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
    | st.sampled_from(["d0", "n1"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=300)
@given(st.data())
def test_mutated_plans_are_a_plan_or_a_plan_error(data: st.DataObject) -> None:
    body = json.loads(TEXT)
    for _ in range(data.draw(st.integers(1, 3))):
        if data.draw(st.booleans()):
            body[data.draw(st.sampled_from(sorted(body)))] = data.draw(VALUES)
        elif isinstance(body["ops"], list) and body["ops"]:
            row = data.draw(st.sampled_from(body["ops"]))
            if isinstance(row, list) and row:
                row[data.draw(st.integers(0, len(row) - 1))] = data.draw(VALUES)
    with suppress(PlanError):
        document = parse_plan(json.dumps(body), GRAPH, CLUSTER, "fuzz")
        document.plan.check(GRAPH, CLUSTER)


@settings(max_examples=100)
@given(st.integers(0, len(TEXT) - 3), st.characters(codec="utf-8"))
def test_damaged_text_is_a_plan_or_a_plan_error(position: int, character: str) -> None:
    with suppress(PlanError):
        parse_plan(TEXT[:position] + character + TEXT[position + 1 :], GRAPH, CLUSTER, "fuzz")
    with pytest.raises(PlanError):
        parse_plan(TEXT[:position], GRAPH, CLUSTER, "cut short")
