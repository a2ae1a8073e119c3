"""Simpler plans: what is counted, what is undone, and what that may cost."""

from dataclasses import replace

import numpy as np
import pytest
from graph_samples import graph_of, op, random_graph, toy_cluster
from hypothesis import given, settings
from hypothesis import strategies as st

from graphs.bundled_graphs import load_bundled
from graphs.errors import GraphwrightError
from graphs.graph import Graph
from graphs.kinds import OpKind, Phase
from placement.constraints import Constraints
from placement.place import place, place_problem
from placement.placer import Budget, Candidate, OnProgress, Placed, silent
from placement.placers.portfolio import portfolio
from placement.problem import Problem
from placement.simplicity import Simplicity, complexity_of, is_contiguous, known_error, simplify
from placement.simplicity.changes import blocks_of
from placement.simplicity.crossings import Moves, crossings_saved, tally
from placement.simplicity.rules import WITHIN_ERROR
from simulator import preset
from simulator.clusters.calibration import Calibration, PredictionError
from simulator.clusters.kernel_times import KernelTimes
from simulator.errors import InfeasibleError
from simulator.plan import Plan


def chain(length: int, seconds: float = 1.0) -> Graph:
    return graph_of(*(op(f"a{i}", seconds, (f"a{i - 1}",) if i else (), 1) for i in range(length)))


def candidate(problem: Problem, devices: list[int]) -> Candidate:
    plan = Plan.of(np.array(devices))
    return Candidate(plan, problem.evaluate(plan), "given")


def test_crossings_are_tensors_times_devices_that_receive_them() -> None:
    graph = graph_of(
        op("weights", 0, output_bytes=8, kind=OpKind.CONSTANT),
        op("a", 1, output_bytes=8),
        *(op(f"r{i}", 1, ("a", "weights")) for i in range(4)),
    )
    found = complexity_of(graph, np.array([0, 0, 1, 1, 2, 0], np.int32))
    # `a` goes to two devices; so does `weights`, which is a tensor like others here.
    assert (found.devices, found.crossings) == (3, 4)
    assert complexity_of(graph, np.array([2, 0, 0, 0, 0, 0], np.int32)).devices == 1


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_a_changes_savings_are_what_counting_anew_says(seed: int, draw: int) -> None:
    graph, rng = random_graph(seed, 25), np.random.default_rng(draw)
    problem = Problem(graph, toy_cluster(3))
    devices = rng.integers(0, 3, 25).astype(np.int32)
    ops = np.flatnonzero(rng.random(25) < 0.3)
    target = int(rng.integers(3))
    moved = devices.copy()
    moved[ops] = target
    wanted = complexity_of(graph, devices).crossings - complexity_of(graph, moved).crossings
    moves = Moves(
        np.array([0, 0, len(ops)], np.int64), ops.astype(np.int64), np.array([0, target], np.int32)
    )
    assert crossings_saved(problem, tally(problem, devices), moves).tolist() == [0, wanted]


def test_an_op_sent_away_for_nothing_comes_back() -> None:
    """One op of a chain on another device gains a hundredth: not worth two transfers."""
    faster = toy_cluster(2, bytes_per_second=1e9)
    faster = replace(
        faster,
        devices=(faster.devices[0], replace(faster.devices[1], flops_per_second={"float32": 1.1})),
    )
    problem = Problem(chain(10), faster, Constraints(pins={"a0": "d0"}))
    best = candidate(problem, [0, 0, 0, 0, 1, 0, 0, 0, 0, 0])
    found = simplify(problem, best)
    assert found.best.plan.devices.tolist() == [0] * 10
    assert found.cost == pytest.approx(10 / (9 + 1 / 1.1) - 1)
    kept = simplify(problem, best, rules=Simplicity(min_gain=0.0))
    assert not kept.changed
    worth = candidate(problem, [0, *[1] * 9])
    assert simplify(problem, worth).best.plan.devices.tolist() == [0, *[1] * 9]


