"""The first phase: the small network learns from the searches that it guides itself."""

import numpy as np
import torch

from agent.learning.moves import (
    Lessons,
    draw_lessons,
    learn_moves,
    make_kernel_problem,
    search_for_lessons,
)
from agent.policy.move_network import MoveNetwork
from agent.training.batch import Batch
from placement.annealing.overlay import overlaid


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
        improving, logs = self._gather_lessons(batch)
        if not self.network.is_standardised:
            self._standardise(batch)
        updates = self._update(batch, rate)
        return {
            "improving_share": float(np.mean(improving)),
            "log_against_portfolio": float(np.mean(logs)),
            "move_lr": rate,
            "lessons": float(sum(len(lessons.changes) for lessons in self.lessons.values())),
            **{key: float(np.mean([one[key] for one in updates])) for key in updates[0]},
        }

    def _gather_lessons(self, batch: Batch) -> tuple[list[float], list[float]]:
        """Search in each slot; returns shares of moves that improved, and energies against the
        portfolio's."""
        config, agent = batch.config, batch.config.agent
        improving: list[float] = []
        logs: list[float] = []
        room = max(agent.moves.remembered // config.graphs_per_batch, 1)
        for slot, state, rng in zip(batch.slots, batch.states, batch.generators(0), strict=True):
            problem, hierarchy = state.instance.problem, state.subject.groups.hierarchy
            plan, mark = state.plan, state.instance.reference_seconds
            if rng.random() < agent.moves.fused_share:
                problem, hierarchy, plan = make_kernel_problem(problem, plan, config.seed)
                mark = problem.evaluate(plan).makespan_seconds
            lessons, chain = search_for_lessons(
                self.network,
                problem,
                hierarchy,
                plan,
                agent.guide.guidance,
                agent.guide.start_temperature,
                agent.moves,
                rng,
            )
            if rng.random() < agent.moves.overlaid_share:
                later, chain = search_for_lessons(
                    self.network,
                    problem,
                    overlaid(problem, hierarchy, chain.best_devices, [plan.devices]),
                    chain.best_plan,
                    agent.guide.guidance,
                    agent.guide.start_temperature * agent.guide.reheat,
                    agent.moves,
                    rng,
                )
                lessons = lessons.and_then(later, room)
            self.lessons[slot] = self.lessons.get(slot, Lessons.none()).and_then(lessons, room)
            improving.append(lessons.improving.mean() if len(lessons.changes) else 0.0)
            logs.append(chain.best_energy - np.log(mark))
        return improving, logs

    def _standardise(self, batch: Batch) -> None:
        """Scale the network's inputs by what the first searches of all workers saw."""
        seen = np.concatenate([self.lessons[slot].features for slot in batch.slots])
        if len(seen := batch.workers.gather(seen)):  # single devices teach nothing
            self.network.standardise(seen.astype(np.float32))

    def _update(self, batch: Batch, rate: float) -> list[dict[str, float]]:
        """Returns the figures of each update."""
        config, agent = batch.config, batch.config.agent
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        figures: list[dict[str, float]] = []
        each = max(agent.moves.batch // config.graphs_per_batch, 1)
        for step in range(agent.moves.updates):
            batches = [
                draw_lessons(self.lessons[slot], each, rng)
                for slot, rng in zip(batch.slots, batch.generators(step + 1), strict=True)
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
