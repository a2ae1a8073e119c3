"""Suites: lazy lists, apart from each other, made mostly of problems with something to win."""

import json
import math
from collections import Counter
from pathlib import Path

import pytest
from graph_samples import graph_of, op

from agent.cli.app import run
from graphs import ModelError
from graphs.bundled_graphs import bundled_names, load_bundled
from graphs.errors import GraphwrightError
from graphs.families.perturbed import SOURCES
from graphs.families.reference import is_reference
from graphs.families.registry import FAMILIES
from graphs.graph_file import write_graph
from graphs.real_graphs import is_real_reference, real_graphs
from placement.placer import Budget, silent
from placement.placers.portfolio import portfolio
from placement.placers.tight_memory import least_peak_bytes
from placement.suites import SUITES, Headroom, Pair, get_suite, pair, suite_from_folder
from placement.suites.catalogue import (
    HELD_OUT_FAMILIES,
    HELD_OUT_GRAPHS,
    TRAINED_FAMILIES,
    UNSEEN_GRAPHS,
)
from placement.suites.pair import memory_rule
from placement.suites.ratios import geometric_mean
from placement.suites.results import SuiteRow, ratio
from simulator.clusters.presets import preset
from simulator.errors import ClusterError

GENERATED = ("train", "validation", "test-instances")


def family_of(reference: str) -> str:
    return reference.partition(":")[0]


