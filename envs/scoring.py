"""Many decisions for one instance, scored at once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64, Int64

from envs.decision import FIELDS, Decision, first_of_units, plan_of
from envs.errors import ActionError
from envs.instance import Instance
from envs.rewards import Comparison, Reward
from envs.tasks import LEVELS, Task
from placement.annealing.energy import energy_of_evaluation
from placement.problem import Problem
from simulator.evaluation import Evaluation, OutOfMemory
from simulator.plan import Plan


@dataclass(frozen=True, eq=False)
class Scores:
    """What became of each decision, in order."""

    plans: tuple[Plan | None, ...]
    """None where a unit was sent to a device that it may not use."""
    evaluations: tuple[Evaluation | None, ...]
    """What came of each plan; None where it could not run."""
    makespan_seconds: Float64[np.ndarray, " plans"]
    """Step time, also where memory does not suffice; infinite where nothing could run."""
    peak_bytes: Int64[np.ndarray, "plans devices"]
    feasible: Bool[np.ndarray, " plans"]
    energies: Float64[np.ndarray, " plans"]
    """The energy of each plan (`placement.annealing.energy`), by which plans are ordered; infinite
    where one failed for another reason than memory."""
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
    energies_before: Float64[np.ndarray, " plans"] | None = None,
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
        energies_before: of the plan that ran last in each episode; nothing when left out.

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
    found = iter(evaluate_plans(instance, [plan for plan in plans if plan is not None]))
    evaluations = [None if plan is None else next(found) for plan in plans]
    makespans = np.full(len(plans), np.inf)
    peaks = np.zeros((len(plans), problem.cluster.device_count), np.int64)
    feasible = np.zeros(len(plans), bool)
    energies = np.full(len(plans), np.inf)
    for index, one in enumerate(evaluations):
        if one is not None:
            makespans[index], peaks[index] = one.makespan_seconds, one.peak_bytes
            feasible[index], energies[index] = one.feasible, energy_of_evaluation(one)
            reasons[index] = None if one.failure is None else str(one.failure)
    nothing = np.full(len(plans), np.inf)
    compared = Comparison(
        np.where(feasible, makespans, np.inf),
        nothing if before_seconds is None else before_seconds,
        energies,
        nothing if energies_before is None else energies_before,
    )
    rewards = reward(instance, compared)
    return Scores(
        tuple(plans), tuple(evaluations), makespans, peaks, feasible, energies, rewards,
        tuple(reasons),
    )  # fmt: skip


def evaluate_plans(instance: Instance, plans: Sequence[Plan]) -> list[Evaluation]:
    """The score of each plan. A single evaluation says why it failed, a batch does not."""
    problem = instance.problem
    if len(plans) == 1:
        one = instance.evaluator.evaluate(plans[0])
        return [_with_excess(problem, one)]
    if not plans:
        return []
    batch = instance.evaluator.evaluate_many(plans)
    return [
        _with_excess(
            problem,
            Evaluation(
                float(makespan),
                tuple(map(int, peak)),
                None if fits else _failure(problem, float(makespan), peak),
            ),
        )
        for makespan, peak, fits in zip(
            batch.makespan_seconds, batch.peak_bytes, batch.feasible, strict=True
        )
    ]


def _with_excess(problem: Problem, evaluation: Evaluation) -> Evaluation:
    """The same with bytes over capacity, which not every evaluator counts."""
    if evaluation.feasible:
        return evaluation
    capacity = problem.cluster.memory_bytes
    excess = np.maximum(np.array(evaluation.peak_bytes, np.int64) - capacity, 0).sum()
    return replace(evaluation, excess_bytes=int(excess), capacity_bytes=int(capacity.sum()))


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
    for task, values in decision.by_task.items():
        name = FIELDS[task]
        if values.shape != (ops,):
            raise ActionError(
                f"{name}: a decision of shape {values.shape} for the {ops} ops of graph "
                f"{problem.graph.name!r}; give one choice per op"
            )
        if task != Task.PLACEMENT and (values.min() < 0 or values.max() >= LEVELS):
            raise ActionError(
                f"{name}: levels from {values.min()} to {values.max()}; give levels from 0 to "
                f"{LEVELS - 1}"
            )


def _failure(problem: Problem, makespan: float, peak: Int64[np.ndarray, " devices"]) -> str:
    """Why a plan of a batch is not feasible."""
    over = peak - problem.cluster.memory_bytes
    if (over > 0).any():
        worst = int(over.argmax())
        device = problem.cluster.devices[worst]
        return str(OutOfMemory(device.name, device.memory_bytes, int(peak[worst])))
    if np.isfinite(makespan):
        return "the evaluator refused the plan"
    return "the plan could not run"
