"""Search on tasks whose best plan is known, and its parts: annealing, repair, priorities."""

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from graph_samples import graph_of, op, random_cluster, random_devices, random_graph, toy_cluster
from hypothesis import given, settings
from hypothesis import strategies as st

from graphs.builder import OpRecord
from graphs.graph import Graph
from placement.annealing.anneal import Annealer, Chain
from placement.annealing.hierarchy import build_hierarchy
from placement.constraints import Constraints
from placement.heuristics.placements import candidate
from placement.placer import Budget, Placed, silent
from placement.placers.portfolio import best_of
from placement.placers.registry import PLACERS
from placement.placers.repair import repair
from placement.placers.warm_up import warm_up
from placement.priorities import upward_ranks
from placement.problem import Problem
from simulator.clusters.cluster import Cluster
from simulator.plan import Plan, priority_ranks


@pytest.fixture(autouse=True, scope="module")
def compiled_kernels() -> None:
    warm_up()


def search(
    graph: Graph, cluster: Cluster, rules: Constraints | None = None, name: str = "search"
) -> Placed:
    problem = Problem(graph, cluster, rules or Constraints())
    return PLACERS[name](problem, Budget(0.3), 0, silent)


def chain(prefix: str, seconds: list[float], size: int = 100, **fields: Any) -> list[OpRecord]:
    names = [f"{prefix}{i}" for i in range(len(seconds))]
    return [
        op(name, seconds[i], tuple(names[max(i - 1, 0) : i]), size, **fields)
        for i, name in enumerate(names)
    ]


@pytest.mark.parametrize("name", ["portfolio", "search", "genetic"])
def test_two_chains_go_to_two_devices(name: str) -> None:
    # Apart 1 + 2 + 3 = 6 and 2 + 3 = 5; any transfer takes 100 s.
    graph = graph_of(*chain("a", [1, 2, 3]), *chain("b", [2, 3]))
    placed = search(graph, toy_cluster(2), name=name)
    assert placed.best.evaluation.makespan_seconds == 6
    where = dict(zip(graph.op_names, placed.best.plan.devices.tolist(), strict=True))
    assert where["a0"] == where["a1"] == where["a2"] != where["b0"] == where["b1"]


@pytest.mark.parametrize("name", ["portfolio", "search", "genetic"])
def test_a_fork_is_spread_where_links_are_fast_and_kept_where_they_are_slow(name: str) -> None:
    # Fast: root 0-1 and left 1-9 on d0, right 2-10 on d1, where left's byte arrives at 10 for the
    # join: 11. Slow (50 s a byte): everything on one device, 18.
    graph = graph_of(
        op("root", 1, output_bytes=1),
        op("left", 8, ("root",), 1),
        op("right", 8, ("root",), 1),
        op("join", 1, ("left", "right")),
    )
    assert search(graph, toy_cluster(2), name=name).best.evaluation.makespan_seconds == 11
    slow = toy_cluster(2, bytes_per_second=0.02)
    assert search(graph, slow, name=name).best.evaluation.makespan_seconds == 18


@pytest.mark.parametrize("name", ["portfolio", "search", "genetic"])
def test_memory_forces_a_split(name: str) -> None:
    # Four ops of 30 bytes in a chain on two devices of 100: not more than three on one. One cut,
    # where 5 bytes pass, costs 5 s: 1 + 1 + 1 + 1 + 5; elsewhere 20 bytes pass.
    parts = chain("a", [1, 1, 1, 1], size=20, resident_bytes=30)
    parts[1] = op("a1", 1, ("a0",), 5, resident_bytes=30)
    placed = search(graph_of(*parts), toy_cluster(2, memory_bytes=120), name=name)
    assert placed.best.evaluation.feasible
    assert placed.best.evaluation.makespan_seconds == 9
    devices = placed.best.plan.devices
    assert devices[0] == devices[1] != devices[2] == devices[3]


@pytest.mark.parametrize("name", ["portfolio", "search", "genetic"])
def test_pins_force_a_bad_plan(name: str) -> None:
    # Together they would take 2 s; apart the 100 bytes take 100 s.
    placed = search(
        graph_of(*chain("a", [1, 1])), toy_cluster(2), Constraints(pins={"a0": "d0", "a1": "d1"})
    )
    assert placed.best.evaluation.makespan_seconds == 102


def best_of_all(problem: Problem) -> float:
    """Try every placement under critical-path priorities."""
    choices = product(range(problem.cluster.device_count), repeat=problem.unit_count)
    plans = [np.array(choice, np.int32)[problem.unit_of] for choice in choices]
    return best_of(candidate(problem, devices, "all") for devices in plans).rank_key[1]


@pytest.mark.parametrize("seed", range(6))
def test_search_finds_the_best_of_all_placements_of_small_graphs(seed: int) -> None:
    cluster = toy_cluster(2, bytes_per_second=8.0, latency_seconds=0.25)
    problem = Problem(random_graph(seed, 8), cluster)
    placed = PLACERS["search"](problem, Budget(0.3), seed, silent)
    assert placed.best.evaluation.makespan_seconds <= best_of_all(problem)
    assert placed.best.evaluation.makespan_seconds >= problem.bounds.seconds * (1 - 1e-9)


def annealer_of(seed: int, ops: int = 60, memory: int | None = None) -> tuple[Annealer, Chain]:
    graph, cluster = random_graph(seed, ops), random_cluster(seed)
    problem = Problem(graph, cluster.with_memory(memory) if memory else cluster)
    annealer = Annealer(problem, build_hierarchy(problem, seed))
    devices = random_devices(graph, problem.cluster, seed)
    ranks = priority_ranks(upward_ranks(problem, devices))
    return annealer, annealer.start(devices, ranks, seed)