def test_listing_builds_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(reference: str) -> None:
        raise AssertionError(f"{reference} was built")

    monkeypatch.setattr(pair, "resolve", refuse)
    monkeypatch.setattr(pair, "load_cluster", refuse)
    assert run(["suites", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["suites"]
    assert [suite["name"] for suite in listed] == list(SUITES)
    for name in SUITES:
        assert run(["suites", "show", name, "--json"]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert len(shown["pairs"]) == len(SUITES[name].pairs)
        assert set(shown["pairs"][0]) == {"graph", "cluster", "headroom"}


def test_references_name_what_there_is() -> None:
    for suite in SUITES.values():
        assert len(set(suite.pairs)) == len(suite.pairs)
        for item in suite.pairs:
            if is_reference(item.graph_ref):
                assert family_of(item.graph_ref) in FAMILIES
            elif is_real_reference(item.graph_ref):
                assert item.graph_ref.removeprefix("real/") in real_graphs()
            else:
                assert item.graph_ref in bundled_names()
    for reference in {item.cluster_ref for suite in SUITES.values() for item in suite.pairs}:
        base, factor = memory_rule(reference)
        assert preset(base).device_count >= 1
        assert factor is None or 1.2 <= factor <= 1.5


def test_held_out_families_appear_nowhere_else() -> None:
    assert not set(TRAINED_FAMILIES) & set(HELD_OUT_FAMILIES)
    assert set(TRAINED_FAMILIES) | set(HELD_OUT_FAMILIES) == set(FAMILIES)
    for name in GENERATED:
        families = {family_of(item.graph_ref) for item in SUITES[name].pairs}
        real = UNSEEN_GRAPHS if name == "test-instances" else ()
        assert families == {*TRAINED_FAMILIES, *real}
    tested = {family_of(item.graph_ref) for item in SUITES["test-families"].pairs}
    assert tested == {*HELD_OUT_FAMILIES, *HELD_OUT_GRAPHS}
    assert not set(SOURCES) & {*HELD_OUT_GRAPHS, *UNSEEN_GRAPHS}


def test_seeds_of_different_suites_never_meet() -> None:
    seeds: dict[int, str] = {}
    for name in (*GENERATED, "test-families"):
        for item in SUITES[name].pairs:
            if is_reference(item.graph_ref):
                seed = int(item.graph_ref.split(":")[1])
                assert seeds.setdefault(seed, name) == name


@pytest.mark.parametrize("name", [*GENERATED, "test-families", "large"])
def test_most_pairs_have_something_to_win(name: str) -> None:
    counts = Counter(item.headroom for item in SUITES[name].pairs)
    hard = [Headroom.SLOW_LINKS, Headroom.TIGHT_MEMORY, Headroom.UNLIKE_DEVICES]
    assert all(counts[tag] >= 0.2 * counts.total() for tag in hard)
    assert sum(counts[tag] for tag in hard) > 0.75 * counts.total()
    assert counts[Headroom.NONE] or name == "large"


def test_the_paper_suite_is_the_table() -> None:
    pairs = [(item.graph_ref, item.cluster_ref) for item in SUITES["paper"].pairs]
    assert pairs[:6] == [
        ("rnnlm-2", "2xp100-pcie"),
        ("rnnlm-4", "4xp100-pcie"),
        ("rnnlm-8", "8xp100-pcie"),
        ("gnmt-2", "2xp100-pcie"),
        ("gnmt-4", "4xp100-pcie"),
        ("gnmt-8", "8xp100-pcie"),
    ]
    assert ("inception-v3-64", "2xp100-pcie") in pairs
    assert ("wavenet-4x36", "4xp100-pcie") in pairs
    assert len(pairs) == 14


def test_large_graphs_are_large() -> None:
    for reference in {item.graph_ref for item in SUITES["large"].pairs}:
        if is_reference(reference):
            assert int(reference.split(":")[2]) >= 40_000
    assert load_bundled("gnmt-8-35k").op_count > 30_000


def test_tight_memory_is_a_multiple_of_the_least() -> None:
    item = Pair("rnnlm:1:500", "2xv100-pcie@tight:1.3", Headroom.TIGHT_MEMORY)
    problem = item.problem()
    roomy = Pair("rnnlm:1:500", "2xv100-pcie", Headroom.SLOW_LINKS).problem()
    expected = int(1.3 * least_peak_bytes(roomy))
    assert set(problem.cluster.memory_bytes.tolist()) == {expected}
    assert portfolio(problem, Budget(0.0), 0, silent).best.evaluation.feasible
    assert problem.graph is roomy.graph  # built once


def best_against_single(item: Pair) -> float:
    placed = portfolio(item.problem(), Budget(0.0), 0, silent)
    alone = [c.evaluation for c in placed.candidates if c.origin.startswith("single")]
    fastest = min(e.makespan_seconds for e in alone if e.feasible)
    return placed.best.evaluation.makespan_seconds / fastest


def test_pairs_without_headroom_have_none() -> None:
    pairs = [p for p in SUITES["validation"].pairs if p.headroom is Headroom.NONE]
    assert {p.cluster_ref for p in pairs} == {"1xv100-pcie", "1xh100+1xt4-pcie"}
    unlike = [p for p in pairs if p.cluster_ref != "1xv100-pcie"]
    assert all(best_against_single(item) > 0.99 for item in unlike[:2])


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["validation", "test-instances", "test-families", "real-validation", "real-test"]
)
def test_every_pair_has_a_feasible_plan(name: str) -> None:
    for item in SUITES[name].pairs:
        placed = portfolio(item.problem(), Budget(0.0), 0, silent)
        assert placed.best.evaluation.feasible, item


@pytest.fixture
def models(tmp_path: Path) -> Path:
    graph = graph_of(op("a", 1e9), op("b", 1e9, ("a",), 100))
    for name in ("one.gwgraph", "deeper/two.gwgraph", ".hidden/three.gwgraph", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        write_graph(graph, path)
    return tmp_path


def test_a_folder_of_models_is_a_suite(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clusters = ("2xv100-pcie", "1xv100-pcie", "2xv100-nvlink", "4xv100-nvlink@tight:1.5")
    suite = get_suite(str(models), clusters)
    assert [Path(item.graph_ref).name for item in suite.pairs[::4]] == [
        "two.gwgraph",
        "one.gwgraph",
    ]
    assert [item.headroom for item in suite.pairs[:4]] == [
        Headroom.SLOW_LINKS,
        Headroom.NONE,
        Headroom.FAST_LINKS,
        Headroom.TIGHT_MEMORY,
    ]
    assert suite.pairs[0].problem().graph.op_count == 2
    shown = ["suites", "show", str(models), "-c", "2xv100-pcie", "--build", "--json"]
    assert run(shown) == 0
    rows = json.loads(capsys.readouterr().out)["pairs"]
    assert [row["ops"] for row in rows] == [2, 2]


def test_mistakes_are_told(models: Path) -> None:
    with pytest.raises(GraphwrightError, match=r"train, validation.*folder"):
        get_suite("trian")
    with pytest.raises(ClusterError, match="at least one cluster"):
        suite_from_folder(models, ())
    with pytest.raises(ModelError, match="no such folder"):
        suite_from_folder(models / "nowhere", ("2xv100-pcie",))
    (models / "empty").mkdir()
    with pytest.raises(ModelError, match="no models"):
        suite_from_folder(models / "empty", ("2xv100-pcie",))
    for text in ("nan", "0.5", "much"):
        with pytest.raises(ClusterError, match="factor from 1 to 10"):
            memory_rule(f"2xv100-pcie@tight:{text}")


def test_graphs_are_built_by_reference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "made.gwgraph"
    assert run(["graphs", "build", "layered:3:500", "--out", str(out), "--json"]) == 0
    built = json.loads(capsys.readouterr().out)
    assert run(["graphs", "show", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["digest"] == built["digest"]
    assert run(["graphs", "show", "layered:3:500", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["digest"] == built["digest"]
    assert run(["graphs", "build", "lyered:3", "--out", str(out), "--json"]) == 2
    assert "layered" in json.loads(capsys.readouterr().out)["error"]


def test_compare_runs_over_a_suite(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokens = ["compare", "--suite", str(models), "-c", "2xv100-pcie", "--budget", "0.05"]
    assert run(tokens) == 0
    assert "search / single: geometric mean 1.000, 2 of 2 pairs" in capsys.readouterr().out
    assert run([*tokens, "--placer", "single", "--placer", "heft", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [set(row["makespan_seconds"]) for row in rows] == [{"single", "heft"}] * 2
    assert all(
        row["lower_bound_seconds"] <= row["makespan_seconds"]["single"] * (1 + 1e-9) for row in rows
    )
    for mistake in (["compare"], ["compare", str(models / "one.gwgraph"), "--suite", "paper"]):
        assert run([*mistake, "--json"]) == 2
        assert "--suite" in json.loads(capsys.readouterr().out)["error"]


def test_a_ratio_counts_only_pairs_where_both_fit() -> None:
    def row(first: float | None, second: float | None) -> SuiteRow:
        item = Pair("rnnlm:1:500", "2xv100-pcie", Headroom.SLOW_LINKS)
        times = {"a": first, "b": second}
        return SuiteRow(item, "", 1, 2, times, {}, 0.5, 1.0, 0, "roofline")

    rows = [row(1.0, 4.0), row(1.0, 1.0), row(None, 1.0), row(1.0, None)]
    found = ratio(rows, "a", "b")
    assert found.geometric_mean == pytest.approx(0.5)
    assert found.pairs == 2
    assert ratio(rows[2:], "a", "b").pairs == 0


def test_a_geometric_mean_by_hand() -> None:
    assert geometric_mean([1.0, 4.0, 16.0]) == pytest.approx(4.0)
    assert math.isnan(geometric_mean([]))


def test_rows_survive_being_written() -> None:
    item = Pair("rnnlm:1:500", "2xv100-pcie", Headroom.SLOW_LINKS)
    row = SuiteRow(item, "d", 7, 2, {"a": 1.0, "b": None}, {"a": 2.0}, 0.5, 3.0, 4, "roofline")
    written = json.loads(json.dumps({**row.as_dict(), "commit": "abc"}))
    assert SuiteRow.from_dict(written) == row
    del written["digest"]
    with pytest.raises(GraphwrightError, match="digest"):
        SuiteRow.from_dict(written)
    with pytest.raises(GraphwrightError, match="much"):
        SuiteRow.from_dict({**row.as_dict(), "headroom": "much"})
