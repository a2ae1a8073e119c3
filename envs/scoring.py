"""Many decisions for one instance, scored at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from envs.decision import Decision, first_of_units, plan_of
from envs.errors import ActionError
from envs.instance import Instance
from envs.rewards import Reward
from envs.tasks import LEVELS
from placement.problem import Problem
from simulator.evaluation import OutOfMemory
from simulator.plan import Plan


@dataclass(frozen=True, eq=False)
class Scores:
    """What became of each decision, in order."""

    plans: tuple[Plan | None, ...]
    """None where a unit was sent to a device that it may not use."""
    makespan_seconds: Float64[np.ndarray, " plans"]
    """Step time, also where memory does not suffice; infinite where nothing could run."""
    peak_bytes: Int64[np.ndarray, "plans devices"]
    feasible: Bool[np.ndarray, " plans"]
    rewards: Float64[np.ndarray, " plans"]
    failures: tuple[str | None, ...]
    """Why a plan is not feasible, in words."""

    @property
    def seconds(self) -> Float64[np.ndarray, " plans"]:
        """Step times, infinite for all that failed."""
        return np.where(self.feasible, self.makespan_seconds, np.inf)


def score(
    instance: Instance,
    decisions: Sequence[Decision],
    base: Plan | Sequence[Plan],
    reward: Reward,
    before_seconds: Float64[np.ndarray, " plans"] | None = None,
) -> Scores:
    """Turn decisions into plans and score them in one call of the evaluator.

    A decision that breaks the mask of legal devices fails without being run, and without an
    exception.

    Args:
        instance: what the decisions are for.
        decisions: one per plan.
        base: the plan, or one per decision, that has what is not decided.
        reward: see `Reward`.
        before_seconds: the best of each plan's episode so far; nothing when left out.

    Raises:
        ActionError: a decision of another length than the graph, or a level out of range.
    """
    problem = instance.problem
    bases = [base] * len(decisions) if isinstance(base, Plan) else base
    reasons: list[str | None] = [refusal(problem, decision) for decision in decisions]
    plans = [
        plan_of(problem, decision, under) if reason is None else None
        for decision, under, reason in zip(decisions, bases, reasons, strict=True)
    ]
    ran = np.array([plan is not None for plan in plans], bool)
    makespans = np.full(len(plans), np.inf)
    peaks = np.zeros((len(plans), problem.cluster.device_count), np.int64)
    feasible = np.zeros(len(plans), bool)
    runnable = [plan for plan in plans if plan is not None]
    if len(runnable) == 1:  # a single evaluation says why it failed, a batch does not
        one = instance.evaluator.evaluate(runnable[0])
        makespans[ran], peaks[ran], feasible[ran] = (
            one.makespan_seconds, one.peak_bytes, one.feasible
        )  # fmt: skip
        if one.failure is not None:
            reasons[int(ran.argmax())] = str(one.failure)
    elif runnable:
        batch = instance.evaluator.evaluate_many(runnable)
        makespans[ran], peaks[ran] = batch.makespan_seconds, batch.peak_bytes
        feasible[ran] = batch.feasible
    before = np.full(len(plans), np.inf) if before_seconds is None else before_seconds
    rewards = reward(instance, np.where(feasible, makespans, np.inf), before)
    failures = tuple(
        reason if reason is not None else _failure(problem, makespan, peak, bool(fits))
        for reason, makespan, peak, fits in zip(reasons, makespans, peaks, feasible, strict=True)
    )
    return Scores(tuple(plans), makespans, peaks, feasible, rewards, failures)


def refusal(problem: Problem, decision: Decision) -> str | None:
    """Why a decision cannot become a plan: the first unit on a device that it may not use.

    Raises:
        ActionError: another length than the graph, or a level out of range.
    """
    _check_shapes(problem, decision)
    if decision.devices is None:
        return None
    count = problem.cluster.device_count
    first = first_of_units(problem)
    chosen = decision.devices[first]
    known = (chosen >= 0) & (chosen < count)
    legal = problem.unit_allowed[np.arange(len(first)), np.where(known, chosen, 0)] & known
    if legal.all():
        return None
    unit = int(np.argmin(legal))
    name, device = problem.graph.op_names[first[unit]], int(chosen[unit])
    if not known[unit]:
        return f"illegal device: op {name!r} on device {device}; there are 0 to {count - 1}"
    return (
        f"illegal device: op {name!r} may or can not run on {problem.cluster.device_names[device]}"
    )


def _check_shapes(problem: Problem, decision: Decision) -> None:
    ops = problem.graph.op_count
    for name, values in (
        ("devices", decision.devices),
        ("schedule", decision.schedule),
        ("fusion", decision.fusion),
    ):
        if values is None:
            continue
        if values.shape != (ops,):
            raise ActionError(
                f"{name}: a decision of shape {values.shape} for the {ops} ops of graph "
                f"{problem.graph.name!r}; give one choice per op"
            )
        if name != "devices" and (values.min() < 0 or values.max() >= LEVELS):
            raise ActionError(
                f"{name}: levels from {values.min()} to {values.max()}; give levels from 0 to "
                f"{LEVELS - 1}"
            )


def _failure(problem: Problem, makespan: float, peak: np.ndarray, feasible: bool) -> str | None:
    if feasible:
        return None
    over = peak - problem.cluster.memory_bytes
    if (over > 0).any():
        worst = int(over.argmax())
        device = problem.cluster.devices[worst]
        return str(OutOfMemory(device.name, device.memory_bytes, int(peak[worst])))
    if np.isfinite(makespan):
        return "the evaluator refused the plan"
    return "the plan could not run"
