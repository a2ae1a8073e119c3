"""From scores to decisions: which groups move and where, drawn, and how likely that was.

A draw takes one level of the groups. In *moves* it leaves most groups as they are: every group has
a further choice, to keep what was decided before, whose score is set so that a given number of
groups is expected to move. In *whole* decisions nothing is kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int32
from torch import Tensor

#: Index of the choice to keep what was decided before.
KEEP = -1

_HALVINGS = 40


@dataclass(frozen=True, eq=False)
class Draw:
    """Samples of one task's decisions for the groups `first:last` of a batch."""

    task: str
    first: int
    last: int
    moves: float
    """Groups that were expected to move; infinite in whole decisions."""
    choices: Int32[np.ndarray, "samples groups"]
    """A choice per group, or `KEEP`."""
    log_chance: Float[Tensor, "samples groups"]
    """Under the policy that drew."""


def without_standing_still(
    scores: Float[Tensor, "groups devices"], is_here: Bool[Tensor, "groups devices"]
) -> Float[Tensor, "groups devices"]:
    """Scores with the move of a group to where all of it is already taken out."""
    return scores.masked_fill(is_here, -torch.inf)


def keep_score(scores: Float[Tensor, "groups choices"], moves: float) -> float:
    """The score of keeping under which `moves` groups are expected to move, at most half.

    Infinitely many moves leave no chance to keeping. No gradient passes through.
    """
    if not np.isfinite(moves):
        return -np.inf
    pull = torch.logsumexp(scores.detach().double(), dim=1)
    pull = pull[torch.isfinite(pull)]
    if not len(pull):
        return 0.0
    wanted = min(moves, len(pull) / 2)
    low, high = float(pull.min()) - 30.0, float(pull.max()) + 30.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        expected = float(torch.sigmoid(pull - middle).sum())
        low, high = (middle, high) if expected > wanted else (low, middle)
    return (low + high) / 2


def log_chances(
    scores: Float[Tensor, "groups choices"], moves: float
) -> Float[Tensor, "groups choices_and_keep"]:
    """Log probabilities when `moves` groups are expected to move; the last column keeps.

    A group that may take no choice at all keeps, also in whole decisions.
    """
    keep = keep_score(scores, moves)
    stuck = torch.isinf(scores).all(dim=1)
    kept = torch.where(stuck, torch.zeros_like(scores[:, 0]), torch.full_like(scores[:, 0], keep))
    return torch.log_softmax(torch.cat([scores, kept[:, None]], dim=1), dim=1)


def draw(
    log_chance: Float[Tensor, "groups choices_and_keep"], samples: int, rng: np.random.Generator
) -> Int32[np.ndarray, "{samples} groups"]:
    """Independent choices for every group; a sample in which nothing moved gets one move."""
    chances: Float64[np.ndarray, "groups choices"] = (
        log_chance.detach().double().exp().cpu().numpy()
    )
    choice_chances = chances[:, :-1]
    moving = choice_chances.sum(axis=1)
    if not moving.any():
        return np.full((samples, len(chances)), KEEP, np.int32)
    moved = rng.random((samples, len(chances))) < moving
    still = np.flatnonzero(~moved.any(axis=1))
    if still.size:
        moved[still, rng.choice(len(chances), still.size, p=moving / moving.sum())] = True
    sample, group = np.nonzero(moved)
    ladder = choice_chances[group].cumsum(axis=1)
    point = rng.random(len(group)) * ladder[:, -1]
    result = np.full((samples, len(chances)), KEEP, np.int32)
    result[sample, group] = np.minimum(
        (point[:, None] >= ladder).sum(axis=1), _last_possible(choice_chances)[group]
    )
    return result


def _last_possible(chances: Float64[np.ndarray, "groups choices"]) -> Int32[np.ndarray, " groups"]:
    """The last choice with a chance above zero: rounding must not lead past it."""
    reversed_first = (chances[:, ::-1] > 0).argmax(axis=1)
    return (chances.shape[1] - 1 - reversed_first).astype(np.int32)


def chance_of(
    log_chance: Float[Tensor, "groups choices_and_keep"],
    choices: Int32[np.ndarray, "samples groups"],
) -> Float[Tensor, "samples groups"]:
    """Log probability of each choice that was drawn."""
    at = torch.from_numpy(np.ascontiguousarray(choices.T, np.int64)).to(log_chance.device)
    last = log_chance.shape[1] - 1
    return torch.gather(log_chance, 1, torch.where(at == KEEP, last, at)).T


def best(log_chance: Float[Tensor, "groups choices_and_keep"]) -> Int32[np.ndarray, " groups"]:
    """The likeliest choice of each group."""
    chosen = log_chance.detach().argmax(dim=1).cpu().numpy().astype(np.int32)
    return np.where(chosen == log_chance.shape[1] - 1, KEEP, chosen).astype(np.int32)


def by_op(
    choices: Mapping[str, Int32[np.ndarray, " groups"]],
    labels: Int32[np.ndarray, " ops"],
    before: Mapping[str, Int32[np.ndarray, " ops"]],
) -> dict[str, Int32[np.ndarray, " ops"]]:
    """Choices of groups as choices of ops, what was kept as it was before."""
    result = {}
    for task, chosen in choices.items():
        wanted = chosen[labels]
        result[task] = np.where(wanted == KEEP, before[task], wanted).astype(np.int32)
    return result
