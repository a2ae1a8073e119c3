"""The event engine's word on splits, steps in flight and bounds; stand-ins say what fits."""

from dataclasses import replace

import numpy as np
import pytest
from graph_samples import graph_of, op, random_graph, toy_cluster

from graphs.graph import Graph
from graphs.kinds import OpKind, Phase
from placement.placer import Budget
from placement.problem import Problem
from placement.throughput import Throughput, Transfers, plan_pipeline
from placement.throughput.engine_choice import (
    decided_by_engine,
    simulated_split,
    too_many,
)
from placement.throughput.schedules import most_that_fit
from placement.throughput.splits import Split
from simulator.errors import InfeasibleError
from simulator.evaluation import OutOfMemory
from simulator.plan import Plan
from simulator.steps import StepOrder, StepSchedule, StepsEvaluation


class Holding:
    """So many steps fit; the period is what the first device says."""

    def __init__(self, fit: int) -> None:
        self.fit = fit
        self.asked: list[StepSchedule] = []

    def evaluate_steps(self, plan: Plan, schedule: StepSchedule) -> StepsEvaluation:
        self.asked.append(schedule)
        ends = (np.arange(schedule.steps) + 1.0) * (10 + plan.devices[0])
        failure = OutOfMemory("d0", 1, 2) if schedule.in_flight > self.fit else None
        zeros = np.zeros(schedule.steps)
        return StepsEvaluation(schedule, zeros, ends, float(ends[-1]), (1.0, 1.0), (0, 0), failure)


def _chain(count: int = 4) -> Graph:
    return graph_of(*(op(f"a{i}", 1, (f"a{i - 1}",) if i else ()) for i in range(count)))


def _training() -> Graph:
    return graph_of(
        op("w", 0, kind=OpKind.VARIABLE, colocation="w", resident_bytes=1),
        op("f", 4, ("w",), colocation="w"),
        op("h", 4, ("f",)),
        op("k", 4, ("h",), phase=Phase.BACKWARD),
        op("g", 4, ("k",), phase=Phase.BACKWARD, colocation="w"),
        op("u", 8, ("g",), kind=OpKind.OPTIMIZER_UPDATE, phase=Phase.UPDATE, colocation="w"),
    )


def _split(devices: list[int], period: float = 1.0, name: str = "cut") -> Split:
    return Split(name, np.array(devices, np.int32), period, np.zeros(2), fits=True)


@pytest.mark.parametrize("limit", range(8))
def test_the_most_that_runs_is_found(limit: int) -> None:
    assert most_that_fit(lambda number: number <= limit, 7) == limit


def test_as_many_are_in_flight_as_fit_where_no_number_is_asked_for() -> None:
    problem, split = Problem(_chain(), toy_cluster(2)), _split([0, 0, 1, 1])
    assert simulated_split(problem, Holding(9), split, Throughput()).simulated is not None
    for fit, wanted in ((9, 4), (4, 4), (3, 3), (1, 1)):
        found = simulated_split(problem, Holding(fit), split, Throughput())
        assert found.fits
        assert found.simulated is not None
        assert found.simulated.schedule.in_flight == wanted
    assert not simulated_split(problem, Holding(0), split, Throughput()).fits


def test_too_many_in_flight_are_refused_with_how_many_fit() -> None:
    problem = Problem(_chain(), toy_cluster(2))
    splits = [_split([0, 0, 1, 1])]
    request = Throughput(in_flight=7)
    assert decided_by_engine(problem, Holding(7), splits, request)[0].fits
    assert not decided_by_engine(problem, Holding(5), splits, request)[0].fits
    for fit, told in (
        (5, "7 steps in flight do not fit in memory; at most 5 fit"),
        (0, "not even"),
    ):
        assert told in too_many(problem, Holding(fit), splits, request)
    assert "not even one step fits" in too_many(problem, Holding(0), splits, Throughput())


