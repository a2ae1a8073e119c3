"""The one-shot policy as a placer: one look at the graph, some plans, no search behind it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agent.decoding.config import DrawConfig, LearnConfig
from agent.decoding.sampling import (
    Found,
    Look,
    candidate_of,
    draw_plans,
    greedy_plan,
    look_at,
    look_untaught,
)
from agent.decoding.subject import ALL_TASKS, PLACEMENT_ALONE, Subject, make_subject
from graphs.file_presence import is_file
from placement.placer import Budget, Candidate, OnProgress, Placed, Stage
from placement.placers.repair import repair
from placement.problem import Problem

if TYPE_CHECKING:
    from agent.decoding.network import OneShotPolicy

ONE_SHOT, GREEDY, UNTAUGHT = "one-shot", "one-shot-greedy", "one-shot-untaught"
TUNED, MORE = "one-shot-tuned", "one-shot-more"

#: Where the policy is that comes with the package.
SHIPPED = Path(__file__).parent.parent / "pretrained" / "one-shot"


@dataclass(frozen=True, eq=False)
class OneShotPlacer:
    """A `Placer` that decides a whole graph from one look.

    No heuristic runs beside it. Where no plan that it draws fits in memory, the best is repaired as
    the portfolio's are. It stops early when the budget is spent, after the first plans.
    """

    policy: "OneShotPolicy | None"
    """None: the same decoder with tuned weights, and nothing learned."""
    draw: DrawConfig = field(default_factory=DrawConfig)
    name: str = ONE_SHOT
    greedy: bool = False
    """One plan, the best device each time."""
    updates: int = 0
    """Updates of a copy of the policy on this graph beforehand; each draws plans that count."""
    learn: LearnConfig = field(default_factory=LearnConfig)
    device: str = "cpu"
    all_tasks: bool = False
    """Whether priorities and kernels are decided as well."""

    def __call__(
        self, problem: Problem, budget: Budget, seed: int, on_progress: OnProgress
    ) -> Placed:
        """Look once and draw plans."""
        rules = ALL_TASKS if self.all_tasks else PLACEMENT_ALONE
        subject = make_subject(problem.graph.name, problem, seed, rules=rules)
        tried: list[Candidate] = []
        evaluations = 0
        policy = self.policy
        if policy is not None and self.updates:
            from agent.decoding.tuning import tune_on

            tuned = tune_on(
                policy, subject, self.learn, self.updates, seed, self.device,
                lambda: not budget.is_spent,
            )  # fmt: skip
            policy, evaluations = tuned.policy, tuned.plans
            tried.append(candidate_of(tuned.best, self.name))
        look = look_untaught(subject) if policy is None else look_at(policy, subject, self.device)
        on_progress(0.5)
        found = self._draw(look, subject, budget, seed)
        tried.extend(found)
        evaluations += 1 if self.greedy else self.draw.plans
        best = min(tried, key=lambda item: item.rank_key)
        spent = budget.spent_seconds
        stages = [Stage(self.name, spent, _seconds(best))]
        if not best.evaluation.feasible:
            best = min(best, repair(problem, best, budget, seed), key=lambda item: item.rank_key)
            stages.append(Stage("repair", budget.spent_seconds - spent, _seconds(best)))
        progress = ((budget.spent_seconds, _seconds(best)),)
        return Placed(best, (*tried, best), progress, evaluations, tuple(stages))

    def _draw(self, look: Look, subject: Subject, budget: Budget, seed: int) -> Sequence[Candidate]:
        if self.greedy:
            return [candidate_of(greedy_plan(look, subject), self.name)]
        found: Found = draw_plans(look, subject, self.draw, seed, lambda: not budget.is_spent)
        return [candidate_of(found.best, self.name)]


def one_shot_placer(name: str, folder: Path | None, updates: int = 50) -> OneShotPlacer:
    """The placer of that name, with the policy of a checkpoint or the one that is shipped.

    Args:
        name: one of `ONE_SHOT`, `GREEDY`, `UNTAUGHT`, `TUNED`, `MORE`.
        folder: a checkpoint or a run's folder.
        updates: of `TUNED`, on each graph; `MORE` draws as many plans without any.

    Raises:
        CheckpointError: there is no policy, or it cannot be read.
    """
    if name == UNTAUGHT:
        return OneShotPlacer(None, name=name)
    from agent.decoding.checkpoint import load_one_shot

    checkpoint = load_one_shot(policy_at(folder))
    training = checkpoint.training
    draw = training.draw
    if name == MORE:
        draw = replace(draw, plans=draw.plans + updates * training.learn.plans)
    return OneShotPlacer(
        checkpoint.policy,
        draw,
        name,
        greedy=name == GREEDY,
        updates=updates if name == TUNED else 0,
        learn=training.learn,
    )


def policy_at(folder: Path | None) -> Path:
    """The best policy of a run's folder, else its last; any other folder stands for itself."""
    from agent.runs.policy_file import ONE_SHOT_META as META
    from agent.runs.run_folder import RunFolder

    if folder is None:
        return SHIPPED
    run = RunFolder(folder)
    if is_file(folder / META) or not is_file(run.config_file):
        return folder
    return next((at for at in (run.best, run.checkpoint) if (at / META).is_file()), folder)


def _seconds(candidate: Candidate) -> float:
    feasible = candidate.evaluation.feasible
    return float(candidate.evaluation.makespan_seconds) if feasible else float(np.inf)
