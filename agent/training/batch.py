"""One batch of a training run: its slots, and who learns from which."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from agent.config import TrainConfig
from agent.policy.state import EpisodeState
from agent.training.gathering import Gatherer
from agent.training.phases import Phase
from agent.training.shares import even_shares, in_order
from agent.training.slots import Slot, SlotJob, slot_generator
from agent.training.starts import Starts
from agent.training.workers import Workers

Taught = TypeVar("Taught")


@dataclass(frozen=True, eq=False)
class Batch:
    """The slots of a round, as one worker has them."""

    config: TrainConfig
    workers: Workers
    round: int
    starts: Starts
    phase: Phase
    """What the round belongs to."""
    gatherer: Gatherer
    """Who works out what slots teach."""

    @property
    def kept_slots(self) -> range:
        """Numbers of the slots that this worker has in every round."""
        return range(self.workers.rank, self.config.graphs_per_batch, self.workers.count)

    @cached_property
    def slots(self) -> tuple[int, ...]:
        """Numbers of the slots that this worker learns from in this round alone, such that no
        worker's graphs are much larger than another's."""
        mine = self.workers.rank
        return tuple(slot for slot, owner in enumerate(self._owners) if owner == mine)

    @cached_property
    def states(self) -> list[EpisodeState]:
        """Where the episodes of `slots` begin."""
        return [self.starts.draw(self.round, slot) for slot in self.slots]

    def generators(self, step: int, slots: Sequence[int]) -> list[np.random.Generator]:
        """One per slot, the same whoever else there is."""
        return [slot_generator(self.config.seed, self.round, slot, step) for slot in slots]

    def gather(self, job: SlotJob[Taught], keeps: bool) -> Mapping[int, Taught]:
        """What this worker's slots teach, by number; all workers must ask.

        Args:
            keeps: of `kept_slots`, else of `slots`.
        """
        count = self.config.graphs_per_batch
        owners = in_order(count, self.workers.count) if keeps else self._owners
        wanted = [Slot(self.round, slot) for slot in range(count)]
        return self.gatherer.gather(job, wanted, owners)

    @cached_property
    def _owners(self) -> list[int]:
        slots = range(self.config.graphs_per_batch)
        ops = [self.starts.asked(self.round, slot)[0] for slot in slots]
        return even_shares(ops, self.workers.count)
