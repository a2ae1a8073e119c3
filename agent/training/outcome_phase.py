"""The second phase: the large network learns which moves improve the plans that search meets."""

from time import process_time

import numpy as np
import torch
from torch import nn

from agent.learning.outcomes import learn_outcomes
from agent.training.batch import Batch
from agent.training.trials import Trials


def learn_from_outcomes(
    network: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch
) -> dict[str, float]:
    """Try moves at states that search meets, and learn which of them improve.

    Returns:
        The loss, how well scores rank moves, and the share of moves that improve.
    """
    config, begun = batch.config, process_time()
    tried = batch.gather(Trials(config, batch.starts), keeps=False)
    gathered = process_time() - begun
    steps: list[dict[str, float]] = []
    for step in range(config.agent.episode.steps):
        outcomes = [tried[slot][step] for slot in batch.slots]
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
    means = {key: float(np.mean([one[key] for one in steps])) for key in steps[0]}
    return {**means, "experience_cpu_seconds": gathered}
