"""The event engine's word on splits: period, latency, memory, and how many steps fit.

Loads know nothing of order: that a channel is asked for by two devices at once, that a pipeline
fills and drains, what is alive at the same time. The engine does.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np

from graphs.kinds import Phase
from placement.problem import Problem
from placement.throughput.request import Throughput
from placement.throughput.splits import Split, pipeline_plan
from simulator.plan import Plan
from simulator.steps import StepOrder, StepSchedule, StepsEvaluation

#: Requests that are simulated for each that may be in flight: the pipeline fills, runs and drains.
_ROUNDS = 4
_FEWEST_STEPS = 8


@runtime_checkable
class StepsSimulator(Protocol):
    """What runs steps that overlap."""

    def evaluate_steps(self, plan: Plan, schedule: StepSchedule) -> StepsEvaluation:
        """Raises PlanError where the plan does not belong to the graph and cluster."""
        ...


def steps_simulator(problem: Problem) -> StepsSimulator | None:
    """The problem's simulator, where it can overlap steps."""
    simulator = problem.simulator
    return simulator if isinstance(simulator, StepsSimulator) else None


def is_training(problem: Problem) -> bool:
    """Whether the graph updates parameters, so that its steps are micro-batches."""
    return bool((problem.graph.phases == Phase.UPDATE).any())


def default_in_flight(problem: Problem, split: Split, request: Throughput) -> int:
    """As many steps as are asked for; else all micro-batches, or twice the devices in use."""
    if request.in_flight is not None:
        return request.in_flight
    return request.micro_batches if is_training(problem) else 2 * split.device_count


def schedules_of(problem: Problem, request: Throughput, split: Split) -> list[StepSchedule]:
    """What the engine runs, the most promising first, with as many steps in flight as are wanted.

    Requests come the oldest first. Micro-batches do so too, twice as many on the way as there are
    devices in use, or in 1F1B's or GPipe's order.
    """
    wanted = default_in_flight(problem, split, request)
    if not is_training(problem):
        return [StepSchedule(max(_FEWEST_STEPS, _ROUNDS * wanted), wanted)]
    steps = request.micro_batches
    found = [
        StepSchedule(steps, wanted, StepOrder.ONE_F_ONE_B),
        StepSchedule(steps, min(wanted, 2 * split.device_count)),
    ]
    if wanted >= steps:
        found.append(StepSchedule(steps, steps, StepOrder.GPIPE))
    return found


def with_in_flight(problem: Problem, schedule: StepSchedule, in_flight: int) -> StepSchedule:
    """The schedule with other steps in flight; an order that takes all of them gives way."""
    if not is_training(problem):
        return StepSchedule(max(_FEWEST_STEPS, _ROUNDS * in_flight), in_flight)
    return StepSchedule(schedule.steps, in_flight)


def most_that_fit(runs: Callable[[int], bool], most: int) -> int:
    """The largest number from 1 to `most` that runs, if smaller ones do too; 0 where none does."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if runs(middle):
            low = middle
        else:
            high = middle - 1
    return low


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
    plan = pipeline_plan(problem, split)
    schedules = schedules_of(problem, request, split)[:most_schedules]
    found = [engine.evaluate_steps(plan, schedule) for schedule in schedules]
    worth = split.load_seconds < worth_seconds
    if worth and not any(item.feasible for item in found) and request.in_flight is None:
        base = schedules[-1]
        seen: dict[int, StepsEvaluation] = {}

        def run(in_flight: int) -> bool:
            schedule = with_in_flight(problem, base, in_flight)
            seen[in_flight] = engine.evaluate_steps(plan, schedule)
            return seen[in_flight].feasible

        fit = most_that_fit(run, base.in_flight - 1)
        found += [seen[fit]] if fit else []
    return _judged(problem, split, found)


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
        count, most = schedule.in_flight, default_in_flight(problem, split, request)
        if found[0].feasible and count < most and _may_fit_more(problem, split, found[0]):
            more = with_in_flight(problem, schedule, count + 1)
            found.append(engine.evaluate_steps(plan, more))
        elif not found[0].feasible and count > 1:
            less = with_in_flight(problem, schedule, count - 1)
            found.append(engine.evaluate_steps(plan, less))
    return _judged(problem, split, found)


def _may_fit_more(problem: Problem, split: Split, found: StepsEvaluation) -> bool:
    """Whether one step more fits, if each takes as much memory as those in flight."""
    graph, cluster = problem.graph, problem.cluster
    count = found.schedule.most_in_flight
    resident = np.bincount(split.devices, graph.resident_bytes, cluster.device_count)
    peak = np.array(found.peak_bytes)
    return bool((peak + (peak - resident) / (2 * count) <= cluster.memory_bytes).all())


def _judged(problem: Problem, split: Split, found: Sequence[StepsEvaluation]) -> Split:
    """The split by the schedule that takes least time of those that fit."""
    best = min(found, key=lambda item: (not item.feasible, period_of_steps(problem, item)))
    period = period_of_steps(problem, best)
    if not any(device.host is not None for device in problem.cluster.devices):
        # The last steps of a run meet fewer others: no full pipeline is faster than its loads.
        period = max(period, split.load_seconds)
    return replace(split, period_seconds=period, fits=best.feasible, simulated=best)


def period_of_steps(problem: Problem, evaluation: StepsEvaluation) -> float:
    """Between the ends of successive requests; of micro-batches their share of the whole step, in
    which the pipeline fills and drains and parameters are updated."""
    if is_training(problem):
        return evaluation.makespan_seconds / evaluation.schedule.steps
    return evaluation.period_seconds


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
        base = schedules_of(problem, request, split)[0]

        def run(in_flight: int, plan: Plan = plan, base: StepSchedule = base) -> bool:
            schedule = with_in_flight(problem, base, in_flight)
            return engine.evaluate_steps(plan, schedule).feasible

        most = max(most, most_that_fit(run, request.in_flight - 1))
    fit = f"at most {most} fit" if most else "not even one fits"
    return (
        f"{request.in_flight} steps in flight do not fit in memory; {fit} in any split that was "
        "found: ask for fewer, or take more devices or larger ones"
    )
