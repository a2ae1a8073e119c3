"""REINFORCE (Williams, 1992) over several episodes at once, as published placers learn by it."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

from agent.learning.gradients import clip_gradients

#: In standard deviations.
_LARGEST_GAIN = 4.0

#: Score of what may not be chosen: next to no chance, but no infinity that entropies stumble over.
REFUSED = -1e9


@dataclass(frozen=True)
class Update:
    """How a policy is changed."""

    lr: float = 3e-3
    entropy: float = 0.1
    """Weight at the beginning; falls to a tenth as the budget is spent."""
    discount: float = 1.0
    """Of rewards one step later."""
    max_grad_norm: float = 1.0


def returns_to_go(
    rewards: Float64[np.ndarray, "steps episodes"], discount: float
) -> Float64[np.ndarray, "steps episodes"]:
    """What each step and those after it brought, later ones discounted."""
    returns = np.zeros_like(rewards)
    following = np.zeros(rewards.shape[1])
    for step in range(len(rewards) - 1, -1, -1):
        following = rewards[step] + discount * following
        returns[step] = following
    return returns


def gains(returns: Float64[np.ndarray, "steps episodes"]) -> Float[Tensor, "steps episodes"]:
    """Returns above the mean of all episodes at the same step, in standard deviations."""
    above = returns - returns.mean(axis=1, keepdims=True)
    scaled = np.clip(above / max(float(above.std()), 1e-9), -_LARGEST_GAIN, _LARGEST_GAIN)
    return torch.from_numpy(scaled).float()


def masked_log_chance(
    scores: Float[Tensor, "*rows choices"], may: Float[Tensor, "*#rows choices"]
) -> Float[Tensor, "*rows choices"]:
    """Logarithms of chances of what may be chosen (where `may` is not 0)."""
    return torch.log_softmax(torch.where(may > 0, scores, REFUSED), dim=-1)


def with_random_choices(
    log_chance: Float[Tensor, "rows choices"],
    may: Float[Tensor, "rows choices"],
    share: Float[Tensor, " rows"],
) -> Float[Tensor, "rows choices"]:
    """Logarithms of chances of a policy of which a share of the choices is random (where `may`)."""
    evenly = may / may.sum(dim=1, keepdim=True)
    mixed = (1 - share[:, None]) * log_chance.exp() + share[:, None] * evenly
    return torch.where(may > 0, mixed.clamp(min=1e-12).log(), REFUSED)


def entropy(log_chance: Float[Tensor, "*rows choices"]) -> Float[Tensor, "*rows"]:
    """The entropy of each row."""
    return -(log_chance.exp() * log_chance).sum(dim=-1)


def draw(
    log_chance: Float[Tensor, "rows choices"], rng: torch.Generator
) -> Int64[np.ndarray, " rows"]:
    """A choice for each row by its chances."""
    drawn = torch.multinomial(log_chance.exp(), 1, generator=rng)
    return np.asarray(drawn[:, 0].numpy())


def descend(optimizer: torch.optim.Optimizer, weights: list[nn.Parameter], most: float) -> None:
    """Take a step by the gradients that are there, at most so large, and clear them."""
    clip_gradients(weights, most)
    optimizer.step()
    optimizer.zero_grad()