def test_a_plan_that_holds_too_many_steps_says_how_many_fit() -> None:
    """Each step leaves 10 bytes before the slow second op, and 40 bytes are there for them."""
    graph = graph_of(
        op("a", 1, output_bytes=10, resident_bytes=50), op("b", 50, ("a",), resident_bytes=50)
    )
    problem = Problem(graph, toy_cluster(2, memory_bytes=90, bytes_per_second=1e6))
    found = plan_pipeline(problem, Budget(0.1), 0)
    assert found.in_flight == 4
    with pytest.raises(InfeasibleError, match=r"9 steps in flight do not fit.*at most 4 fit"):
        plan_pipeline(problem, Budget(0.1), 0, Throughput(in_flight=9))
    assert plan_pipeline(problem, Budget(0.1), 0, Throughput(in_flight=4)).in_flight == 4


def test_the_engine_decides_among_splits_and_each_placement_is_asked_about_once() -> None:
    problem, engine = Problem(_chain(), toy_cluster(2)), Holding(99)
    splits = [_split([1, 1, 0, 0], 1.0, "a"), _split([0, 0, 1, 1], 2.0, "b")]
    again = replace(splits[0], name="c")
    found = decided_by_engine(problem, engine, [*splits, again], Throughput())
    assert [(split.name, split.period_seconds) for split in found] == [
        ("a", 11),
        ("b", 10),
        ("c", 11),
    ]
    assert len(engine.asked) == 2


def test_micro_batches_run_in_each_order_and_the_fastest_counts() -> None:
    problem, engine = Problem(_training(), toy_cluster(2)), Holding(99)
    found = simulated_split(
        problem, engine, _split([0, 0, 1, 1, 0, 0]), Throughput(micro_batches=6)
    )
    assert engine.asked == [
        StepSchedule(6, 6, StepOrder.ONE_F_ONE_B),
        StepSchedule(6, 4),
        StepSchedule(6, 6, StepOrder.GPIPE),
    ]
    assert found.period_seconds == 10, "of the whole step, filling and draining included"


def test_a_pipeline_is_never_faster_than_its_loads() -> None:
    split = replace(_split([0, 0, 1, 1]), loads_seconds=np.array([12.0, 1.0]))
    problem = Problem(_chain(), toy_cluster(2))
    assert simulated_split(problem, Holding(9), split, Throughput()).period_seconds == 12


@pytest.mark.parametrize("transfers", list(Transfers))
@pytest.mark.parametrize("seed", range(3))
def test_no_split_is_faster_than_the_bound(seed: int, transfers: Transfers) -> None:
    graph = random_graph(seed, 24, groups=False)
    graph = replace(graph, phases=np.zeros_like(graph.phases))
    problem = Problem(graph, toy_cluster(3, bytes_per_second=20.0))
    found = plan_pipeline(problem, Budget(0.2), seed, Throughput(transfers=transfers))
    assert found.bound_seconds > 0
    for split in (found.best, *found.others):
        assert split.load_seconds >= found.bound_seconds
        assert split.period_seconds >= found.bound_seconds


def test_where_memory_forces_a_cut_its_transfer_bounds_the_period() -> None:
    graph = graph_of(
        op("a", 1, output_bytes=80, resident_bytes=60_000),
        op("b", 1, ("a",), 90, resident_bytes=60_000),
        op("c", 1, ("b",)),
    )
    for memory_bytes, wanted in ((200_000, 1.0), (100_000, 80.0)):
        problem = Problem(graph, toy_cluster(3, memory_bytes))
        found = plan_pipeline(problem, Budget(0.1), 0)
        assert found.bound_seconds == pytest.approx(wanted, rel=1e-6)
        assert found.period_seconds >= found.bound_seconds


def test_a_training_step_is_planned_by_micro_batches() -> None:
    problem = Problem(_training(), toy_cluster(2))
    found = plan_pipeline(problem, Budget(0.2), 0, Throughput(micro_batches=8))
    # Spread evenly it would be 8.5, but the variable's unit alone has 4 + 4 and an eighth of 8.
    assert found.bound_seconds == pytest.approx(9, rel=1e-6)
    document = found.as_dict()
    assert document["in_flight"] in (4, 8)
    assert {stage["device"] for stage in document["stages"]} <= {"d0", "d1"}
    assert sum(stage["ops"] for stage in document["stages"]) == 6
    assert found.best.simulated is not None
    assert found.best.simulated.schedule.steps == 8
