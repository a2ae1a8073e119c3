"""The event engine's word on splits: period, latency, memory, and how many steps fit.

Loads know nothing of order: that a channel is asked for by two devices at once, that a pipeline
fills and drains, what is alive at the same time. The engine does.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from placement.problem import Problem
from placement.throughput.request import Throughput
from placement.throughput.schedules import (
    StepsSimulator,
    best_of,
    default_in_flight,
    most_that_fit,
    period_of_steps,
    run_schedules,
    schedules_of,
    with_in_flight,
)
from placement.throughput.splits import Split, pipeline_plan
from simulator.plan import Plan
from simulator.steps import StepOrder, StepSchedule, StepsEvaluation


def steps_simulator(problem: Problem) -> StepsSimulator | None:
    """The problem's simulator, where it can overlap steps."""
    simulator = problem.simulator
    return simulator if isinstance(simulator, StepsSimulator) else None


def simulated_split(
    problem: Problem,
    engine: StepsSimulator,
    split: Split,
    request: Throughput,
    most_schedules: int = 3,
    worth_seconds: float = np.inf,
) -> Split:
    """The split as the engine sees it, by the schedule that takes least time of those that fit.

    Where none fits and nobody asked for steps in flight, as many are as fit; `fits` says whether
    any do.

    Args:
        most_schedules: that are tried.
        worth_seconds: a split whose loads alone take longer is not tried with fewer steps in
            flight where none of the schedules fits.
    """
    schedules = schedules_of(problem, request, split.device_count)[:most_schedules]
    fewer = request.in_flight is None and split.load_seconds < worth_seconds
    plan = pipeline_plan(problem, split)
    return _judged(problem, split, run_schedules(problem, engine, plan, schedules, fewer=fewer))


def simulated_alike(
    problem: Problem, engine: StepsSimulator, split: Split, request: Throughput, like: Split
) -> Split:
    """The split as the engine sees it, by the schedule that suited a split much like it.

    With one step more in flight too, where it may fit, or one less, where it does not: a part of
    the work of `simulated_split`.
    """
    if like.simulated is None:
        return simulated_split(problem, engine, split, request, 2)
    plan, schedule = pipeline_plan(problem, split), like.simulated.schedule
    found = [engine.evaluate_steps(plan, schedule)]
    if request.in_flight is None and schedule.order == StepOrder.OLDEST_FIRST:
        count, most = schedule.in_flight, default_in_flight(problem, split.device_count, request)
        if found[0].feasible and count < most and _may_fit_more(problem, split, found[0]):
            more = with_in_flight(problem, schedule, count + 1)
            found.append(engine.evaluate_steps(plan, more))
        elif not found[0].feasible and count > 1:
            less = with_in_flight(problem, schedule, count - 1)
            found.append(engine.evaluate_steps(plan, less))
    return _judged(problem, split, best_of(problem, found))


def _may_fit_more(problem: Problem, split: Split, found: StepsEvaluation) -> bool:
    """Whether one step more fits, if each takes as much memory as those in flight."""
    graph, cluster = problem.graph, problem.cluster
    count = found.schedule.most_in_flight
    resident = np.bincount(split.devices, graph.resident_bytes, cluster.device_count)
    peak = np.array(found.peak_bytes)
    return bool((peak + (peak - resident) / (2 * count) <= cluster.memory_bytes).all())


def _judged(problem: Problem, split: Split, best: StepsEvaluation) -> Split:
    """The split with its steps as they ran."""
    period = period_of_steps(problem, best)
    if not any(device.host is not None for device in problem.cluster.devices):
        # The last steps of a run meet fewer others: no full pipeline is faster than its loads.
        period = max(period, split.load_seconds)
    return replace(split, period_seconds=period, fits=best.feasible, simulated=best)


def decided_by_engine(
    problem: Problem, engine: StepsSimulator, splits: Sequence[Split], request: Throughput
) -> list[Split]:
    """The same splits, simulated by the two schedules that win most often.

    Names that share a placement share its figures.
    """
    seen: dict[bytes, Split] = {}
    least = np.inf
    for split in sorted(distinct(splits), key=lambda split: split.load_seconds):
        judged = simulated_split(problem, engine, split, request, 2, worth_seconds=least)
        seen[split.devices.tobytes()] = judged
        least = min(least, judged.period_seconds if judged.fits else np.inf)
    return [replace(seen[split.devices.tobytes()], name=split.name) for split in splits]


def distinct(splits: Sequence[Split]) -> list[Split]:
    """Each placement once."""
    kept: dict[bytes, Split] = {}
    for split in splits:
        kept.setdefault(split.devices.tobytes(), split)
    return list(kept.values())


def too_many(
    problem: Problem, engine: StepsSimulator, splits: Sequence[Split], request: Throughput
) -> str:
    """Why nothing fits, and how many steps would."""
    if request.in_flight is None:
        return (
            "not even one step fits in memory on its way through any split that was found; take "
            "more devices or larger ones, or a smaller batch"
        )
    most = 0
    for split in splits:
        plan = pipeline_plan(problem, split)
        base = schedules_of(problem, request, split.device_count)[0]

        def run(in_flight: int, plan: Plan = plan, base: StepSchedule = base) -> bool:
            schedule = with_in_flight(problem, base, in_flight)
            return engine.evaluate_steps(plan, schedule).feasible

        most = max(most, most_that_fit(run, request.in_flight - 1))
    fit = f"at most {most} fit" if most else "not even one fits"
    return (
        f"{request.in_flight} steps in flight do not fit in memory; {fit} in any split that was "
        "found: ask for fewer, or take more devices or larger ones"
    )
