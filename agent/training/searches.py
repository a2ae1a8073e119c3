"""What a slot of the first phase teaches: searches that the small network guides."""

from dataclasses import dataclass

import numpy as np

from agent.config import TrainConfig
from agent.learning.moves import (
    Lessons,
    draw_search,
    make_kernel_problem,
    search_for_lessons,
)
from agent.training.slots import Slot, SlotJob
from agent.training.starts import Starts
from placement.annealing.move_scorer import MoveScorer
from placement.annealing.overlay import overlaid

#: What preparing a graph takes, in evaluations of a plan for it.
_PREPARING = 1000.0


@dataclass(frozen=True, eq=False)
class Searched:
    """What the searches of one slot came to."""

    lessons: Lessons
    improving_share: float
    """Of the moves that were tried first."""
    log_against_portfolio: float
    """By how much the best plan's energy is above the portfolio's."""


class Searches(SlotJob[Searched]):
    """A search from the plan where the slot begins, often gone on with, and its lessons."""

    def __init__(
        self, config: TrainConfig, scorer: MoveScorer, starts: Starts | None = None
    ) -> None:
        """Args:
        scorer: the small network as it is in this round, in arrays.
        """
        super().__init__(config, starts)
        self.scorer = scorer

    def work_out(self, slot: Slot) -> Searched:
        """Search, guided by the network as it was when the round began."""
        config, agent, rng = self.config, self.config.agent, self.generator(slot, 0)
        state = self.starts.draw(slot.round, slot.number)
        problem, hierarchy = state.instance.problem, state.subject.groups.hierarchy
        plan, mark = state.plan, state.instance.reference_seconds
        if rng.random() < agent.moves.fused_share:
            problem, hierarchy, plan = make_kernel_problem(problem, plan, config.seed)
            mark = problem.evaluate(plan).makespan_seconds
        lessons, chain = search_for_lessons(
            self.scorer,
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
                self.scorer,
                problem,
                overlaid(problem, hierarchy, chain.best_devices, [plan.devices]),
                chain.best_plan,
                agent.guide.guidance,
                agent.guide.start_temperature * agent.guide.reheat,
                agent.moves,
                rng,
            )
            lessons = lessons.and_then(later, remembered(config))
        improving = float(lessons.improving.mean()) if len(lessons.changes) else 0.0
        return Searched(lessons, improving, float(chain.best_energy - np.log(mark)))

    def cost(self, slot: Slot) -> float:
        """Ops times evaluations: those of the first search are drawn beforehand, of the second its
        mean is known."""
        moves, rng = self.config.agent.moves, self.generator(slot, 0)
        ops, devices = self.starts.asked(slot.round, slot.number)
        if devices == 1:
            return _PREPARING * ops
        rng.random()
        first = draw_search(moves, rng).evaluations
        span = moves.most_evaluations - moves.least_evaluations
        mean = span / max(np.log(moves.most_evaluations / moves.least_evaluations), 1e-9)
        mean = mean if span else moves.most_evaluations
        return ops * (_PREPARING + first + moves.overlaid_share * mean)


def remembered(config: TrainConfig) -> int:
    """Moves that are remembered of each slot."""
    return max(config.agent.moves.remembered // config.graphs_per_batch, 1)
