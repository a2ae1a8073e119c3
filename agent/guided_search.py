"""Search that a policy guides: several short annealing chains, the best of which goes on.

Before each simulation the small network reads moves off the trace of the plan at hand and says
which to try (`placement.guided_anneal`). It finds the way down so fast that there is time for
several ways: a landscape has more than one. Where they ended tells which groups to move together
on the last (`placement.overlay`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from agent.config import AgentConfig
from agent.move_tuning import MoveTuner
from agent.policy.network import Policy
from agent.state import State
from placement.anneal import Annealer, Chain
from placement.guided_anneal import GuidedAnnealer
from placement.overlay import overlaid
from placement.placer import Budget
from placement.search import DEFAULT as SEARCH
from simulator.plan import Plan

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
    passes: int
    """Steps of all chains."""
    evaluations: int

    @property
    def best_plan(self) -> Plan:
        """The best plan that was met."""
        return self.chain.best_plan


def guided_search(
    policy: Policy,
    state: State,
    budget: Budget,
    seed: int,
    config: AgentConfig,
    on_pass: Callable[[Guided], None],
    max_passes: int | None = None,
    evaluations_per_pass: int = _FIRST_EVALUATIONS,
    tuner: MoveTuner | None = None,
) -> Guided:
    """Anneal from a state until the budget or the passes are spent.

    Args:
        on_pass: told after each step of a chain.
        max_passes: with a limit, each pass is `evaluations_per_pass` tries, so that the result does
            not depend on the clock; without, chains cool with the time that they have, in passes
            of a hundredth of it.
        tuner: learns from what is tried as the search goes on.
    """
    return _Search(policy, state, budget, seed, config, on_pass, tuner).run(
        max_passes, evaluations_per_pass
    )


class _Search:
    """One guided search; what changes is the best chain and the counts."""

    def __init__(
        self,
        policy: Policy,
        state: State,
        budget: Budget,
        seed: int,
        config: AgentConfig,
        on_pass: Callable[[Guided], None],
        tuner: MoveTuner | None,
    ) -> None:
        self.policy = policy
        self.state = state
        self.budget = budget
        self.seed = seed
        self.guide = config.guide
        self.on_pass = on_pass
        self.tuner = tuner
        self.annealer = Annealer(
            state.instance.problem, state.subject.groups.hierarchy, SEARCH.neighbour_share
        )
        self.temperature = self.guide.start_temperature
        self.found = Guided(self._start(state.plan, 0), 0, 0)

    def run(self, max_passes: int | None, evaluations_per_pass: int) -> Guided:
        """All chains, one after the other."""
        guide, begun = self.guide, self.budget.spent_seconds
        span = max(self.budget.left_seconds, 0.0)
        evaluations = float((max_passes or 0) * evaluations_per_pass)
        if max_passes is None:
            evaluations = span / self._pace_seconds()
            evaluations_per_pass = int(np.clip(evaluations / _STEPS, 10, _FIRST_EVALUATIONS))
        self.temperature = guide.temperature(evaluations)
        starts = guide.starts if evaluations > guide.starts_evaluations else 1
        if max_passes is not None and max_passes * guide.starts_share < starts:
            starts = 1
        ends: list[Chain] = []
        if starts > 1:
            for number in range(starts):
                share = guide.starts_share * (number + 1) / starts
                passes = None
                if max_passes is not None:
                    passes = int(max_passes * guide.starts_share / starts)
                chain = self._start(self.state.plan, number)
                until = begun + span * share
                ends.append(
                    self._anneal(chain, 1.0, until, passes, evaluations_per_pass, _STEPS_OF_A_START)
                )
        best = self.found.best_plan
        self._overlay(sorted(ends, key=lambda chain: chain.best_energy))
        heat = guide.reheat if starts > 1 else 1.0
        rest = None if max_passes is None else max_passes - self.found.passes
        until = begun + span
        self._anneal(self._start(best, starts), heat, until, rest, evaluations_per_pass, _STEPS)
        return self.found

    def _overlay(self, ends: list[Chain]) -> None:
        """Groups of the next chain: those of the others, and the pieces in which plans agree."""
        placements = [chain.best_devices for chain in ends[: 1 + self.guide.overlays]]
        if len(placements) < 2:
            return
        problem, hierarchy = self.annealer.problem, self.annealer.hierarchy
        hierarchy = overlaid(problem, hierarchy, placements[0], placements[1:])
        self.annealer = Annealer(problem, hierarchy, SEARCH.neighbour_share)

    def _pace_seconds(self) -> float:
        """What a guided evaluation takes, about: of the time, half goes into choosing it."""
        plan, before = self.state.plan, self.budget.spent_seconds
        for _ in range(_TIMED):
            self.annealer.energy(plan.devices, plan.ranks)
        return _CHOOSING * max(self.budget.spent_seconds - before, 1e-6) / _TIMED

    def _start(self, plan: Plan, number: int) -> Chain:
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        return self.annealer.start(plan.devices, plan.ranks, seed)

    def _anneal(
        self,
        chain: Chain,
        heat: float,
        until: float,
        passes: int | None,
        evaluations_per_pass: int,
        steps: int,
    ) -> Chain:
        """Cool one chain down, from `heat` as a share of the start temperature."""
        guided = GuidedAnnealer(self.annealer, self.policy.moves.as_scorer(), self.guide.guidance)
        begun = self.budget.spent_seconds
        span = max(until - begun, 1e-9)
        moves, done = evaluations_per_pass, 0
        while not self.budget.is_spent:
            before = self.budget.spent_seconds
            if passes is not None and done >= passes:
                break
            left = 1 - (before - begun) / span if passes is None else 1 - done / max(passes, 1)
            if left <= 0:
                break
            temperature = self.temperature * heat * left
            earlier = chain.evaluations
            if self.tuner is None:
                chain = guided.advance(chain, moves, temperature, heat * left)
            else:
                chain = self.tuner.advance(guided, chain, moves, temperature, heat * left)
            chain = guided.reprioritised(chain)
            done += 1
            self._tell(chain, chain.evaluations - earlier)
            if passes is None:
                seconds = max(self.budget.spent_seconds - before, 1e-4)
                ahead = min(span / steps, self.budget.left_seconds)
                moves = int(np.clip(moves * ahead / seconds, 10, 4 * moves))
        return chain

    def _tell(self, chain: Chain, evaluations: int) -> None:
        best = chain if chain.best_energy < self.found.chain.best_energy else self.found.chain
        self.found = Guided(best, self.found.passes + 1, self.found.evaluations + evaluations)
        self.on_pass(self.found)
