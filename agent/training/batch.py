"""One batch of a training run: its states, and the random numbers of each slot."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agent.config import TrainConfig
from agent.policy.state import EpisodeState
from agent.training.phases import Phase
from agent.training.workers import Workers


@dataclass(frozen=True, eq=False)
class Batch:
    """The slots of a round that one worker has."""

    config: TrainConfig
    workers: Workers
    round: int
    states: Sequence[EpisodeState]
    """Where the episode of each slot begins."""
    phase: Phase
    """What the round belongs to."""

    @property
    def slots(self) -> range:
        """Numbers of this worker's slots among those of all workers."""
        return range(self.workers.rank, self.config.graphs_per_batch, self.workers.count)

    def generators(self, step: int) -> list[np.random.Generator]:
        """One per slot of this worker, the same whoever else there is."""
        seed = self.config.seed
        return [np.random.default_rng([seed, self.round, slot, 1 + step]) for slot in self.slots]
