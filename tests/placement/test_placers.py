"""Every placer of the registry: plans that fit the rules, the same for the same seed."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from graph_samples import (
    device,
    graph_of,
    op,
    random_cluster,
    random_devices,
    random_graph,
    toy_cluster,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from graphs.errors import GraphwrightError
from placement.constraints import Constraints
from placement.heuristics.registry import HEURISTICS
from placement.place import place
from placement.placer import Budget, Placed, silent
from placement.placers.portfolio import best_of, portfolio
from placement.placers.registry import PLACERS, get_placer
from placement.placers.tight_memory import least_peak_bytes, tighten_memory
from placement.placers.warm_up import warm_up
from placement.problem import Problem
from simulator.errors import InfeasibleError

ANY_TIME = ("genetic", "search")
FIXED = [name for name in PLACERS if name not in ANY_TIME]
SECONDS = 0.15


@pytest.fixture(autouse=True, scope="module")
def compiled_kernels() -> None:
    warm_up()


def problem_of(seed: int, ops: int = 40, tight: float = 0.0) -> Problem:
    """Unlike devices, shared channels; memory that is ample or `tight` times the least needed."""
    cluster = next(c for s in range(seed, 10**6) if (c := random_cluster(s)).device_count > 1)
    problem = Problem(random_graph(seed, ops), cluster.with_memory(1 << 40))
    return replace(problem, given_cluster=tighten_memory(problem, tight)) if tight else problem


def run(name: str, problem: Problem, seed: int = 0) -> Placed:
    return PLACERS[name](problem, Budget(SECONDS), seed, silent)


def check(problem: Problem, placed: Placed) -> None:
    """A placer's answer is a plan within all rules, and is as good as it says."""
    plan = placed.best.plan
    plan.check(problem.graph, problem.cluster)
    problem.constraints.check(problem.graph, problem.cluster, plan)
    assert problem.evaluate(plan) == placed.best.evaluation
    assert np.isfinite(placed.best.evaluation.makespan_seconds)
    assert placed.best.rank_key == min(c.rank_key for c in (placed.best, *placed.candidates))
    assert placed.evaluations >= max(1, len(placed.candidates))


@pytest.mark.parametrize("name", PLACERS)
@pytest.mark.parametrize("seed", [0, 5, 9])
def test_plans_are_valid(name: str, seed: int) -> None:
    problem = problem_of(seed)
    placed = run(name, problem, seed)
    check(problem, placed)
    assert placed.best.evaluation.feasible


@pytest.mark.parametrize("name", PLACERS)
@pytest.mark.parametrize("seed", [1, 6])
def test_tight_memory_still_gives_valid_plans(name: str, seed: int) -> None:
    problem = problem_of(seed, tight=1.05)
    placed = run(name, problem, seed)
    check(problem, placed)
    if name in ("portfolio", *ANY_TIME):
        assert placed.best.evaluation.feasible


CONSTRAINTS: Mapping[str, Constraints] = {
    "pin by name": Constraints(pins={"op3": "d1", "op20": "d0"}),
    "pin by expression": Constraints(pins={"op1.": "d1"}),
    "forbidden": Constraints(forbidden={"op[0-9]": ("d0",), "op2.": ("d1",)}),
    "colocated": Constraints(colocated=("op1.", "op[37]")),
    "memory cap": Constraints(memory_caps={"d0": 500, "d1": 1 << 30}),
    "all": Constraints(
        pins={"op5": "d1"},
        forbidden={"op3.": ("d0",)},
        colocated=("op1.",),
        memory_caps={"d1": 1 << 20},
    ),
}


