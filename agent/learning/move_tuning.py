"""Fine-tuning inside a search: the small network learns from the moves that the search tries."""

from collections.abc import Callable, Mapping

import numpy as np
import torch

from agent.learning.config import MoveConfig
from agent.learning.moves import Lessons, draw_lessons, learn_moves
from agent.policy.move_network import MoveNetwork
from placement.annealing.anneal import Chain
from placement.annealing.guided_anneal import GuidedAnnealer, Harvest
from placement.annealing.move_features import MOVE_COLUMNS

#: Told the figures of each update.
OnUpdate = Callable[[Mapping[str, float]], None]


class MoveTuner:
    """Spreads some updates of a network over a search; it changes the network given."""

    def __init__(
        self,
        network: MoveNetwork,
        config: MoveConfig,
        updates: int,
        lr: float,
        seed: int,
        on_update: OnUpdate,
        every: int,
        device: str = "cpu",
    ) -> None:
        self.network = network
        self.config = config
        self.updates_left = updates
        self.optimizer = torch.optim.Adam(network.parameters(), lr=lr)
        self.rng = np.random.default_rng([seed, 7])
        self.on_update = on_update
        self.every = every
        self.device = device
        self.lessons = Lessons.none()
        self.passes = 0

    def advance(
        self, guided: GuidedAnnealer, chain: Chain, moves: int, temperature: float, heat: float
    ) -> Chain:
        """Let the search go on, and now and then learn from what it tried."""
        room = min(moves, self.config.kept)
        harvest = Harvest(
            np.zeros((room, len(MOVE_COLUMNS)), np.float32), np.zeros(room, np.float32)
        )
        before = chain.evaluations
        chain = guided.advance(chain, moves, temperature, heat, harvest)
        kept = min(chain.evaluations - before, room)
        lessons = Lessons(harvest.features[:kept].astype(np.float16), harvest.changes[:kept])
        self.lessons = self.lessons.and_then(lessons, self.config.remembered)
        self.passes += 1
        if self.updates_left and self.passes % self.every == 0:
            batch = draw_lessons(self.lessons, self.config.batch, self.rng)
            self.on_update(
                learn_moves(self.network, self.optimizer, [batch], self.config, self.device)
            )
            self.updates_left -= 1
            guided.take(self.network.as_scorer())
        return chain
