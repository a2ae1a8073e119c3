"""How an episode goes: what is decided, how often, and from where."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Int32

from envs.actions import decision_of, merge_decisions
from envs.decision import Decision, plan_of
from envs.episodes import Prepared
from envs.errors import EpisodeError
from envs.features.observation import Observation, Previous, observe
from envs.rewards import Reward
from envs.scoring import Scores, evaluate_plans, refusal, score
from envs.tasks import STARTING_LEVELS, Task
from placement.annealing.energy import energy_of_evaluation
from simulator.evaluation import Evaluation
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
    """The plan observed before the first step: a placer's name, or `none`; in it everything is
    fused that may be where fusion is decided."""
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
    """Where one episode stands. Any number of episodes may go on from the same one."""

    base: Plan
    """Has what is not decided."""
    decided: Decision = field(default_factory=Decision)
    """The last decision of each task; a refused one changes nothing."""
    plan: Plan | None = None
    """The plan that ran last, if any could."""
    evaluation: Evaluation | None = None
    """What came of that plan."""
    energy: float = np.inf
    """Energy of that plan, by which plans are ordered (`placement.annealing.energy`)."""
    best_seconds: float = np.inf
    """The shortest step time of the episode so far, of plans that fit."""
    taken: int = 0
    """Steps."""

    def at_step(self, taken: int) -> "Progress":
        """The same after another number of steps."""
        return replace(self, taken=taken)


def starting_decision(plan: Plan, tasks: Sequence[Task]) -> Decision:
    """What counts as decided at a start plan: its devices, critical-path priority, all fused that
    may be.
    """
    ops = len(plan.devices)
    levels = {task: np.full(ops, level, np.int32) for task, level in STARTING_LEVELS.items()}
    choices = {Task.PLACEMENT: np.array(plan.devices, np.int32), **levels}
    return Decision.of({task: values for task, values in choices.items() if task in tasks})


def begin(prepared: Prepared, rules: Rules, start: str | Plan | None = None) -> Progress:
    """The first state of an episode.

    Args:
        start: in place of the rules' own start: a placer's name, `none`, or a plan.

    Raises:
        EpisodeError: a plan that has a unit where it may not be.
        GraphwrightError: no placer of that name.
    """
    instance, chosen = prepared.instance, rules.start if start is None else start
    if isinstance(chosen, str):
        if chosen == NO_START:
            return Progress(instance.mark)
        base = prepared.plan_by(chosen)
    else:
        base = chosen
        if (reason := refusal(instance.problem, Decision(base.devices))) is not None:
            raise EpisodeError(f"the start plan has an {reason}; give one that may run")
    decided, plan = starting_decision(base, rules.tasks), base
    if set(decided.by_task) - {Task.PLACEMENT}:
        plan = plan_of(instance.problem, decided, base)
    evaluation = evaluate_plans(instance, [plan])[0]
    if not np.isfinite(evaluation.makespan_seconds):
        return Progress(base)
    seconds = float(evaluation.makespan_seconds) if evaluation.feasible else np.inf
    energy = energy_of_evaluation(evaluation)
    return Progress(base, decided, plan, evaluation, energy, seconds)


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
        merge_decisions(
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
        np.array([before.energy for before in progress]),
    )
    after = [
        _after(before, decision, scores, index)
        for index, (before, decision) in enumerate(zip(progress, decisions, strict=True))
    ]
    return after, scores


def _after(before: Progress, decision: Decision, scores: Scores, index: int) -> Progress:
    """Where an episode stands after a decision that was scored."""
    plan, evaluation = scores.plans[index], scores.evaluations[index]
    if plan is None:
        return before.at_step(before.taken + 1)
    after = replace(before, decided=decision, taken=before.taken + 1)
    if not np.isfinite(scores.makespan_seconds[index]):
        return after
    return replace(
        after,
        plan=plan,
        evaluation=evaluation,
        energy=float(scores.energies[index]),
        best_seconds=min(before.best_seconds, float(scores.seconds[index])),
    )


def standing(progress: Progress, tasks: Sequence[Task]) -> dict[str, Int32[np.ndarray, " ops"]]:
    """The choices that leave everything as it is; before anything was decided, those of the start.

    An action that repeats them for all ops but some is a move.
    """
    before = merge_decisions(starting_decision(progress.base, tasks), progress.decided).by_task
    return {task: before[task] for task in tasks if task in before}


def previous_of(prepared: Prepared, progress: Progress) -> Previous | None:
    """The plan that ran last with its trace; None before one has."""
    if progress.plan is None:
        return None
    return Previous(
        progress.plan,
        prepared.instance.evaluator.trace(progress.plan),
        progress.decided.by_task,
    )


def observe_progress(prepared: Prepared, progress: Progress) -> Observation:
    """What an agent sees of an episode: the graph, and the plan that ran last with its trace."""
    return observe(prepared.instance, previous_of(prepared, progress), prepared.static)
