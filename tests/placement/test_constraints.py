"""Constraints: what they match, and what is said when they cannot be met."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graph_samples import graph_of, op, toy_cluster
from hypothesis import given, settings
from hypothesis import strategies as st

from graphs.graph import Graph
from placement.constraints import ConstraintError, Constraints, load_constraints
from placement.problem import Problem
from simulator.errors import ClusterError, InfeasibleError, PlanError
from simulator.plan import Plan

GRAPH = graph_of(
    op("layer1/dense", 1),
    op("layer1/bias", 1),
    op("layer2/dense", 1, colocation="g"),
    op("layer2/bias", 1, colocation="g"),
    op("out[0]", 1),
)


def allowed(graph: Graph = GRAPH, **rules: Any) -> list[list[int]]:
    matrix = Constraints(**rules).allowed(graph, toy_cluster(3))
    return [np.flatnonzero(row).tolist() for row in matrix]


def test_pins_and_prohibitions_by_name_or_whole_match() -> None:
    everywhere = [0, 1, 2]
    assert allowed(pins={"layer1/dense": "d1"})[:2] == [[1], everywhere]
    assert allowed(pins={"layer1/.*": "d1"})[:3] == [[1], [1], everywhere]
    assert allowed(pins={".*/bias": "d2"})[1] == [2]
    assert allowed(forbidden={"layer2.*": ("d0", "d2")})[2:4] == [[1], [1]]
    assert allowed(pins={"layer1.*": "d1"}, forbidden={".*": ("d2",)})[4] == [0, 1]


def test_a_name_is_a_name_even_if_it_looks_like_an_expression() -> None:
    assert allowed(pins={"out[0]": "d1"})[4] == [1]


def test_part_of_a_name_does_not_match() -> None:
    with pytest.raises(ConstraintError, match=r"pin: 'layer1' matches no op; names look like 'lay"):
        allowed(pins={"layer1": "d0"})


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"pins": {"a(": "d0"}}, r"pin: 'a\(' is neither an op nor a regular expression"),
        ({"pins": {".*": "gpu"}}, "pin: cluster 'toy-3' has no device 'gpu'; it has d0, d1, d2"),
        ({"forbidden": {"x": ("d0",)}}, "forbidden devices: 'x' matches no op"),
        ({"forbidden": {".*": ("gpu",)}}, "forbidden devices: cluster 'toy-3' has no device"),
        (
            {"pins": {".*dense": "d0", "layer1.*": "d1"}},
            "leave no device for op 'layer1/dense'; drop a pin or a forbidden device",
        ),
        (
            {"forbidden": {"out.*": ("d0", "d1", "d2")}},
            r"leave no device for op 'out\[0\]'",
        ),
        ({"pins": {"out.*": "d0"}, "forbidden": {".*": ("d0",)}}, r"no device for op 'out"),
    ],
)
def test_contradictions_are_named(rules: dict[str, Any], message: str) -> None:
    with pytest.raises(ConstraintError, match=message):
        allowed(**rules)


def test_a_group_that_is_pinned_apart_has_no_plan() -> None:
    rules = Constraints(pins={"layer2/dense": "d0", "layer2/bias": "d1"})
    with pytest.raises(InfeasibleError, match="no device may run 'layer2/dense', 'layer2/bias'"):
        _ = Problem(GRAPH, toy_cluster(3), rules).unit_allowed
    tied = Constraints(pins={"layer1/dense": "d0", "layer1/bias": "d1"}, colocated=("layer1.*",))
    with pytest.raises(InfeasibleError, match="no device may run 'layer1/dense', 'layer1/bias'"):
        _ = Problem(GRAPH, toy_cluster(3), tied).unit_allowed


def test_memory_caps_only_lower() -> None:
    cluster = toy_cluster(2, memory_bytes=100)
    capped = Constraints(memory_caps={"d0": 40, "d1": 400}).capped(cluster)
    assert capped.memory_bytes.tolist() == [40, 100]
    with pytest.raises(ConstraintError, match="memory cap: cluster 'toy-2' has no device 'd9'"):
        Constraints(memory_caps={"d9": 1}).capped(cluster)
    with pytest.raises(ConstraintError, match="memory cap of d0 is 0 bytes; it must be above zero"):
        Constraints(memory_caps={"d0": 0}).capped(cluster)


@pytest.mark.parametrize(
    ("rules", "devices", "message"),
    [
        ({"pins": {"layer1.*": "d1"}}, [1, 0, 0, 0, 0], "op 'layer1/bias' is on d0, which the con"),
        ({"forbidden": {"out.*": ("d2",)}}, [0, 0, 0, 0, 2], r"op 'out\[0\]' is on d2, which"),
        ({"colocated": (".*dense",)}, [0, 0, 1, 1, 0], "ops that match '.\\*dense' must share a"),
    ],
)
def test_plans_that_break_a_rule(rules: dict[str, Any], devices: list[int], message: str) -> None:
    problem = Problem(GRAPH, toy_cluster(3), Constraints(**rules))
    with pytest.raises(PlanError, match=message):
        problem.evaluate(Plan.of(np.array(devices)))


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(
        "pins: {'layer1.*': d0}\nforbidden:\n  out.*: [d1, d2]\n  layer2.*: d0\n"
        "colocated: [layer2.*]\nmemory: {d0: 4GiB}\n"
    )
    assert load_constraints(path) == Constraints(
        pins={"layer1.*": "d0"},
        forbidden={"out.*": ("d1", "d2"), "layer2.*": ("d0",)},
        colocated=("layer2.*",),
        memory_caps={"d0": 4 << 30},
    )
    path.write_text("")
    assert load_constraints(path) == Constraints()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pin: {a: d0}", "expected keys among colocated, forbidden, memory, pins; unknown: pin"),
        ("[a]", "expected keys among"),
        ("pins: [a]", "pins must map names to values"),
        ("colocated: a", "colocated must be a list of names or patterns"),
        ("memory: 4GiB", "memory must map names to values"),
        ("pins: !!python/object/apply:os.system [ls]", "not a plain YAML file"),
        ("pins: {a: 2001-99-99}", "not a plain YAML file"),
        ("pins: &a {a: *a}", "not a plain YAML file"),
        ("{", "not a plain YAML file"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    with pytest.raises(ConstraintError, match=message):
        load_constraints(path)


def test_missing_files_and_bad_figures(tmp_path: Path) -> None:
    with pytest.raises(ConstraintError, match="not a plain YAML file"):
        load_constraints(tmp_path / "missing.yaml")
    path = tmp_path / "rules.yaml"
    path.write_text("memory: {d0: lots}")
    with pytest.raises(ClusterError, match="memory of d0: cannot read 'lots'"):
        load_constraints(path)


@settings(max_examples=150)
@given(st.text("[]{}:,-&*!?|>'\"%@ \npinsmeory01.d~") | st.text())
def test_any_text_is_constraints_or_a_known_error(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        assert isinstance(load_constraints(path), Constraints)
    except (ConstraintError, ClusterError) as error:
        assert "fuzz.yaml" in str(error)