@pytest.mark.parametrize("name", PLACERS)
@pytest.mark.parametrize("rule", CONSTRAINTS)
def test_constraints_are_never_broken(name: str, rule: str) -> None:
    problem = Problem(random_graph(4, 40, groups=False), toy_cluster(2), CONSTRAINTS[rule])
    placed = run(name, problem)
    check(problem, placed)
    devices = dict(zip(problem.graph.op_names, placed.best.plan.devices.tolist(), strict=True))
    if rule == "pin by name":
        assert (devices["op3"], devices["op20"]) == (1, 0)
    if rule == "pin by expression":
        assert {devices[f"op{i}"] for i in range(10, 20)} == {1}
        assert problem.constraints.allowed(problem.graph, problem.cluster)[1].all()
    if rule == "forbidden":
        assert {devices[f"op{i}"] for i in range(10)} == {1}
        assert {devices[f"op{i}"] for i in range(20, 30)} == {0}
    if rule == "colocated":
        assert len({devices[f"op{i}"] for i in range(10, 20)}) == 1
        assert devices["op3"] == devices["op7"]
    if rule == "memory cap" and placed.best.evaluation.feasible:
        assert placed.best.evaluation.peak_bytes[0] <= 500


@pytest.mark.parametrize("name", FIXED)
def test_the_same_seed_gives_the_same_plan(name: str) -> None:
    for seed in (2, 7):
        first = run(name, problem_of(seed), seed)
        second = run(name, problem_of(seed), seed)
        assert first.best.plan == second.best.plan
        assert [c.plan for c in first.candidates] == [c.plan for c in second.candidates]


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.booleans())
def test_the_portfolio_is_no_worse_than_any_member(seed: int, tight: bool) -> None:
    problem = problem_of(seed, 25, tight=1.1 if tight else 0.0)
    floor = portfolio(problem, Budget(0.0), seed, silent)
    for name in HEURISTICS:
        assert floor.best.rank_key <= run(name, problem, seed).best.rank_key


def test_heuristics_past_their_limit_end_with_the_first_plan_that_fits() -> None:
    """`eft` has dozens of placements; in tight memory it goes on until one fits."""
    spent = Budget(0.0)
    roomy = Problem(random_graph(3, 40), toy_cluster(3))
    eft = HEURISTICS["eft"]
    every = eft.until(roomy, 0).candidates
    assert len(every) > 5
    assert len(eft.until(roomy, 0, spent).candidates) == 1
    assert eft(roomy, spent, 0, silent).candidates[-1].origin == every[-1].origin
    chain = [op(f"o{i}", 1.0, (f"o{i - 1}",) if i else (), 2, resident_bytes=30) for i in range(6)]
    tight = Problem(graph_of(*chain), toy_cluster(2, memory_bytes=110))
    single = HEURISTICS["single"]
    assert not single(tight, spent, 0, silent).best.evaluation.feasible
    assert len(single.until(tight, 0, spent).candidates) == 2
    assert len(single.until(tight, 0, spent, fits=True).candidates) == 1
    assert portfolio(tight, spent, 0, silent).best.evaluation.feasible


@pytest.mark.parametrize("name", ANY_TIME)
@pytest.mark.parametrize("seed", [0, 3, 8])
def test_search_is_no_worse_than_the_portfolio_and_reports_its_progress(
    name: str, seed: int
) -> None:
    problem = problem_of(seed)
    shares: list[float] = []
    placed = PLACERS[name](problem, Budget(0.4), seed, shares.append)
    assert placed.best.rank_key <= run("portfolio", problem, seed).best.rank_key
    seconds, makespans = zip(*placed.progress, strict=True)
    assert list(seconds) == sorted(seconds)
    assert list(makespans) == sorted(makespans, reverse=True)
    assert makespans[-1] == placed.best.evaluation.makespan_seconds
    assert shares
    assert all(0 <= share <= 1 for share in shares)


@pytest.mark.parametrize("name", PLACERS)
@pytest.mark.parametrize("ops", [1, 2, 5])
@pytest.mark.parametrize("count", [1, 4])
def test_few_ops_on_one_or_more_devices_than_ops(name: str, ops: int, count: int) -> None:
    problem = Problem(random_graph(11, ops), toy_cluster(count, bytes_per_second=9.0))
    check(problem, run(name, problem))


@pytest.mark.parametrize("name", PLACERS)
def test_a_graph_that_costs_nothing(name: str) -> None:
    problem = Problem(graph_of(op("a", 0), op("b", 0, ("a",)), op("c", 0)), toy_cluster(2))
    check(problem, run(name, problem))


