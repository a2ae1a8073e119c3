"""Trains a learned cost model: regression of log run times, and the order of pairs."""

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float64, Int64

from simulator.kernel_features import KernelBatch, chosen
from simulator.learned_costs import CostNetwork, CostNetworkConfig


@dataclass(frozen=True)
class CostTrainingConfig:
    """How to train."""

    network: CostNetworkConfig = field(default_factory=CostNetworkConfig)
    epochs: int = 150
    batch_kernels: int = 128
    lr: float = 2e-3
    ranking_weight: float = 0.1
    """Of the pairwise loss (Kaufman et al., section 3.3), beside that of the regression."""
    hide: float = 0.1
    """Share of ops whose kind and type the network does not see."""
    seed: int = 0
    device: str = "cpu"


def train_costs(
    batch: KernelBatch, seconds: Float64[np.ndarray, " kernels"], config: CostTrainingConfig
) -> CostNetwork:
    """A network that predicts the kernels' run times."""
    torch.manual_seed(config.seed)
    random = np.random.default_rng(config.seed)
    network = CostNetwork(config.network).to(config.device)
    target = torch.as_tensor(np.log(seconds * 1e6), dtype=torch.float32, device=config.device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.lr, weight_decay=1e-3)
    steps = config.epochs * -(-batch.count // config.batch_kernels)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=steps)
    for _ in range(config.epochs):
        order = random.permutation(batch.count)
        for at in range(0, batch.count, config.batch_kernels):
            picked = order[at : at + config.batch_kernels]
            part = chosen(batch, picked)
            loss = cost_loss(network(part, config.hide), target[picked], config.ranking_weight)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return network.eval()


def cost_loss(guess: torch.Tensor, target: torch.Tensor, ranking_weight: float) -> torch.Tensor:
    """Absolute error of logarithms, and a logistic loss for each pair in the wrong order."""
    regression = torch.nn.functional.smooth_l1_loss(guess, target, beta=0.1)
    sign = torch.sign(target[:, None] - target[None, :])
    margin = sign * (guess[:, None] - guess[None, :])
    ranking = torch.nn.functional.softplus(-margin)[sign != 0].mean()
    return regression + ranking_weight * torch.nan_to_num(ranking)


def split_by(labels: list[str], held_out: set[str]) -> tuple[Int64[np.ndarray, " a"], ...]:
    """Positions that are not held out, and those that are."""
    out = np.array([label in held_out for label in labels], bool)
    return np.flatnonzero(~out), np.flatnonzero(out)
