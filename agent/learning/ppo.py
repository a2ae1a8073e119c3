"""Proximal policy optimisation (Schulman et al., arXiv 1707.06347), from samples to a step.

Episodes are bandits: each pass is rewarded for what its own plan brings. The ratio that is clipped
is that of every single choice, as in GDP (arXiv 1910.01578): the joint ratio of thousands of
independent choices is useless. The baseline of a graph is the mean of its own samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from agent.learning.config import PpoConfig
from agent.learning.gradients import clip_gradients, sum_over_workers
from agent.learning.rollout import Rollout, task_scores
from agent.policy.choices import Draw, chance_of, log_chances
from agent.policy.inputs import PolicyInput
from agent.policy.network import Scores

#: Of a choice's chances now and when it was drawn, where it turned out bad.
_MAX_RATIO = 3.0


@dataclass(frozen=True)
class Update:
    """What an update did; means over its epochs, but `kl` is the last."""

    loss: float
    entropy: float
    kl: float
    clipped_share: float
    grad_norm: float
    epochs: int


def advantages(rollout: Rollout, limit: float) -> Float64[np.ndarray, " samples"]:
    """Standardised reward of each sample among those of the same graph and level."""
    worth = rollout.scores.rewards
    standardised = np.zeros_like(worth)
    done = 0
    for draws in rollout.draws:
        mine = slice(done, done + len(draws[0].drawn))
        done = mine.stop
        centred = worth[mine] - worth[mine].mean()
        if (deviation := float(centred.std())) > 1e-9:
            standardised[mine] = np.clip(centred / deviation, -limit, limit)
    return standardised


def update(
    policy: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: PolicyInput,
    rollouts: Sequence[Rollout],
    config: PpoConfig,
    entropy_weight: float,
    graphs_in_all: int | None = None,
) -> Update:
    """Improve a policy by what one batch of samples shows.

    Args:
        batch: what the policy saw; `rollouts` holds what it drew, per graph of the batch.
        entropy_weight: of a sample that is one choice; see `PpoConfig.entropy`.
        graphs_in_all: graphs of this batch on all workers together; gradients are summed over
            workers where `torch.distributed` is running.
    """
    worths = [advantages(rollout, config.max_advantage) for rollout in rollouts]
    graphs = graphs_in_all or len(rollouts)
    losses, entropies, clipped, norms, kl = [], [], [], [], 0.0
    for _ in range(config.epochs):
        loss, parts = _loss(policy(batch), batch, rollouts, worths, config, entropy_weight)
        optimizer.zero_grad(set_to_none=False)
        torch.autograd.backward(loss / graphs)
        totals = sum_over_workers(policy, torch.stack([loss.detach(), *parts]))
        norm = clip_gradients(policy.parameters(), config.max_grad_norm)
        total, entropy, kl_sum, clips = (totals / graphs).tolist()
        losses.append(total)
        entropies.append(entropy)
        clipped.append(clips)
        norms.append(norm)
        kl = kl_sum
        if kl > config.max_kl:
            break
        optimizer.step()
    return Update(
        float(np.mean(losses)),
        float(np.mean(entropies)),
        kl,
        float(np.mean(clipped)),
        float(np.mean(norms)),
        len(losses),
    )


def _loss(
    scores: Scores,
    batch: PolicyInput,
    rollouts: Sequence[Rollout],
    worths: Sequence[Float64[np.ndarray, " samples"]],
    config: PpoConfig,
    entropy_weight: float,
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """The loss summed over graphs; entropy, divergence and share of clipped choices likewise."""
    some = next(iter(scores.values()))
    loss, entropy, kl, clipped = (some.new_zeros(()) for _ in range(4))
    for rollout, worth in zip(rollouts, worths, strict=True):
        done = 0
        for draws in rollout.draws:
            samples = len(draws[0].drawn)
            gains = torch.from_numpy(worth[done : done + samples]).to(some)
            done += samples
            weight = samples / (len(worth) * len(draws))  # each task counts the same
            for item in draws:
                mine = task_scores(
                    item.task, scores[item.task], batch, item.first, item.last, item.whole
                )
                chances = log_chances(mine, item.whole)
                surrogate, moved, clips = _clip(chances, item, gains, config.clip)
                spread = entropy_of(chances)
                of_choice = entropy_weight / item.drawn.shape[1] ** 0.5
                loss = loss - weight * (surrogate + of_choice * spread)
                entropy = entropy + weight * spread.detach()
                kl = kl + weight * moved
                clipped = clipped + weight * clips
    return loss, (entropy, kl, clipped)


def _clip(
    chances: Float[Tensor, "rows columns"],
    item: Draw,
    gains: Float[Tensor, " samples"],
    clip: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The clipped surrogate, the divergence and the share of clipped choices; means over draws."""
    change = chance_of(chances, item.drawn) - item.log_chance.to(chances)
    ratio = change.exp()
    gain = gains[:, None]
    worth = torch.minimum(ratio * gain, ratio.clamp(1 - clip, 1 + clip) * gain)
    # A choice that became many times likelier than when it was drawn must not drown all others
    # once it turns out bad (Ye et al., arXiv 1912.09729, dual clip).
    worth = torch.where(gain < 0, torch.maximum(worth, _MAX_RATIO * gain), worth)
    divergence = ((ratio - 1) - change).detach().mean()
    outside = ((ratio - 1).abs() > clip).detach().float().mean()
    return worth.mean(), divergence, outside


def entropy_of(chances: Float[Tensor, "rows columns"]) -> Tensor:
    """In nats, the mean over rows."""
    return -(chances.exp() * chances.masked_fill(torch.isinf(chances), 0.0)).sum(dim=1).mean()
