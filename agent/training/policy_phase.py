"""The third phase: the large network learns by policy gradients."""

from time import process_time

import numpy as np
import torch
from torch import nn

from agent.learning.improving import draw_pass, learn
from agent.learning.ppo import Update
from agent.training.batch import Batch


def learn_policy(
    network: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch
) -> dict[str, float]:
    """PPO on episodes of a few passes, each from the best plan of the pass before.

    Returns:
        What the updates came to, and by how much the plans improved.
    """
    config, begun = batch.config, process_time()
    states = batch.states
    experience = process_time() - begun
    before = np.array([state.energy for state in states])
    updates: list[Update] = []
    better: list[float] = []
    for step in range(config.agent.episode.steps):
        rngs = batch.generators(step, batch.slots)
        begun = process_time()
        passed = draw_pass(network, config.agent, states, rngs, config.device)
        experience += process_time() - begun
        updates.append(
            learn(
                network,
                optimizer,
                config.agent,
                passed,
                batch.phase.progress,
                config.graphs_per_batch,
            )
        )
        better.extend(float(one.improving.mean()) for one in passed.rollouts)
        states = passed.best
    after = np.array([state.energy for state in states])
    marks = np.array([state.instance.reference_energy for state in states])
    means = {
        key: float(np.mean([getattr(one, key) for one in updates]))
        for key in ("loss", "entropy", "kl", "clipped_share", "grad_norm", "epochs")
    }
    return {
        "improving_share": float(np.mean(better)),
        "log_gain": float((before - after).mean()),
        "log_against_portfolio": float((after - marks).mean()),
        **means,
        "experience_cpu_seconds": experience,
    }
