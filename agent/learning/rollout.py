"""Many samples from one forward pass; those of a graph are one step of its environment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64

from agent.learning.config import SampleConfig
from agent.policy.choices import (
    KEEP,
    Draw,
    best,
    by_group,
    by_op,
    chance_of,
    draw,
    log_chances,
    without_standing_still,
)
from agent.policy.inputs import PolicyInput
from agent.policy.network import Scores
from agent.policy.state import EpisodeState
from envs.actions import action_of
from envs.features.groups import GROUP_PAIR_COLUMNS
from envs.rewards import Reward
from envs.rules import Progress
from envs.scoring import Scores as PlanScores
from envs.tasks import Task

_IS_HERE = GROUP_PAIR_COLUMNS.index("is_here")


@dataclass(frozen=True, eq=False)
class Rollout:
    """The samples of one graph of a batch."""

    state: EpisodeState
    draws: tuple[tuple[Draw, ...], ...]
    """Per level that was drawn, one per task; samples are laid end to end in this order."""
    scores: PlanScores
    after: tuple[Progress, ...]
    """Where the episode stands after each sample."""
    choices: tuple[Mapping[str, np.ndarray], ...]
    """What each sample decides, by task."""
    reward: Reward

    @property
    def energies(self) -> Float64[np.ndarray, " samples"]:
        return self.scores.energies

    @property
    def improving(self) -> np.ndarray:
        """Which samples are better than the plan that they depart from."""
        return self.energies < self.state.energy

    @property
    def order(self) -> np.ndarray:
        """Samples from the best to the worst."""
        return np.argsort(self.energies, kind="stable")

    def best(self, merged: int) -> EpisodeState:
        """The state to go on from: the best sample, the best samples together, or as before.

        Where nothing was decided before, the best sample counts however bad it is.
        """
        order = self.order
        state = self.state
        if state.fresh:
            return state.at(self.after[int(order[0])])
        better = order[self.improving[order]][:merged]
        if not better.size:
            return state.at(state.progress.at_step(state.progress.taken + 1))
        together = _merge(state, [self.choices[int(index)] for index in better])
        actions = [action_of(choices, state.rules.tasks) for choices in together]
        joined = state.step(actions, self.reward)[0] if actions else []
        candidates = [self.after[int(better[0])], *joined]
        return state.at(min(candidates, key=lambda progress: progress.energy))


def _merge(
    state: EpisodeState, samples: Sequence[Mapping[str, np.ndarray]]
) -> list[Mapping[str, np.ndarray]]:
    """The changes of the first two samples, of the first three, and so on; earlier ones win."""
    together = dict(samples[0])
    result: list[Mapping[str, np.ndarray]] = []
    for choices in samples[1:]:
        together = {
            task: np.where(values == state.standing[task], choices[task], values)
            for task, values in together.items()
        }
        result.append(together)
    return result


def sample(
    state: EpisodeState,
    scores: Scores,
    batch: PolicyInput,
    number: int,
    config: SampleConfig,
    reward: Reward,
    rng: np.random.Generator,
    whole: bool,
) -> Rollout:
    """Draw decisions for graph `number` of a batch and take a step with each.

    Args:
        whole: decide for every group; else only move a few.
    """
    groups = state.subject.groups
    first_group = int(torch.searchsorted(batch.graph_of_group, number))
    levels = len(groups.labels)
    shares = np.diff(np.linspace(0, config.samples, levels + 1).round().astype(int))
    shares = shares[rng.permutation(levels)]
    draws: list[tuple[Draw, ...]] = []
    choices: list[Mapping[str, np.ndarray]] = []
    for level, samples in enumerate(shares.tolist()):
        if not samples:
            continue
        first, last = groups.level_offsets[level : level + 2]
        moves = int(rng.choice(config.moves))
        of_level = tuple(
            _draw_task(
                task,
                scores[task],
                batch,
                first_group + int(first),
                first_group + int(last),
                samples,
                moves,
                rng,
                whole or state.fresh,
            )
            for task in scores
        )
        draws.append(of_level)
        labels = groups.labels[level] - int(first)
        choices.extend(
            by_op(
                {
                    item.task: by_group(
                        item.drawn[index], int(last - first), scores[item.task].shape[1], item.whole
                    )
                    for item in of_level
                },
                labels,
                state.standing,
            )
            for index in range(samples)
        )
    actions = [action_of(item, state.rules.tasks) for item in choices]
    after, plans = state.step(actions, reward)
    return Rollout(state, tuple(draws), plans, tuple(after), tuple(choices), reward)


def greedy(
    state: EpisodeState, scores: Scores, batch: PolicyInput, number: int, whole: bool
) -> Mapping[str, np.ndarray]:
    """What the policy thinks best, without trying anything: devices or levels of each op.

    Whole decisions take every unit's best choice. Otherwise each task makes its likeliest move.
    """
    groups = state.subject.groups
    base = int(torch.searchsorted(batch.graph_of_group, number))
    finest = len(groups.labels) - 1
    first, last = (0, groups.group_count)
    if whole or state.fresh:
        first = int(groups.level_offsets[finest])
    chosen: dict[str, np.ndarray] = {}
    level = finest
    for task in scores:
        mine = task_scores(
            task, scores[task], batch, base + first, base + last, whole or state.fresh
        )
        if whole or state.fresh:
            chosen[task] = best(mine)
            continue
        flat = int(mine.argmax())
        group, choice = divmod(flat, mine.shape[1])
        moved = np.where(groups.labels == group, np.int32(choice), np.int32(KEEP)).max(axis=0)
        chosen[task] = moved
    if whole or state.fresh:
        return by_op(chosen, groups.labels[level] - first, state.standing)
    return {
        task: np.where(moved == KEEP, state.standing[task], moved).astype(np.int32)
        for task, moved in chosen.items()
    }


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
    moves: int,
    rng: np.random.Generator,
    whole: bool,
) -> Draw:
    chances = log_chances(task_scores(task, scores, batch, first, last, whole), whole)
    drawn = draw(chances, samples, 1 if whole else moves, rng)
    return Draw(task, first, last, whole, drawn, chance_of(chances, drawn).detach())
