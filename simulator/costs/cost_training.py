"""Trains a learned cost model: regression of log run times, and the order of pairs."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64

from simulator.costs.kernel_features import KernelBatch, chosen
from simulator.costs.learned_costs import CostEnsemble, CostNetwork, CostNetworkConfig

#: Kernels of a batch that each kernel is compared with.
_PARTNERS = 8
#: Shorter kernels weigh less: what a clock says of them is mostly noise.
_FULL_WEIGHT_SECONDS = 5e-6


@dataclass(frozen=True)
class CostTrainingConfig:
    """How to train."""

    network: CostNetworkConfig = field(default_factory=CostNetworkConfig)
    epochs: int = 100
    batch_kernels: int = 512
    lr: float = 3e-3
    weight_decay: float = 0.1
    beta: float = 0.05
    """Errors of logarithms below it count by their squares, larger ones as they are."""
    ranking_weight: float = 0.02
    """Weight of the pairwise loss (Kaufman et al., section 3.3) beside the regression's."""
    hide: float = 0.02
    """Share of ops whose kind and type the network does not see."""
    members: int = 3
    """Networks of an ensemble."""
    seed: int = 0
    device: str = "cpu"


def train_costs(
    batch: KernelBatch,
    seconds: Float64[np.ndarray, " kernels"],
    config: CostTrainingConfig,
    on_progress: Callable[[int, CostNetwork], None] | None = None,
) -> CostNetwork:
    """A network that predicts the kernels' run times; `report` is told each epoch."""
    torch.manual_seed(config.seed)
    random = np.random.default_rng(config.seed)
    network = CostNetwork(config.network).to(config.device)
    network.observe(batch.features)
    target = torch.as_tensor(np.log(seconds * 1e6), dtype=torch.float32, device=config.device)
    weight = np.clip(seconds / _FULL_WEIGHT_SECONDS, 0.1, 1.0)
    weights = torch.as_tensor(weight, dtype=torch.float32, device=config.device)
    decay = [p for p in network.parameters() if p.ndim > 1]
    plain = [p for p in network.parameters() if p.ndim <= 1]
    parts: list[dict[str, Any]] = [
        {"params": decay, "weight_decay": config.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(parts, lr=config.lr, fused=True)
    steps = config.epochs * -(-batch.count // config.batch_kernels)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.lr, total_steps=steps, pct_start=0.1
    )
    for epoch in range(config.epochs):
        order = random.permutation(batch.count)
        for at in range(0, batch.count, config.batch_kernels):
            picked = order[at : at + config.batch_kernels]
            guess = network(chosen(batch, picked), config.hide)
            loss = cost_loss(guess, target[picked], config, weights[picked])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        if on_progress is not None:
            on_progress(epoch, network)
    return network.eval()


def train_ensemble(
    batch: KernelBatch, seconds: Float64[np.ndarray, " kernels"], config: CostTrainingConfig
) -> CostEnsemble:
    """Networks of seeds that follow each other, from that of the configuration."""
    seeds = range(config.seed, config.seed + config.members)
    members = [train_costs(batch, seconds, replace(config, seed=seed)) for seed in seeds]
    return CostEnsemble(members).eval()


def cost_loss(
    guess: torch.Tensor,
    target: torch.Tensor,
    config: CostTrainingConfig,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Error of logarithms, and a logistic loss for pairs in the wrong order."""
    errors = torch.nn.functional.smooth_l1_loss(guess, target, beta=config.beta, reduction="none")
    if weights is None:
        weights = torch.ones_like(errors)
    regression = (errors * weights).sum() / weights.sum()
    if not config.ranking_weight or len(guess) < 2:
        return regression
    shifts = range(1, min(_PARTNERS, len(guess) - 1) + 1)
    sign = torch.stack([torch.sign(target - target.roll(shift)) for shift in shifts])
    margin = sign * torch.stack([guess - guess.roll(shift) for shift in shifts])
    ranking = (torch.nn.functional.softplus(-margin) * sign.abs()).mean()
    return regression + config.ranking_weight * ranking
