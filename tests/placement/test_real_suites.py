"""Suites of real graphs: apart by architecture family, and with something to win."""

from collections import Counter

import pytest

from graphs.catalogue import resolve
from graphs.real_graphs import SPLITS, RealGraph, real_graphs
from placement.placer import Budget, silent
from placement.placers.portfolio import portfolio
from placement.suites import SUITES, Headroom, Pair
from placement.suites.real import CLUSTERS


def graph_of(item: Pair) -> RealGraph:
    return real_graphs()[item.graph_ref.removeprefix("real/")]


@pytest.mark.parametrize("split", SPLITS)
def test_a_suite_has_graphs_of_its_split_alone(split: str) -> None:
    pairs = SUITES[f"real-{split}"].pairs
    assert {graph_of(item).split for item in pairs} == {split}
    assert {(item.cluster_ref, item.headroom) for item in pairs} == set(CLUSTERS)


def test_families_and_kin_of_two_suites_never_meet() -> None:
    kin = [{graph_of(p).kin for p in SUITES[f"real-{split}"].pairs} for split in SPLITS]
    families = [{graph_of(p).family for p in SUITES[f"real-{split}"].pairs} for split in SPLITS]
    for sets in (kin, families):
        assert sum(map(len, sets)) == len(set().union(*sets))


def test_training_has_every_graph_on_clusters_of_two_sorts() -> None:
    pairs = SUITES["real-train"].pairs
    known = [row.reference for row in real_graphs().values() if row.split == "train"]
    assert Counter(item.graph_ref for item in pairs) == dict.fromkeys(known, 2)
    sorts: dict[str, set[Headroom]] = {}
    for item in pairs:
        sorts.setdefault(item.graph_ref, set()).add(item.headroom)
    assert all(len(found) == 2 for found in sorts.values())


def test_the_others_are_of_moderate_size_and_show_every_family() -> None:
    for split, count in (("validation", 24), ("test", 40)):
        pairs = SUITES[f"real-{split}"].pairs
        assert len(pairs) == count
        rows = [row for row in real_graphs().values() if row.split == split and row.ops >= 400]
        assert {graph_of(item).family for item in pairs} == {row.family for row in rows}
        assert len({item.graph_ref for item in pairs}) == min(count, len(rows))
        assert min(Counter(item.cluster_ref for item in pairs).values()) >= count // 6
        assert all(graph_of(item).ops >= 400 for item in pairs)


def test_every_reference_of_the_test_suite_resolves_to_its_listed_size() -> None:
    for item in SUITES["real-test"].pairs:
        graph = resolve(item.graph_ref)
        assert graph.digest == graph_of(item).digest
        assert item.asked_ops == graph.op_count
    assert Pair("real/nothing-of-the-kind", "4xv100-pcie", Headroom.NONE).asked_ops == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["real-validation", "real-test"])
def test_heuristics_win_something_on_most_pairs(name: str) -> None:
    """By a hundredth of the fastest device's time, or because no device holds the graph alone."""
    ahead = 0
    for item in SUITES[name].pairs:
        placed = portfolio(item.problem(), Budget(0.0), 0, silent)
        alone = [c.evaluation for c in placed.candidates if c.origin.startswith("single")]
        fastest = min((e.makespan_seconds for e in alone if e.feasible), default=float("inf"))
        ahead += placed.best.evaluation.makespan_seconds < 0.99 * fastest
    assert ahead > 0.85 * len(SUITES[name].pairs)