@pytest.mark.parametrize("name", PLACERS)
def test_kinds_that_a_device_does_not_support_go_elsewhere(name: str) -> None:
    graph = random_graph(13, 40)
    refused = frozenset({"matmul", "conv", "elementwise"})
    cluster = toy_cluster(3)
    devices = (cluster.devices[0], *(replace(d, unsupported=refused) for d in cluster.devices[1:]))
    problem = Problem(graph, replace(cluster, devices=devices))
    check(problem, run(name, problem))


@pytest.mark.parametrize("name", PLACERS)
def test_ops_that_nobody_may_run_are_named(name: str) -> None:
    refusing = replace(device("d0"), unsupported=frozenset({"matmul"}))
    cluster = replace(toy_cluster(2), devices=(refusing, device("d1")))
    problem = Problem(
        graph_of(op("free", 1), op("stuck", 1)), cluster, Constraints({"stuck": "d0"})
    )
    with pytest.raises(InfeasibleError, match="no device may run 'stuck': pins, forbidden devices"):
        run(name, problem)


@pytest.mark.parametrize("name", PLACERS)
def test_what_cannot_fit_is_reported_with_the_closest_plan(name: str) -> None:
    graph = graph_of(op("a", 1, resident_bytes=60), op("b", 1, ("a",), resident_bytes=60))
    placement = place(graph, toy_cluster(2, memory_bytes=50), name, budget_seconds=SECONDS)
    assert not placement.feasible
    assert "take 120 B, the devices of toy-2 have 100 B" in str(placement.summary()["failure"])
    assert "runs out of memory" in str(placement.trace.evaluation.failure)
    if name in ("portfolio", *ANY_TIME):
        assert placement.trace.evaluation.excess_bytes == 20


def test_placing_by_name() -> None:
    placement = place(random_graph(3, 30), toy_cluster(2), "heft", seed=4)
    summary = placement.summary()
    assert (summary["placer"], summary["seed"], summary["ops"]) == ("heft", 4, 30)
    assert summary["makespan_seconds"] == placement.trace.makespan_seconds
    assert summary["lower_bound_seconds"] <= summary["makespan_seconds"]
    assert set(summary["peak_bytes"]) == {"d0", "d1"}
    custom = place(random_graph(3, 30), toy_cluster(2), portfolio)
    assert custom.placer == "portfolio"
    with pytest.raises(GraphwrightError, match="unknown placer 'heft2'; there are single, round"):
        get_placer("heft2")


def test_least_peak_is_reached_by_some_plan() -> None:
    problem = problem_of(2)
    least = least_peak_bytes(problem)
    exact = replace(problem, given_cluster=problem.given_cluster.with_memory(least))
    assert portfolio(exact, Budget(0.0), 0, silent).best.evaluation.feasible
    any_plan = random_devices(problem.graph, problem.cluster, 1)
    assert least <= problem.graph.resident_bytes.sum() + problem.graph.tensor_bytes.sum() * len(
        set(any_plan.tolist())
    )


def test_the_portfolio_repairs_what_no_heuristic_fits_into_memory() -> None:
    fitting = {"members": 0, "portfolio": 0}
    for seed in range(8):
        problem = problem_of(seed, tight=0.95)
        placed = portfolio(problem, Budget(0.0), seed, silent)
        members = [c for c in placed.candidates if not c.origin.startswith("repaired")]
        fitting["members"] += any(c.evaluation.feasible for c in members)
        fitting["portfolio"] += placed.best.evaluation.feasible
    assert fitting["portfolio"] >= fitting["members"] + 3


def test_best_of_prefers_what_fits() -> None:
    problem = problem_of(1, tight=1.0)
    candidates = portfolio(problem, Budget(0.0), 0, silent).candidates
    feasible = [c for c in candidates if c.evaluation.feasible]
    assert feasible
    fastest = min(c.evaluation.makespan_seconds for c in feasible)
    assert best_of(candidates).evaluation.makespan_seconds == fastest
