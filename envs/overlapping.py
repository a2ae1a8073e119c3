"""Steps that overlap, as what plans are scored by: the period in the place of one step's time."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from envs.decision import first_of_units
from envs.errors import EpisodeError
from placement.problem import Problem
from placement.throughput import LoadProblem, Throughput, channel_problem, period_of
from placement.throughput.schedules import (
    is_training,
    period_of_steps,
    run_schedules,
    schedules_of,
)
from simulator.evaluation import BatchEvaluation, Evaluation
from simulator.plan import Plan
from simulator.steps import StepsEvaluation
from simulator.traces.trace import Trace

#: What a plan may be scored by.
OBJECTIVES = ("latency", "throughput")


@dataclass(frozen=True, eq=False)
class OverlapEvaluator:
    """A `TracedEvaluator` of steps that overlap in the event engine.

    What it returns has the fields of an evaluation of one step, with other contents:
    `makespan_seconds` is the *period*, between the ends of successive steps once the pipeline is
    full (of micro-batches their share of the whole training step), and `peak_bytes` are those of
    all steps on the way together. `trace` still tells of one step alone.
    """

    problem: Problem
    request: Throughput

    def steps(self, plan: Plan) -> StepsEvaluation:
        """By the schedule that suits the plan best: see `placement.throughput.schedules`.

        As many steps are in flight as are asked for; else twice the devices in use, or all
        micro-batches, and fewer where these do not fit in memory.

        Raises:
            PlanError: the plan does not belong to the graph and cluster.
        """
        devices = len(np.unique(plan.devices))
        schedules = schedules_of(self.problem, self.request, devices)
        supported = np.isfinite(self.problem.seconds[np.arange(len(plan.devices)), plan.devices])
        fewer = self.request.in_flight is None and bool(supported.all())
        engine = self.problem.simulator
        return run_schedules(self.problem, engine, plan, schedules, fewer=fewer)

    def period_seconds(self, plan: Plan, found: StepsEvaluation) -> float:
        """Seconds between successive steps; infinite where an op cannot run.

        The last requests of a run meet fewer others and may end faster than a pipeline can go on,
        so that no period counts as shorter than the load of a device or a channel.
        """
        if not np.isfinite(found.makespan_seconds):
            return float("inf")
        period = period_of_steps(self.problem, found)
        if is_training(self.problem):
            return period
        busiest = max(found.busy_seconds) / found.schedule.steps
        return max(period, busiest, self._load_seconds(plan))

    def as_evaluation(self, plan: Plan, found: StepsEvaluation) -> Evaluation:
        """The period and the peaks of steps that ran, in the fields of one step."""
        capacity = self.problem.cluster.memory_bytes
        excess = np.maximum(np.array(found.peak_bytes, np.int64) - capacity, 0).sum()
        return Evaluation(
            self.period_seconds(plan, found),
            found.peak_bytes,
            found.failure,
            0 if found.feasible else int(excess),
            capacity_bytes=int(capacity.sum()),
        )

    def evaluate(self, plan: Plan) -> Evaluation:
        """Period and peaks of one plan.

        Raises:
            PlanError: the plan does not belong to the graph and cluster.
        """
        return self.as_evaluation(plan, self.steps(plan))

    def evaluate_many(self, plans: Sequence[Plan]) -> BatchEvaluation:
        """Periods and peaks of many plans, one after the other.

        Raises:
            PlanError: a plan does not belong to the graph and cluster.
        """
        found = [self.evaluate(plan) for plan in plans]
        devices = self.problem.cluster.device_count
        return BatchEvaluation(
            np.array([one.makespan_seconds for one in found], np.float64),
            np.array([one.peak_bytes for one in found], np.int64).reshape(len(found), devices),
            np.array([one.feasible for one in found], bool),
        )

    def trace(self, plan: Plan) -> Trace:
        """What happens in one step on its own.

        Raises:
            PlanError: an op is on a device that cannot run it.
        """
        return self.problem.simulator.trace(plan)

    @cached_property
    def _loads(self) -> LoadProblem | None:
        """Loads of unfused plans; None of cores, whose loads have estimates in them."""
        if any(device.host is not None for device in self.problem.cluster.devices):
            return None
        return channel_problem(self.problem, self.request, 1)

    def _load_seconds(self, plan: Plan) -> float:
        if plan.is_fused or self._loads is None:
            return 0.0
        return period_of(self._loads, plan.devices[first_of_units(self.problem)])


def overlap_of(
    objective: str, in_flight: int | None = None, micro_batches: int = 1
) -> Throughput | None:
    """Steps that overlap as settings ask for them; None for latency, the time of one step.

    Args:
        objective: one of `OBJECTIVES`.
        in_flight: most steps on the way at once; None for as many as fit of twice the devices that
            a plan uses, or of all micro-batches.
        micro_batches: of graphs that update parameters.

    Raises:
        EpisodeError: no such objective, or steps in flight or micro-batches of latency.
        GraphwrightError: fewer than one step in flight or micro-batch.
    """
    if objective not in OBJECTIVES:
        raise EpisodeError(f"objective={objective!r}; there are {', '.join(OBJECTIVES)}")
    if objective == "latency":
        if in_flight is not None or micro_batches != 1:
            raise EpisodeError(
                f"in_flight={in_flight}, micro_batches={micro_batches} with objective='latency', "
                "where steps do not overlap; give objective='throughput'"
            )
        return None
    return Throughput(in_flight, micro_batches)


def check_request(problem: Problem, request: Throughput) -> None:
    """Hold what is asked for against the graph.

    Raises:
        EpisodeError: a training step that is not cut into micro-batches, or micro-batches of a
            graph that updates nothing.
    """
    if is_training(problem) and request.micro_batches == 1:
        raise EpisodeError(
            f"steps of {problem.graph.name!r} cannot overlap: each waits for the parameters that "
            "the one before updates; cut the step into micro-batches (8 of them, say): the graph "
            "is one of them then"
        )
    if not is_training(problem) and request.micro_batches > 1:
        raise EpisodeError(
            f"{request.micro_batches} micro-batches of {problem.graph.name!r}, which updates "
            "nothing: micro-batches are parts of a training step; requests are steps in flight"
        )


def request_of(problem: Problem, in_flight: int | None, micro_batches: int) -> Throughput:
    """What is asked for of one graph among others: micro-batches are parts of training steps,
    graphs that update nothing serve requests.

    Raises:
        GraphwrightError: fewer than one step in flight or micro-batch, or a training step that is
            not cut into micro-batches.
    """
    request = Throughput(in_flight, micro_batches)
    if not is_training(problem):
        request = replace(request, micro_batches=1)
    check_request(problem, request)
    return request
