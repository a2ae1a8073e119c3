"""One pass over a batch of states: look, score, draw, evaluate; and, if wanted, learn from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import nn

from agent.config import AgentConfig
from agent.learning.ppo import Update, update
from agent.learning.rollout import Rollout, sample
from agent.policy.inputs import PolicyInput, collate
from agent.policy.state import EpisodeState


@dataclass(frozen=True, eq=False)
class Pass:
    """What the policy saw and drew."""

    batch: PolicyInput
    rollouts: tuple[Rollout, ...]
    merged: int = 1

    @cached_property
    def best(self) -> list[EpisodeState]:
        """Per graph the state to go on from; see `Rollout.best`."""
        return [rollout.best(self.merged) for rollout in self.rollouts]


def draw_pass(
    policy: nn.Module,
    config: AgentConfig,
    states: Sequence[EpisodeState],
    rngs: Sequence[np.random.Generator],
    device: str = "cpu",
) -> Pass:
    """Sample plans for every state from one forward pass and score them."""
    views = [state.view(config.policy.reads_trace) for state in states]
    batch = collate(views, config.policy.segment_ops).to(device)
    with torch.no_grad():
        scores = {task: values.float().cpu() for task, values in policy(batch).items()}
    on_host = batch if device == "cpu" else batch.to("cpu")
    rollouts = tuple(
        sample(
            state, scores, on_host, number, config.sample, config.reward, rng, config.episode.whole
        )
        for number, (state, rng) in enumerate(zip(states, rngs, strict=True))
    )
    return Pass(batch, rollouts, config.sample.merged)


def learn(
    policy: nn.Module,
    optimizer: torch.optim.Optimizer,
    config: AgentConfig,
    passed: Pass,
    progress: float,
    graphs_in_all: int | None = None,
) -> Update:
    """One PPO update; `progress` from 0 to 1 lowers the weight of the entropy."""
    ppo = config.ppo
    weight = ppo.entropy + (ppo.entropy_end - ppo.entropy) * progress
    return update(
        policy,
        optimizer,
        passed.batch,
        passed.rollouts,
        ppo,
        weight,
        graphs_in_all,
    )
