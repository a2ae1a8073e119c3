"""Where an episode stands: the plan that ran last, what was decided for it, its score."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int32

from agent.policy.inputs import View
from agent.policy.view import Subject, look
from envs.decision import Decision, plan_of
from envs.features.observation import Previous
from envs.instance import Instance
from envs.scoring import Scores
from envs.tasks import LEVELS, NEUTRAL_LEVEL, Task
from simulator.evaluation import Evaluation
from simulator.plan import Plan

#: Fusion level of all ops before anything is decided: everything that may be fused is fused.
_FUSED_LEVEL = LEVELS // 2

#: A plan over capacity counts as so much slower per share of the cluster's memory.
_EXCESS_WEIGHT = 20.0


@dataclass(frozen=True, eq=False)
class State:
    """One step of an episode."""

    subject: Subject
    plan: Plan
    decided: Mapping[str, Int32[np.ndarray, " ops"]]
    """Device or level of each op, by task that the policy decides."""
    evaluation: Evaluation
    fresh: bool = False
    """Nothing has been decided: the policy sees no previous plan and decides for every op."""

    @property
    def instance(self) -> Instance:
        return self.subject.instance

    @cached_property
    def cost_seconds(self) -> float:
        """Step time, made worse by bytes over capacity: what plans are ordered by."""
        excess = self.evaluation.excess_bytes
        return penalised(self.instance, self.evaluation.makespan_seconds, excess)

    def view(self, reads_trace: bool) -> View:
        """What the policy sees of it."""
        if self.fresh:
            return look(self.subject, None, reads_trace)
        trace = self.instance.evaluator.trace(self.plan)
        previous = Previous(
            self.plan,
            trace,
            self.decided.get(Task.SCHEDULING),
            self.decided.get(Task.FUSION),
        )
        return look(self.subject, previous, reads_trace)


def penalised(instance: Instance, seconds: float, excess_bytes: int) -> float:
    """Step time with a penalty for what does not fit."""
    capacity = float(instance.problem.cluster.memory_bytes.sum())
    return seconds * (1.0 + _EXCESS_WEIGHT * excess_bytes / capacity)


def costs_of(instance: Instance, scores: Scores) -> Float64[np.ndarray, " plans"]:
    """The cost of each plan that was scored."""
    over = scores.peak_bytes - instance.problem.cluster.memory_bytes
    excess = np.maximum(over, 0).sum(axis=1)
    return np.array(
        [
            penalised(instance, float(seconds), int(excess_bytes))
            for seconds, excess_bytes in zip(scores.makespan_seconds, excess, strict=True)
        ]
    )


def begin(subject: Subject, plan: Plan, tasks: tuple[str, ...], fresh: bool = False) -> State:
    """The state before the first decision; `plan` stands for all that is not decided."""
    ops = subject.instance.problem.graph.op_count
    decided: dict[str, np.ndarray] = {}
    if Task.PLACEMENT in tasks:
        decided[Task.PLACEMENT] = np.array(plan.devices, np.int32)
    if Task.SCHEDULING in tasks:
        decided[Task.SCHEDULING] = np.full(ops, NEUTRAL_LEVEL, np.int32)
    if Task.FUSION in tasks:
        decided[Task.FUSION] = np.full(ops, _FUSED_LEVEL, np.int32)
    if Task.SCHEDULING in tasks or Task.FUSION in tasks:
        plan = plan_of(subject.instance.problem, as_decision(decided), plan)
    evaluation = subject.instance.evaluator.evaluate(plan)
    return State(subject, plan, decided, evaluation, fresh)


def decide(state: State, decided: Mapping[str, Int32[np.ndarray, " ops"]]) -> State:
    """The state after a decision.

    Raises:
        PlanError: an op is on a device that cannot run it.
    """
    plan = plan_of(state.instance.problem, as_decision(decided), state.plan)
    evaluation = state.instance.evaluator.evaluate(plan)
    return State(state.subject, plan, decided, evaluation)


def decided_plan(state: State, plan: Plan) -> State:
    """The state in which a plan's devices were decided, and its own order kept."""
    evaluation = state.instance.evaluator.evaluate(plan)
    decided = {**state.decided, Task.PLACEMENT: np.array(plan.devices, np.int32)}
    return State(state.subject, plan, decided, evaluation)


def as_decision(decided: Mapping[str, Int32[np.ndarray, " ops"]]) -> Decision:
    """Decisions by task as environments take them."""
    return Decision(
        decided.get(Task.PLACEMENT), decided.get(Task.SCHEDULING), decided.get(Task.FUSION)
    )
