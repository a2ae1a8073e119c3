"""How an episode goes: what is decided, how often, and from where."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from envs.actions import decision_of, merged
from envs.decision import Decision
from envs.episodes import Prepared
from envs.errors import EpisodeError
from envs.features.observation import Observation, Previous, observe
from envs.rewards import Reward
from envs.scoring import Scores, score
from envs.tasks import Task
from simulator.plan import Plan

#: No plan is observed before the first step.
NO_START = "none"


@dataclass(frozen=True)
class Rules:
    """The course of every episode of an environment.

    Raises:
        EpisodeError: no task, a task twice, less than one step.
    """

    tasks: tuple[Task, ...]
    steps: int = 1
    """How often the whole graph is decided; each time with the last plan's trace in view."""
    start: str = NO_START
    """The plan observed before the first step: a placer's name, or `none`."""
    staged: bool = False
    """Whether each task has a step of its own, in which it sees what came of the ones before."""

    def __post_init__(self) -> None:
        if not self.tasks or len(set(self.tasks)) != len(self.tasks):
            raise EpisodeError(
                f"tasks {', '.join(self.tasks) or 'none'}: name each task once, of "
                f"{', '.join(Task)}"
            )
        if self.steps < 1:
            raise EpisodeError(f"steps={self.steps}: an episode takes at least one step")

    @property
    def length(self) -> int:
        """Steps of an episode."""
        return self.steps * (len(self.tasks) if self.staged else 1)

    def decided_at(self, step: int) -> tuple[Task, ...]:
        """The tasks that a step decides."""
        return (self.tasks[step % len(self.tasks)],) if self.staged else self.tasks


@dataclass(frozen=True, eq=False)
class Progress:
    """Where one episode stands."""

    base: Plan
    """Has what is not decided."""
    decided: Decision = field(default_factory=Decision)
    """The last decision of each task; a refused one changes nothing."""
    plan: Plan | None = None
    """The plan that ran last, if any could."""
    best_seconds: float = np.inf
    taken: int = 0


def begin(prepared: Prepared, rules: Rules) -> Progress:
    """The first state of an episode."""
    base = prepared.instance.portfolio.plan
    if rules.start == NO_START:
        return Progress(base)
    plan = prepared.plan_by(rules.start)
    evaluation = prepared.instance.evaluator.evaluate(plan)
    seconds = evaluation.makespan_seconds if evaluation.feasible else np.inf
    ran = plan if np.isfinite(evaluation.makespan_seconds) else None
    base = base if Task.PLACEMENT in rules.tasks else plan
    return Progress(base, plan=ran, best_seconds=float(seconds))


def advance(
    prepared: Prepared,
    rules: Rules,
    progress: Sequence[Progress],
    actions: Sequence[Any],
    reward: Reward,
) -> tuple[list[Progress], Scores]:
    """Take one step in each of many episodes of one instance; one call of the evaluator.

    Raises:
        ActionError: an action that is not in the action space of this graph.
    """
    ops = prepared.instance.problem.graph.op_count
    decisions = [
        merged(
            before.decided, decision_of(action, rules.tasks, rules.decided_at(before.taken), ops)
        )
        for before, action in zip(progress, actions, strict=True)
    ]
    scores = score(
        prepared.instance,
        decisions,
        [before.base for before in progress],
        reward,
        np.array([before.best_seconds for before in progress]),
    )
    after = [
        Progress(
            before.base,
            before.decided if plan is None else decision,
            plan if plan is not None and np.isfinite(makespan) else before.plan,
            min(before.best_seconds, float(seconds)),
            before.taken + 1,
        )
        for before, decision, plan, makespan, seconds in zip(
            progress, decisions, scores.plans, scores.makespan_seconds, scores.seconds, strict=True
        )
    ]
    return after, scores


def observed(prepared: Prepared, progress: Progress) -> Observation:
    """What an agent sees of an episode: the graph, and the plan that ran last with its trace."""
    previous = None
    if progress.plan is not None:
        previous = Previous(
            progress.plan,
            prepared.instance.evaluator.trace(progress.plan),
            progress.decided.schedule,
            progress.decided.fusion,
        )
    return observe(prepared.instance, previous, prepared.static)
