"""The event engine's word on the best few splits: period, latency, memory, and how many steps fit.

Loads know nothing of order: that a channel is asked for by two devices at once, that a pipeline
fills and drains, what is alive at the same time. The engine does.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

from graphs.kinds import Phase
from placement.problem import Problem
from placement.throughput.request import Throughput
from placement.throughput.splits import Split, pipeline_plan
from simulator.errors import InfeasibleError
from simulator.plan import Plan
from simulator.steps import StepOrder, StepSchedule, StepsEvaluation

#: Splits that the engine is asked about.
_ASKED = 4
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


def schedule_of(problem: Problem, request: Throughput, in_flight: int) -> StepSchedule:
    """What the engine runs: all micro-batches in 1F1B's order, or requests, the oldest first."""
    if is_training(problem):
        return StepSchedule(request.micro_batches, in_flight, StepOrder.ONE_F_ONE_B)
    return StepSchedule(max(_FEWEST_STEPS, _ROUNDS * in_flight), in_flight)


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
    problem: Problem, engine: StepsSimulator, split: Split, request: Throughput
) -> Split:
    """The split as the engine sees it, with as many steps in flight as fit and are asked for.

    `fits` says whether any do; with steps in flight that were asked for, whether all of them do.
    """
    plan = pipeline_plan(problem, split)
    wanted = default_in_flight(problem, split, request)
    seen: dict[int, StepsEvaluation] = {}

    def run(in_flight: int) -> bool:
        seen[in_flight] = engine.evaluate_steps(plan, schedule_of(problem, request, in_flight))
        return seen[in_flight].feasible

    if not run(wanted) and request.in_flight is None:
        wanted = max(1, most_that_fit(run, wanted - 1))
        if wanted not in seen:
            run(wanted)
    found = seen[wanted]
    period = period_of_steps(problem, found)
    if not any(device.host is not None for device in problem.cluster.devices):
        # The last steps of a run meet fewer others: no full pipeline is faster than its loads.
        period = max(period, split.load_seconds)
    return replace(split, period_seconds=period, fits=found.feasible, simulated=found)


def period_of_steps(problem: Problem, evaluation: StepsEvaluation) -> float:
    """Between the ends of successive requests; of micro-batches their share of the whole step, in
    which the pipeline fills and drains and parameters are updated."""
    if is_training(problem):
        return evaluation.makespan_seconds / evaluation.schedule.steps
    return evaluation.period_seconds


def decided_by_engine(
    problem: Problem, engine: StepsSimulator, splits: Sequence[Split], request: Throughput
) -> list[Split]:
    """The same splits, the most promising of them simulated.

    Args:
        splits: those that may fit, by their loads.

    Raises:
        InfeasibleError: none of those simulated fits; the message says how many steps do.
    """
    ranked = sorted(splits, key=lambda split: promise(problem, split, request))
    asked = distinct(ranked)[:_ASKED]
    judged = [simulated_split(problem, engine, split, request) for split in asked]
    if not any(split.fits for split in judged):
        raise InfeasibleError(_too_many(problem, engine, asked, request))
    seen = {split.devices.tobytes(): split for split in judged}
    return [
        replace(same, name=split.name) if (same := seen.get(split.devices.tobytes())) else split
        for split in splits
    ]


def promise(problem: Problem, split: Split, request: Throughput) -> float:
    """The period by loads, drawn out by the time in which a pipeline of micro-batches fills."""
    if not is_training(problem):
        return split.period_seconds
    return split.period_seconds * (1 + (split.device_count - 1) / request.micro_batches)


def distinct(splits: Sequence[Split]) -> list[Split]:
    """Each placement once."""
    kept: dict[bytes, Split] = {}
    for split in splits:
        kept.setdefault(split.devices.tobytes(), split)
    return list(kept.values())


def _too_many(
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

        def run(in_flight: int, plan: Plan = plan) -> bool:
            return engine.evaluate_steps(plan, schedule_of(problem, request, in_flight)).feasible

        most = max(most, most_that_fit(run, request.in_flight - 1))
    fit = f"at most {most} fit" if most else "not even one fits"
    return (
        f"{request.in_flight} steps in flight do not fit in memory; {fit} in any split that was "
        "found: ask for fewer, or take more devices or larger ones"
    )
