"""Which schedules steps are tried in, and how many on the way fit in memory."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from graphs.kinds import Phase
from placement.problem import Problem
from placement.throughput.request import Throughput
from simulator.errors import OrderError
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


def is_training(problem: Problem) -> bool:
    """Whether the graph updates parameters, so that its steps are micro-batches."""
    return bool((problem.graph.phases == Phase.UPDATE).any())


def default_in_flight(problem: Problem, device_count: int, request: Throughput) -> int:
    """As many steps as are asked for; else all micro-batches, or twice the devices in use."""
    if request.in_flight is not None:
        return request.in_flight
    return request.micro_batches if is_training(problem) else 2 * device_count


def schedules_of(problem: Problem, request: Throughput, device_count: int) -> list[StepSchedule]:
    """What the engine runs, the most promising first, with as many steps in flight as are wanted.

    Requests come the oldest first. Micro-batches do so too, twice as many on the way as there are
    devices in use, or in 1F1B's or GPipe's order.
    """
    wanted = default_in_flight(problem, device_count, request)
    if not is_training(problem):
        return [StepSchedule(max(_FEWEST_STEPS, _ROUNDS * wanted), wanted)]
    steps = request.micro_batches
    found = [
        StepSchedule(steps, wanted, StepOrder.ONE_F_ONE_B),
        StepSchedule(steps, min(wanted, 2 * device_count)),
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


def run_schedules(
    problem: Problem,
    engine: StepsSimulator,
    plan: Plan,
    schedules: Sequence[StepSchedule],
    *,
    fewer: bool,
) -> StepsEvaluation:
    """The evaluation that takes least time of those that fit; where none does, of all.

    Schedules in whose order the plan comes to a stop are left out.

    Args:
        schedules: that are tried.
        fewer: whether, where none fits, as many steps are tried as do.

    Raises:
        PlanError: the plan does not belong to the graph and cluster.
        OrderError: it comes to a stop in every order.
    """
    found, stopped = [], None
    for schedule in schedules:
        try:
            found.append(engine.evaluate_steps(plan, schedule))
        except OrderError as error:
            stopped = error
    if not found and stopped is not None:
        raise stopped
    if fewer and not any(item.feasible for item in found):
        base = schedules[-1]
        seen: dict[int, StepsEvaluation] = {}

        def run(in_flight: int) -> bool:
            seen[in_flight] = engine.evaluate_steps(plan, with_in_flight(problem, base, in_flight))
            return seen[in_flight].feasible

        fit = most_that_fit(run, base.in_flight - 1)
        found += [seen[fit]] if fit else []
    return best_of(problem, found)


def best_of(problem: Problem, found: Sequence[StepsEvaluation]) -> StepsEvaluation:
    """The one that takes least time of those that fit; where none does, of all."""
    return min(found, key=lambda item: (not item.feasible, period_of_steps(problem, item)))


def period_of_steps(problem: Problem, evaluation: StepsEvaluation) -> float:
    """Between the ends of successive requests; of micro-batches their share of the whole step, in
    which the pipeline fills and drains and parameters are updated."""
    if is_training(problem):
        return evaluation.makespan_seconds / evaluation.schedule.steps
    return evaluation.period_seconds
