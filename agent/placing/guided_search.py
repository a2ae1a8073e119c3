"""Search that a policy guides: several short annealing chains, the best of which goes on.

Before each simulation the small network reads moves off the trace of the plan at hand and says
which to try (`placement.annealing.guided_anneal`). It finds the way down so fast that there is time
for several ways: a landscape has more than one. Where they ended tells which groups to move
together on the last (`placement.annealing.overlay`). With much time there are several such families
of chains, and a last chain from the best of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from agent.config import AgentConfig
from agent.policy.state import EpisodeState
from placement.annealing.anneal import Annealer, Chain
from placement.annealing.guided_anneal import GuidedAnnealer
from placement.annealing.overlay import overlaid
from placement.placer import Budget
from placement.placers.search import DEFAULT as SEARCH
from simulator.plan import Plan

if TYPE_CHECKING:
    from agent.learning.move_tuning import MoveTuner
    from agent.policy.network import Policy
    from agent.runs.unbuilt_policy import UnbuiltPolicy

_FIRST_EVALUATIONS = 50
#: Evaluations that tell how long one takes, and how many times as long a guided one takes.
_TIMED, _CHOOSING = 5, 2.0
#: A chain cools in so many steps where time is the limit.
_STEPS = 100
#: Of each chain at first.
_STEPS_OF_A_START = 30


@dataclass(frozen=True, eq=False)
class Guided:
    """Where a guided search stands."""

    chain: Chain
    """The best chain so far."""
    steps: int
    """Steps of all chains."""
    evaluations: int

    @property
    def best_plan(self) -> Plan:
        """The best plan that was met."""
        return self.chain.best_plan


def guided_search(
    policy: "Policy | UnbuiltPolicy",
    state: EpisodeState,
    budget: Budget,
    seed: int,
    config: AgentConfig,
    on_step: Callable[[Guided], None],
    max_steps: int | None = None,
    evaluations_per_step: int = _FIRST_EVALUATIONS,
    tuner: "MoveTuner | None" = None,
) -> Guided:
    """Anneal from a state until the budget or the steps are spent.

    Args:
        on_step: told after each step of a chain.
        max_steps: with a limit, each step is `evaluations_per_step` tries, so that the result does
            not depend on the clock; without, chains cool with the time that they have, in steps
            of a hundredth of it.
        tuner: learns from what is tried as the search goes on.
    """
    return _Search(policy, state, budget, seed, config, on_step, tuner).run(
        max_steps, evaluations_per_step
    )


class _Search:
    """One guided search; what changes is the best chain, the counts, and how far it is."""

    def __init__(
        self,
        policy: "Policy | UnbuiltPolicy",
        state: EpisodeState,
        budget: Budget,
        seed: int,
        config: AgentConfig,
        on_step: Callable[[Guided], None],
        tuner: "MoveTuner | None",
    ) -> None:
        self.policy = policy
        self.state = state
        self.budget = budget
        self.seed = seed
        self.guide = config.guide
        self.on_step = on_step
        self.tuner = tuner
        self.annealer = Annealer(
            state.instance.problem, state.subject.groups.hierarchy, SEARCH.neighbour_share
        )
        self.chains = 0
        # A policy that learns has use for what is tried where nothing better is to be found.
        least = np.log(max(state.instance.problem.least_seconds, 1e-300))
        self.least_energy = least if tuner is None else -np.inf
        self.begun_seconds = budget.spent_seconds
        self.span_seconds = max(budget.left_seconds, 1e-9)
        self.max_steps: int | None = None
        self.evaluations_per_step = _FIRST_EVALUATIONS
        self.temperature = self.guide.start_temperature
        self.found = Guided(self._start(self.annealer, state.plan), 0, 0)

    def run(self, max_steps: int | None, evaluations_per_step: int) -> Guided:
        """All chains, one after the other."""
        guide = self.guide
        self.max_steps, self.evaluations_per_step = max_steps, evaluations_per_step
        evaluations = float((max_steps or 0) * evaluations_per_step)
        if max_steps is None:
            evaluations = self.span_seconds / self._pace_seconds()
            self.evaluations_per_step = int(np.clip(evaluations / _STEPS, 10, _FIRST_EVALUATIONS))
        self.temperature = guide.temperature(evaluations)
        starts = guide.starts if evaluations > guide.starts_evaluations else 1
        if max_steps is not None and max_steps * guide.starts_share < starts:
            starts = 1
        families = guide.families(evaluations) if starts > 1 else 1
        if families == 1:
            self._family(starts, 1.0)
            return self.found
        ends = [
            self._family(starts, guide.families_share * (number + 1) / families)
            for number in range(families)
        ]
        self._go_on(ends, 1.0)
        return self.found

    @property
    def progress(self) -> float:
        """Share of the steps or of the time that is used; 1 where the budget is spent, and where
        the best plan is at the lower bound."""
        if self.budget.is_spent or self.found.chain.best_energy <= self.least_energy:
            return 1.0
        if self.max_steps is not None:
            return self.found.steps / max(self.max_steps, 1)
        return (self.budget.spent_seconds - self.begun_seconds) / self.span_seconds

    def _family(self, starts: int, until: float) -> Chain:
        """Some chains from the same plan, and one from where the best of them ended."""
        begun, plan, annealer = self.progress, self.state.plan, self.annealer
        if starts == 1:
            return self._anneal(annealer, self._start(annealer, plan), 1.0, until, _STEPS)
        ends = []
        for number in range(starts):
            end = begun + (until - begun) * self.guide.starts_share * (number + 1) / starts
            chain = self._start(annealer, plan)
            ends.append(self._anneal(annealer, chain, 1.0, end, _STEPS_OF_A_START))
        return self._go_on(ends, until)

    def _go_on(self, ends: list[Chain], until: float) -> Chain:
        """A chain from the best of some, with groups that their plans suggest besides."""
        problem, hierarchy = self.annealer.problem, self.annealer.hierarchy
        best, *others = sorted(ends, key=lambda chain: chain.best_energy)
        apart = [
            chain.best_devices
            for chain in others
            if not np.array_equal(chain.best_devices, best.best_devices)
        ]
        groups = overlaid(problem, hierarchy, best.best_devices, apart[: self.guide.overlays])
        annealer = Annealer(problem, groups, SEARCH.neighbour_share)
        chain = self._start(annealer, best.best_plan)
        return self._anneal(annealer, chain, self.guide.reheat, until, _STEPS)

    def _pace_seconds(self) -> float:
        """What a guided evaluation takes, about: of the time, half goes into choosing it."""
        plan, before = self.state.plan, self.budget.spent_seconds
        for _ in range(_TIMED):
            self.annealer.energy(plan.devices, plan.ranks)
        return _CHOOSING * max(self.budget.spent_seconds - before, 1e-6) / _TIMED

    def _start(self, annealer: Annealer, plan: Plan) -> Chain:
        seed = int(np.random.SeedSequence([self.seed, self.chains]).generate_state(1)[0])
        self.chains += 1
        return annealer.start(plan.devices, plan.ranks, seed)

    def _anneal(
        self, annealer: Annealer, chain: Chain, heat: float, until: float, steps: int
    ) -> Chain:
        """Cool one chain down, from `heat` as a share of the start temperature, until a share of
        all is used."""
        guided = GuidedAnnealer(annealer, self.policy.moves.as_scorer(), self.guide.guidance)
        begun, moves = self.progress, self.evaluations_per_step
        while (before := self.progress) < min(until, 1.0):
            warmth = heat * (until - before) / (until - begun)
            earlier, since = chain.evaluations, self.budget.spent_seconds
            if self.tuner is None:
                chain = guided.advance(chain, moves, self.temperature * warmth, warmth)
            else:
                chain = self.tuner.advance(guided, chain, moves, self.temperature * warmth, warmth)
            chain = guided.reprioritise(chain)
            self._tell(chain, chain.evaluations - earlier)
            if self.max_steps is None:
                seconds = max(self.budget.spent_seconds - since, 1e-4)
                step = (until - begun) * self.span_seconds / steps
                ahead = min(step, self.budget.left_seconds)
                moves = int(np.clip(moves * ahead / seconds, 10, 4 * moves))
        return chain

    def _tell(self, chain: Chain, evaluations: int) -> None:
        best = chain if chain.best_energy < self.found.chain.best_energy else self.found.chain
        self.found = Guided(best, self.found.steps + 1, self.found.evaluations + evaluations)
        self.on_step(self.found)