def same(first: Chain, second: Chain) -> bool:
    arrays = ("devices", "ranks", "best_devices", "best_ranks")
    figures = ("energy", "best_energy", "random_state", "evaluations", "accepted")
    return all(np.array_equal(getattr(first, n), getattr(second, n)) for n in arrays) and all(
        getattr(first, n) == getattr(second, n) for n in figures
    )


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_a_chain_depends_on_its_seed_alone(seed: int) -> None:
    annealer, chain = annealer_of(seed)
    whole = annealer.advance(chain, 60, 0.01)
    assert same(whole, annealer.advance(chain, 60, 0.01))
    halves = annealer.advance(annealer.advance(chain, 25, 0.01), 35, 0.01)
    assert same(whole, halves)
    again, start = annealer_of(seed)
    assert same(whole, again.advance(start, 60, 0.01))


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.floats(0, 0.1), st.sampled_from((None, 3_000, 30_000)))
def test_what_is_not_looked_at_changes_no_decision(
    seed: int, temperature: float, memory: int | None
) -> None:
    """Of plans that are too slow: how slow, and their memory; of those that fit: their peaks."""
    annealer, start = annealer_of(seed, memory=memory)
    whole = replace(annealer, whole=True)
    assert whole.energy(start.devices, start.ranks) == start.energy
    end = annealer.advance(start, 120, temperature)
    assert same(end, whole.advance(start, 120, temperature))


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.floats(0, 0.1))
def test_a_chain_knows_its_energies(seed: int, temperature: float) -> None:
    annealer, start = annealer_of(seed)
    end = annealer.advance(start, 80, temperature)
    assert end.energy == annealer.energy(end.devices, end.ranks)
    assert end.best_energy == annealer.energy(end.best_devices, end.best_ranks)
    assert end.best_energy <= min(start.best_energy, end.energy)
    assert end.accepted <= end.evaluations <= 80
    if temperature == 0:
        assert end.energy <= start.energy
    plan = Plan.of(end.best_devices, -end.best_ranks.astype(float))
    plan.check(annealer.problem.graph, annealer.problem.cluster)
    evaluation = annealer.problem.evaluate(plan)
    if evaluation.feasible:
        assert end.best_energy == np.log(max(evaluation.makespan_seconds, 1e-12))


def test_what_fits_has_less_energy_than_what_does_not() -> None:
    # One byte too many for 2 s on one device counts for more than the 102 s on two.
    graph = graph_of(*chain("a", [1, 1], resident_bytes=6000))
    problem = Problem(graph, toy_cluster(2, memory_bytes=12_199))
    annealer = Annealer(problem, build_hierarchy(problem, 0))
    ranks = np.arange(2, dtype=np.int32)
    together, apart = np.zeros(2, np.int32), np.array([0, 1], np.int32)
    assert candidate(problem, together, "").evaluation.excess_bytes == 1
    assert annealer.energy(together, ranks) > annealer.energy(apart, ranks)
    roomy = Problem(graph, toy_cluster(2))
    free = Annealer(roomy, build_hierarchy(roomy, 0))
    assert free.energy(together, ranks) == pytest.approx(np.log(2))
    assert free.energy(apart, ranks) == pytest.approx(np.log(102))


def test_new_priorities_are_kept_only_if_they_help() -> None:
    for seed in range(10):
        annealer, start = annealer_of(seed)
        after = annealer.reprioritise(start)
        assert after.energy <= start.energy
        assert after.energy == annealer.energy(after.devices, after.ranks)
        assert after.best_energy <= start.best_energy


def test_critical_path_priority_by_hand() -> None:
    # a 1, b 2, c 4 in a chain on d0, d0, d1 with 3 bytes and then 5: c 4, b 2 + 5 + 4, a 1 + 11.
    graph = graph_of(op("a", 1, output_bytes=3), op("b", 2, ("a",), 5), op("c", 4, ("b",)))
    problem = Problem(graph, toy_cluster(2))
    assert upward_ranks(problem, np.array([0, 0, 1], np.int32)).tolist() == [12, 11, 4]
    # Without a placement half of all edges cross: c 4, b 2 + 2.5 + 4, a 1 + 1.5 + 8.5.
    assert upward_ranks(problem).tolist() == [11, 8.5, 4]
    assert upward_ranks(problem, communication=0.0).tolist() == [7, 6, 4]


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_repair_never_makes_a_plan_worse(seed: int) -> None:
    graph, cluster = random_graph(seed, 40), random_cluster(seed)
    problem = Problem(graph, cluster)
    start = candidate(problem, random_devices(graph, cluster, seed), "random")
    assert repair(problem, start, Budget(0.2), seed).rank_key <= start.rank_key


def test_repair_makes_a_plan_fit_where_one_exists() -> None:
    # Eight parameters of 10 bytes fit into four devices only two by two.
    graph = graph_of(*(op(f"n{i}", 1, resident_bytes=10) for i in range(8)))
    problem = Problem(graph, toy_cluster(4, memory_bytes=20))
    start = candidate(problem, np.zeros(8, np.int32), "all on one")
    assert start.evaluation.excess_bytes == 60
    fixed = repair(problem, start, Budget(1.0), 0)
    assert fixed.evaluation.feasible
    assert np.bincount(fixed.plan.devices).tolist() == [2, 2, 2, 2]
    assert fixed.origin == "repaired all on one"
