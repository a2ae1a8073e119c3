"""From scores to decisions: what moves where, drawn, and how likely that was.

A draw takes one level of the groups. In *moves* it changes a few of them: each move is a group and
a choice, drawn from one distribution over all groups and choices of the level. In *whole*
decisions every group gets a choice of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int32, Int64
from torch import Tensor

#: Instead of a choice: what was decided before stays.
KEEP = -1


@dataclass(frozen=True, eq=False)
class Draw:
    """Samples of one task's decisions for the groups `first:last` of a batch."""

    task: str
    first: int
    last: int
    whole: bool
    drawn: Int64[np.ndarray, "samples draws"]
    """Whole: the choice of each group. Moves: group times number of choices plus choice."""
    log_chance: Float[Tensor, "samples draws"]
    """Logarithm of each draw's chance under the policy that drew."""


def without_standing_still(
    scores: Float[Tensor, "groups devices"], is_here: Bool[Tensor, "groups devices"]
) -> Float[Tensor, "groups devices"]:
    """Scores with the move of a group to where all of it is already taken out."""
    return scores.masked_fill(is_here, -torch.inf)


def log_chances(
    scores: Float[Tensor, "groups choices"], whole: bool
) -> Float[Tensor, "rows columns"]:
    """Log probabilities: a row per group in whole decisions, else one row over all moves.

    Where nothing at all is possible every choice has probability zero.
    """
    rows = scores if whole else scores.reshape(1, -1)
    stuck = torch.isinf(rows).all(dim=1, keepdim=True)
    chances = torch.log_softmax(rows.masked_fill(stuck, 0.0), dim=1)
    return chances.masked_fill(stuck, -torch.inf)


def draw(
    log_chance: Float[Tensor, "rows columns"],
    samples: int,
    each: int,
    rng: np.random.Generator,
) -> Int64[np.ndarray, "{samples} draws"]:
    """`each` draws from every row; `KEEP` where a row has nothing to draw."""
    chances = log_chance.detach().double().exp().cpu().numpy()
    rows = len(chances)
    ladder = chances.cumsum(axis=1)
    point = rng.random((samples, rows, each)) * ladder[:, -1][None, :, None]
    if rows == 1:
        drawn = np.searchsorted(ladder[0], point[:, 0], side="right")
    else:
        drawn = (point[:, :, 0, None] >= ladder[None]).sum(axis=2)
    last = chances.shape[1] - 1 - (chances[:, ::-1] > 0).argmax(axis=1)
    stuck = ladder[:, -1] <= 0
    return np.where(stuck, KEEP, np.minimum(drawn, last)).astype(np.int64)


def chance_of(
    log_chance: Float[Tensor, "rows columns"], drawn: Int64[np.ndarray, "samples draws"]
) -> Float[Tensor, "samples draws"]:
    """Log probability of each draw; zero where nothing could be drawn."""
    at = torch.from_numpy(drawn).to(log_chance.device)
    rows = torch.arange(at.shape[1], device=at.device) if len(log_chance) > 1 else 0
    return log_chance[rows, at.clamp(min=0)].masked_fill(at == KEEP, 0.0)


def by_group(
    drawn: Int64[np.ndarray, " draws"], groups: int, choices: int, whole: bool
) -> Int32[np.ndarray, " {groups}"]:
    """The choice of each group in one sample; of several moves of a group the first counts."""
    if whole:
        return drawn.astype(np.int32)
    result = np.full(groups, KEEP, np.int32)
    moves = drawn[drawn != KEEP][::-1]
    result[moves // choices] = moves % choices
    return result


def best(scores: Float[Tensor, "groups choices"]) -> Int32[np.ndarray, " groups"]:
    """The likeliest choice of each group in whole decisions."""
    chosen = scores.detach().argmax(dim=1).cpu().numpy().astype(np.int32)
    return np.where(torch.isinf(scores).all(dim=1).cpu().numpy(), KEEP, chosen).astype(np.int32)


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
