"""The first phase: the small network learns from the searches that it guides itself."""

from time import process_time

import numpy as np
import torch

from agent.learning.moves import Lessons, draw_lessons, learn_moves
from agent.policy.move_network import MoveNetwork
from agent.training.batch import Batch
from agent.training.searches import Searched, Searches, remembered


class MovePhase:
    """Teaches one small network; what changes is the network and the lessons that are kept."""

    def __init__(self, network: MoveNetwork) -> None:
        self.network = network
        self.optimizer = torch.optim.Adam(network.parameters())
        self.lessons: dict[int, Lessons] = {}
        """What the searches of each slot taught."""

    def learn(self, batch: Batch, rate: float) -> dict[str, float]:
        """Search from each state, guided by the network, and learn from all that was tried so far.

        Args:
            rate: learning rate of this round.

        Returns:
            The loss, how well scores rank moves, and what the searches came to.
        """
        begun = process_time()
        searched = self._gather_lessons(batch)
        gathered = process_time() - begun
        if not self.network.is_standardised:
            self._standardise(batch)
        updates = self._update(batch, rate)
        return {
            "improving_share": float(np.mean([one.improving_share for one in searched])),
            "log_against_portfolio": float(
                np.mean([one.log_against_portfolio for one in searched])
            ),
            "move_lr": rate,
            "lessons": float(sum(len(lessons.changes) for lessons in self.lessons.values())),
            **{key: float(np.mean([one[key] for one in updates])) for key in updates[0]},
            "experience_cpu_seconds": gathered,
        }

    def _gather_lessons(self, batch: Batch) -> list[Searched]:
        """Search in each slot, and keep what that taught."""
        job = Searches(batch.config, self.network.as_scorer(), batch.starts)
        found = batch.gather(job, keeps=True)
        room = remembered(batch.config)
        for slot in batch.kept_slots:
            before = self.lessons.get(slot, Lessons.none())
            self.lessons[slot] = before.and_then(found[slot].lessons, room)
        return [found[slot] for slot in batch.kept_slots]

    def _standardise(self, batch: Batch) -> None:
        """Scale the network's inputs by what the first searches of all workers saw."""
        seen = np.concatenate([self.lessons[slot].features for slot in batch.kept_slots])
        if len(seen := batch.workers.gather(seen)):  # single devices teach nothing
            self.network.standardise(seen.astype(np.float32))

    def _update(self, batch: Batch, rate: float) -> list[dict[str, float]]:
        """Returns the figures of each update."""
        config, agent = batch.config, batch.config.agent
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        figures: list[dict[str, float]] = []
        each = max(agent.moves.batch // config.graphs_per_batch, 1)
        slots = batch.kept_slots
        for step in range(agent.moves.updates):
            batches = [
                draw_lessons(self.lessons[slot], each, rng)
                for slot, rng in zip(slots, batch.generators(step + 1, slots), strict=True)
            ]
            figures.append(
                learn_moves(
                    self.network,
                    self.optimizer,
                    batches,
                    agent.moves,
                    config.device,
                    each * config.graphs_per_batch,
                )
            )
        return figures
