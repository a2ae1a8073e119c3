"""The second phase: the large network learns which moves improve the plans that search meets."""

import numpy as np
import torch
from torch import nn

from agent.learning.outcomes import anneal_from, learn_outcomes, try_moves
from agent.training.batch import Batch


def learn_from_outcomes(
    network: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch
) -> dict[str, float]:
    """Try moves at states that search meets, and learn which of them improve.

    Returns:
        The loss, how well scores rank moves, and the share of moves that improve.
    """
    config, states = batch.config, batch.states
    steps: list[dict[str, float]] = []
    for step in range(config.agent.episode.steps):
        rngs = batch.generators(step)
        outcomes = [
            try_moves(state, config.agent.policy.reads_trace, config.agent.outcomes, rng)
            for state, rng in zip(states, rngs, strict=True)
        ]
        figures = learn_outcomes(
            network,
            optimizer,
            outcomes,
            config.agent.outcomes,
            config.agent.policy.segment_ops,
            config.agent.ppo.max_grad_norm,
            config.graphs_per_batch,
            config.device,
        )
        gains = np.concatenate([item.gains for item in outcomes])
        better = gains > config.agent.outcomes.least_gain
        steps.append({**figures, "improving_share": float(better.mean()) if len(gains) else 0})
        if step + 1 < config.agent.episode.steps:
            states = [
                anneal_from(state, config.agent.outcomes, rng)
                for state, rng in zip(states, rngs, strict=True)
            ]
    return {key: float(np.mean([one[key] for one in steps])) for key in steps[0]}