def test_where_the_budget_is_spent_little_more_is_tried() -> None:
    problem = Problem(load_bundled("transformer-xl-2"), preset("4xv100-pcie"))
    floor = portfolio(problem, Budget(60.0), 0, silent)
    at_leisure, late = (
        simplify(problem, floor.best, floor.candidates, Simplicity(min_gain=0.05), until=until)
        for until in (None, Budget(-1.0))
    )
    assert late.evaluations < at_leisure.evaluations / 5
    assert late.complexity <= late.before_complexity
    limit = Simplicity(max_crossings=at_leisure.complexity.crossings // 2)
    found = simplify(problem, floor.best, floor.candidates, limit, until=Budget(-1.0))
    assert found.complexity.crossings <= at_leisure.complexity.crossings // 2


def test_a_part_of_the_budget_is_kept_for_simplifying() -> None:
    seen = []

    def placer(problem: Problem, budget: Budget, seed: int, on_progress: OnProgress) -> Placed:
        seen.append(budget.cpu_seconds)
        return Placed(candidate(problem, [0, 1] * 20))

    problem = Problem(chain(40), toy_cluster(2))
    for seconds in (1.0, 100.0):
        place_problem(problem, placer, "custom", seconds, 0, simplicity=WITHIN_ERROR)
        place_problem(problem, placer, "custom", seconds, 0)
    assert seen == [pytest.approx(0.85), 1.0, pytest.approx(98.0), 100.0]


@pytest.mark.slow
def test_what_simplicity_costs_stays_within_the_tolerance() -> None:
    problem = Problem(load_bundled("inception-v3"), preset("4xv100-pcie"))
    floor = portfolio(problem, Budget(5.0), 0, silent)
    found = {
        gain: simplify(problem, floor.best, floor.candidates, Simplicity(min_gain=gain))
        for gain in (0.0, 0.03, 0.2, 10.0)
    }
    for gain, one in found.items():
        assert one.best.evaluation.feasible
        assert one.cost <= gain + 1e-9
        assert one.complexity == complexity_of(problem.graph, one.best.plan.devices)
        problem.constraints.check(problem.graph, problem.cluster, one.best.plan)
    order = [found[gain].complexity for gain in (10.0, 0.2, 0.03, 0.0)]
    assert order == sorted(order)
    assert order[0].crossings == 0
    assert order[1] < order[-1]
    again = simplify(problem, floor.best, floor.candidates, Simplicity(min_gain=0.2))
    assert again.best.plan.digest == found[0.2].best.plan.digest


def test_a_limit_on_crossings_is_kept_or_refused() -> None:
    problem = Problem(load_bundled("inception-v3"), preset("2xv100-pcie"))
    floor = portfolio(problem, Budget(5.0), 0, silent)
    assert complexity_of(problem.graph, floor.best.plan.devices).crossings > 10
    for most in (0, 10):
        found = simplify(problem, floor.best, floor.candidates, Simplicity(max_crossings=most))
        assert found.complexity.crossings <= most
        assert found.best.evaluation.feasible
    graph = graph_of(
        op("a", 1, output_bytes=1, resident_bytes=60), op("b", 1, ("a",), resident_bytes=60)
    )
    tight = Problem(graph, toy_cluster(2, memory_bytes=100))
    with pytest.raises(
        InfeasibleError, match=r"at most 0 crossings .* takes 2 devices, 1 crossing"
    ):
        simplify(tight, candidate(tight, [0, 1]), rules=Simplicity(max_crossings=0))


def test_a_price_of_crossings_is_weighed_against_time() -> None:
    graph = graph_of(
        *(op(f"{c}{i}", 1, (f"{c}{i - 1}",) if i else (), 1) for c in "ab" for i in range(3)),
        op("sum", 1, ("a2", "b2")),
    )
    problem = Problem(graph, toy_cluster(2, bytes_per_second=1e9))
    best = candidate(problem, [0, 0, 0, 1, 1, 1, 0])
    for price, devices in ((2.9, 2), (3.1, 1)):
        rules = Simplicity(min_gain=0.0, seconds_per_crossing=price)
        assert simplify(problem, best, rules=rules).complexity.devices == devices


def test_contiguous_stages() -> None:
    graph = chain(6)
    assert is_contiguous(graph, np.array([0, 0, 1, 1, 2, 2], np.int32))
    assert not is_contiguous(graph, np.array([0, 0, 1, 1, 0, 0], np.int32))
    backward = replace(graph, phases=np.array([0, 0, 0, 1, 1, 1], np.uint8))
    assert Phase(1) == Phase.BACKWARD
    assert is_contiguous(backward, np.array([0, 1, 1, 1, 1, 0], np.int32))
    problem = Problem(load_bundled("bert-base"), preset("4xv100-pcie@256MiB"))
    floor = portfolio(problem, Budget(5.0), 0, silent)
    found = simplify(problem, floor.best, floor.candidates, Simplicity(contiguous=True))
    assert found.best.evaluation.feasible
    assert found.complexity.devices > 1
    assert is_contiguous(problem.graph, found.best.plan.devices)
    # What is on two devices by turns can be no stage.
    pinned = Problem(graph, toy_cluster(2), Constraints({"a0": "d0", "a3": "d1", "a5": "d0"}))
    with pytest.raises(InfeasibleError, match="contiguous"):
        simplify(pinned, candidate(pinned, [0, 0, 0, 1, 1, 0]), rules=Simplicity(contiguous=True))


def test_fused_kernels_stay_whole() -> None:
    graph = chain(6)
    problem = Problem(graph, toy_cluster(2))
    fusion = np.array([-1, -1, 7, 7, -1, -1], np.int32)
    blocks = blocks_of(problem, replace(Plan.of(np.zeros(6)), fusion=fusion))
    assert blocks.count == 5
    assert blocks.block_of[2] == blocks.block_of[3]


def test_the_known_error_is_the_measured_one() -> None:
    cluster = toy_cluster(2)
    assert known_error(cluster) == 0.03
    error = PredictionError(30, 0.2, 0.06, 0.3, "x", 1.0, 1.0, 1.0, 0.0)
    times = KernelTimes("m", "cpu-core", {}, {})
    calibrated = replace(cluster, calibration=Calibration("m", "r", times, "f", error))
    assert known_error(calibrated) == 0.06
    assert Simplicity(min_gain=0.01).tolerance(calibrated) == 0.01
    with pytest.raises(GraphwrightError, match="min_gain is -1"):
        Simplicity(min_gain=-1)


def test_a_search_is_simplified_and_a_heuristic_is_not() -> None:
    graph = load_bundled("inception-v3")
    searched = place(graph, preset("2xv100-pcie"), "portfolio")
    assert searched.simplified is not None
    assert searched.summary()["simplicity"] is not None
    assert searched.plan is searched.simplified.best.plan
    fastest = searched.simplified.before
    assert fastest in searched.placed.candidates or not searched.simplified.changed
    assert place(graph, preset("2xv100-pcie"), "heft").simplified is None
    raw = place(graph, preset("2xv100-pcie"), "portfolio", simplicity=Simplicity(min_gain=0.0))
    assert raw.trace.makespan_seconds <= fastest.evaluation.makespan_seconds
