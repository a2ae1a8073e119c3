"""Units, the graph between them, and nested groups of them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from graph_samples import graph_of, op, random_cluster, random_graph, toy_cluster
from hypothesis import given, settings
from hypothesis import strategies as st

from placement.annealing.hierarchy import Hierarchy, build_hierarchy
from placement.constraints import Constraints
from placement.partition import cut, subgraph, unit_graph
from placement.problem import Problem
from simulator.clusters.presets import preset

ROOT = Path(__file__).resolve().parents[2]


def groups(hierarchy: Hierarchy, level: int) -> list[set[int]]:
    first, last = hierarchy.level_offsets[level], hierarchy.level_offsets[level + 1]
    bounds = hierarchy.member_offsets
    return [set(hierarchy.members[bounds[g] : bounds[g + 1]].tolist()) for g in range(first, last)]


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.integers(1, 120))
def test_every_level_is_a_partition_inside_the_one_before(seed: int, ops: int) -> None:
    problem = Problem(random_graph(seed, ops), random_cluster(seed))
    hierarchy = build_hierarchy(problem, seed, level_sizes=(4, 16, 64))
    coarser = [set(range(ops))]
    for level in range(hierarchy.level_count):
        finer = groups(hierarchy, level)
        assert sorted(member for group in finer for member in group) == list(range(ops))
        assert all(any(group <= parent for parent in coarser) for group in finer)
        assert len(finer) >= len(coarser)
        coarser = finer
    assert len(coarser) == problem.unit_count
    for group in coarser:
        assert len({int(problem.unit_of[member]) for member in group}) == 1


@pytest.mark.parametrize(("ops", "levels"), [(1, 1), (10, 1), (11, 2), (33, 3), (600, 5)])
def test_levels_are_no_finer_than_the_units(ops: int, levels: int) -> None:
    problem = Problem(random_graph(1, ops, groups=False), toy_cluster(2))
    hierarchy = build_hierarchy(problem, 0)
    assert hierarchy.level_count == levels
    sizes = np.diff(hierarchy.level_offsets)
    assert (np.diff(sizes) >= 0).all()
    assert sizes[-1] == ops
    wanted = np.array([10, 32, 128, 512][: levels - 1])
    assert (sizes[:-1] <= 1.15 * wanted).all()
    if ops > 500:  # of few units METIS leaves many parts empty
        assert (0.4 * wanted <= sizes[:-1]).all()


def test_groups_may_go_only_where_all_their_ops_may() -> None:
    graph = graph_of(*(op(f"n{i}", 1, (f"n{i - 1}",) if i else (), 1) for i in range(12)))
    problem = Problem(graph, toy_cluster(3), Constraints(forbidden={"n4": ("d1",)}))
    hierarchy = build_hierarchy(problem, 0)
    for level in range(hierarchy.level_count):
        first = hierarchy.level_offsets[level]
        for number, group in enumerate(groups(hierarchy, level)):
            assert hierarchy.allowed[first + number].tolist() == [True, 4 not in group, True]


def test_the_same_seed_gives_the_same_hierarchy() -> None:
    problem = Problem(random_graph(3, 100), toy_cluster(2))
    first, second = build_hierarchy(problem, 5), build_hierarchy(problem, 5)
    np.testing.assert_array_equal(first.members, second.members)


def test_units_are_what_must_share_a_device() -> None:
    graph = graph_of(
        op("a", 1, colocation="g"),
        op("b", 1),
        op("c", 1, colocation="g"),
        op("d", 1),
        op("e", 1),
    )
    assert Problem(graph, toy_cluster(2)).unit_of.tolist() == [0, 1, 0, 2, 3]
    chained = Problem(graph, toy_cluster(2), Constraints(colocated=("b|d", "c|d")))
    assert chained.unit_of.tolist() == [0, 0, 0, 0, 1]
    assert chained.unit_count == 2


def test_traffic_between_units_by_hand() -> None:
    # Links move a byte a second after 2 s: a -> b 10 bytes read by b and c, that is 12 s shared
    # by two; b -> c 4 bytes, 6 s; a and d are one unit, so d's 7 bytes count between a and b.
    graph = graph_of(
        op("a", 3, (), 10, colocation="g"),
        op("d", 1, (), 7, colocation="g", resident_bytes=9),
        op("b", 5, ("a", "d"), 4),
        op("c", 1, ("a", "b")),
    )
    units = unit_graph(Problem(graph, toy_cluster(2, latency_seconds=2.0)))
    assert units.offsets.tolist() == [0, 2, 4, 6]
    assert units.neighbours.tolist() == [1, 2, 0, 2, 0, 1]
    assert units.traffic_seconds.tolist() == [15, 6, 15, 6, 6, 6]
    assert units.work_seconds.tolist() == [4, 5, 1]
    assert units.resident_bytes.tolist() == [9, 0, 0]
    part = subgraph(units, np.array([0, 2], np.int32))
    assert (part.offsets.tolist(), part.neighbours.tolist()) == ([0, 1, 2], [1, 0])
    assert part.traffic_seconds.tolist() == [6, 6]


def two_cliques() -> Problem:
    """Two dense halves of unequal work that exchange one byte."""
    halves = {"a": range(8), "b": range(8)}
    records = [
        op(f"{half}{i}", 1, tuple(f"{half}{j}" for j in range(i)), 50)
        for half, numbers in halves.items()
        for i in numbers
    ]
    records[8] = op("b0", 1, ("a7",), 50)
    records[7] = op("a7", 1, tuple(f"a{j}" for j in range(7)), 1)
    return Problem(graph_of(*records), toy_cluster(2))


def test_a_cut_takes_the_thin_connection() -> None:
    part = cut(unit_graph(two_cliques()), 2, seed=0)
    assert len(set(part[:8].tolist())) == 1
    assert len(set(part[8:].tolist())) == 1
    assert part[0] != part[8]


def test_a_cut_follows_the_shares() -> None:
    graph = graph_of(*(op(f"n{i}", 1) for i in range(40)))
    units = unit_graph(Problem(graph, toy_cluster(2)))
    counts = np.bincount(cut(units, 2, 0, np.array([3.0, 1.0])), minlength=2)
    assert 28 <= counts[0] <= 32


@pytest.mark.parametrize("parts", [1, 2, 5, 9])
def test_cuts_of_tiny_graphs(parts: int) -> None:
    units = unit_graph(Problem(graph_of(op("a", 1), op("b", 1, ("a",))), toy_cluster(2)))
    part = cut(units, parts, 0)
    assert len(part) == 2
    assert part.max() < parts


def test_cuts_print_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    problem = Problem(graph_of(*(op(f"n{i}", 1) for i in range(12))), preset("8xv100-pcie"))
    cut(unit_graph(problem), 8, 0)
    assert capfd.readouterr().out == ""


def test_what_the_c_library_prints_for_metis_never_follows_the_results() -> None:
    """It keeps text for a pipe until the process ends."""
    script = (
        "import ctypes\n"
        "from placement.partition import _quiet_stdout\n"
        "with _quiet_stdout():\n"
        "    ctypes.CDLL(None).puts(b'Cannot bisect a graph with 0 vertices!')\n"
        "print('result')\n"
    )
    own = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    shown = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True,
        env={**own, "PYTHONPATH": str(ROOT)},
    ).stdout  # fmt: skip
    assert shown == "result\n"
