"""Fine-tuning: a few updates of a copy of the policy on one graph, in its environment."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch

from agent.decoding.config import LearnConfig
from agent.decoding.learning import learn_from_plans
from agent.decoding.network import OneShotPolicy
from agent.decoding.subject import Subject
from envs.rules import Progress

#: Of the rate of training, and what is drawn at: one graph needs no averaging over others.
_RATE = 4.0
_TEMPERATURES = (0.6, 1.0, 2.0)


@dataclass(frozen=True, eq=False)
class Tuned:
    """A policy that has learned on one graph."""

    policy: OneShotPolicy
    best: Progress
    """The best plan that was drawn on the way."""
    plans: int
    """How many were."""
    updates: int


def tune_on(
    policy: OneShotPolicy,
    subject: Subject,
    config: LearnConfig,
    updates: int,
    seed: int,
    device: str = "cpu",
    go_on: Callable[[], bool] = lambda: True,
) -> Tuned:
    """Learn on one graph; the policy that is given stays as it is.

    Args:
        policy: to begin with.
        subject: the graph.
        config: plans of each update, and how much is learned of them.
        updates: at most.
        seed: of all draws.
        device: torch's device of the network.
        go_on: asked before each update after the first.
    """
    own = deepcopy(policy)
    noise = replace(config.noise, temperatures=_TEMPERATURES)
    alone = replace(config, graphs=1, lr=config.lr * _RATE, noise=noise)
    optimizer = torch.optim.Adam(own.parameters(), lr=alone.lr)
    best: Progress | None = None
    done = 0
    while done < updates and (not done or go_on()):
        rng = np.random.default_rng([seed, done, 31])
        learned = learn_from_plans(own, optimizer, [subject], [rng], alone, device)
        done += 1
        if best is None or learned.best_plans[0].energy < best.energy:
            best = learned.best_plans[0]
    assert best is not None, "no update was made"
    return Tuned(own, best, done * alone.plans, done)
