"""Many samples from one forward pass, scored in one call each."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float64

from agent.policy.choices import (
    Draw,
    by_op,
    chance_of,
    draw,
    log_chances,
    without_standing_still,
)
from agent.policy.inputs import PolicyInput
from agent.policy.network import Scores
from agent.state import State, as_decision, penalised
from envs.groups import GROUP_PAIR_COLUMNS
from envs.rewards import Reward
from envs.scoring import Scores as PlanScores
from envs.scoring import score
from envs.tasks import Task

_IS_HERE = GROUP_PAIR_COLUMNS.index("is_here")


@dataclass(frozen=True)
class SampleConfig:
    """How decisions are drawn."""

    samples: int = 48
    """Plans per graph and forward pass."""
    moves: tuple[float, ...] = (1.0, 2.0, 4.0)
    """Groups that are expected to change in a sample; taken in turn."""


@dataclass(frozen=True, eq=False)
class Rollout:
    """The samples of one graph of a batch."""

    state: State
    draws: tuple[tuple[Draw, ...], ...]
    """Per level that was drawn, one per task; samples are laid end to end in this order."""
    scores: PlanScores
    cost_seconds: Float64[np.ndarray, " samples"]
    decided: tuple[Mapping[str, np.ndarray], ...]

    @property
    def best(self) -> State:
        """The state after the best sample, or the one before where no sample is better."""
        index = int(self.cost_seconds.argmin())
        if self.cost_seconds[index] >= self.state.cost_seconds and not self.state.fresh:
            return self.state
        return self.after(index)

    def after(self, index: int) -> State:
        """The state after a sample."""
        plan = self.scores.plans[index]
        assert plan is not None, "choices that are not allowed are never drawn"
        evaluation = self.state.instance.evaluator.evaluate(plan)
        return replace(
            self.state,
            plan=plan,
            decided=self.decided[index],
            evaluation=evaluation,
            fresh=False,
        )


def sample(
    state: State,
    scores: Scores,
    batch: PolicyInput,
    number: int,
    config: SampleConfig,
    reward: Reward,
    rng: np.random.Generator,
    whole: bool,
) -> Rollout:
    """Draw decisions for graph `number` of a batch and score their plans.

    Args:
        whole: decide for every group; else only move a few.
    """
    groups = state.subject.groups
    first_group = int(torch.searchsorted(batch.graph_of_group, number))
    levels = len(groups.labels)
    shares = np.diff(np.linspace(0, config.samples, levels + 1).round().astype(int))
    shares = shares[rng.permutation(levels)]
    draws: list[tuple[Draw, ...]] = []
    decided: list[Mapping[str, np.ndarray]] = []
    for level, samples in enumerate(shares.tolist()):
        if not samples:
            continue
        first, last = groups.level_offsets[level : level + 2]
        moves = config.moves[int(rng.integers(len(config.moves)))]
        of_level = tuple(
            _draw_task(
                task,
                scores[task],
                batch,
                first_group + int(first),
                first_group + int(last),
                samples,
                np.inf if whole or state.fresh else moves / len(scores),
                rng,
            )
            for task in scores
        )
        draws.append(of_level)
        labels = groups.labels[level] - int(first)
        decided.extend(
            by_op({item.task: item.choices[index] for item in of_level}, labels, state.decided)
            for index in range(samples)
        )
    plans = score(
        state.instance,
        [as_decision(item) for item in decided],
        state.plan,
        reward,
        np.full(len(decided), state.evaluation.makespan_seconds),
    )
    memory = state.instance.problem.cluster.memory_bytes
    excess = np.maximum(plans.peak_bytes - memory, 0).sum(axis=1)
    cost = np.array(
        [
            penalised(state.instance, float(seconds), int(over))
            for seconds, over in zip(plans.makespan_seconds, excess, strict=True)
        ]
    )
    return Rollout(state, tuple(draws), plans, cost, tuple(decided))


def task_scores(
    task: str, scores: torch.Tensor, batch: PolicyInput, first: int, last: int, whole: bool
) -> torch.Tensor:
    """Scores of the groups `first:last`, without moves that change nothing."""
    mine = scores[first:last]
    if task == Task.PLACEMENT and not whole:
        is_here = batch.group_pairs[first:last, :, _IS_HERE] > 1 - 1e-6
        mine = without_standing_still(mine, is_here)
    return mine


def _draw_task(
    task: str,
    scores: torch.Tensor,
    batch: PolicyInput,
    first: int,
    last: int,
    samples: int,
    moves: float,
    rng: np.random.Generator,
) -> Draw:
    whole = not np.isfinite(moves)
    mine = task_scores(task, scores, batch, first, last, whole)
    chances = log_chances(mine, moves)
    choices = draw(chances, samples, rng)
    return Draw(task, first, last, moves, choices, chance_of(chances, choices).detach())
