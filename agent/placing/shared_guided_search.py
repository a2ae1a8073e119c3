"""Guided search by several chains at once, as `agent.placing.guided_search` does it one by one.

The first chains go ways of their own; from the best of their ends, with the groups that the others
suggest, all go on together and share their best plan.
"""

from collections.abc import Sequence

import numpy as np

from agent.config import GuideConfig
from placement.annealing.anneal import Annealer, Chain
from placement.annealing.hierarchy import Hierarchy
from placement.annealing.move_scorer import MoveScorer
from placement.annealing.overlay import overlaid
from placement.chains.chain_team import ChainTeam
from placement.chains.messages import Moves
from placement.chains.shared_anneal import OnRound, Pace, anneal_together
from placement.placer import Budget
from placement.placers.search import DEFAULT as SEARCH
from placement.placers.shared_search import chain_seeds
from placement.problem import Problem
from simulator.plan import Plan

_TIMED, _CHOOSING = 5, 2.0
_ROUNDS, _ROUNDS_OF_A_START = 100, 30
_MOST_MOVES, _LEAST_MOVES = 50, 10


class SharedGuidedSearch:
    """One search; what changes is how many chains there were and how far it is."""

    def __init__(
        self,
        problem: Problem,
        hierarchy: Hierarchy,
        scorer: MoveScorer,
        guide: GuideConfig,
        team: ChainTeam,
        plan: Plan,
        seed: int,
        on_round: OnRound,
    ) -> None:
        """Args:
        hierarchy: groups of the first chains.
        scorer: the small network.
        plan: where all chains begin.
        on_round: told where the chains are after each round.
        """
        self._problem = problem
        self._hierarchy = hierarchy
        self._scorer = scorer
        self._guide = guide
        self._team = team
        self._plan = plan
        self._seed = seed
        self._on_round = on_round
        self._chains = 0
        self._temperature = guide.start_temperature
        self.evaluations = 0
        """Of all chains that have ended."""

    def run(self, budget: Budget, max_rounds: int | None = None, moves: int = _MOST_MOVES) -> None:
        """All chains, until the budget or the rounds are spent.

        Args:
            max_rounds: with a limit each round has `moves` tries of each chain, and the result
                does not depend on the budget, as long as it lasts.
        """
        guide, size = self._guide, self._team.size
        least = float(np.log(max(self._problem.least_seconds, 1e-300)))
        evaluations = float((max_rounds or 0) * moves)
        if max_rounds is None:
            one = _CHOOSING * self._seconds_of_a_plan(budget)
            share = 1 if budget.by_the_clock else size
            evaluations = max(budget.left_seconds, 0.0) / share / one
            moves = int(np.clip(evaluations / _ROUNDS, _LEAST_MOVES, _MOST_MOVES))
        pace = Pace(self._team, budget, max_rounds, moves, least)
        self._temperature = guide.temperature(evaluations)
        apart = evaluations > guide.starts_evaluations
        turns = -(-guide.starts // size) if apart else 0
        families = guide.families(evaluations) if apart else 1
        if families == 1:
            self._family(pace, turns, 1.0)
            return
        ends = [
            self._family(pace, turns, guide.families_share * (number + 1) / families)
            for number in range(families)
        ]
        self._go_on(pace, ends, 1.0)

    def _family(self, pace: Pace, turns: int, until: float) -> Chain:
        """Chains from the same plan, as many at once as the team takes, and then the best."""
        begun = pace.progress
        self._use(self._hierarchy)
        if not turns:
            chains = self._start(self._hierarchy, self._plan)
            return _best(self._anneal(pace, chains, 1.0, until, _ROUNDS, exchange=True))
        ends: list[Chain] = []
        for turn in range(turns):
            end = begun + (until - begun) * self._guide.starts_share * (turn + 1) / turns
            chains = self._start(self._hierarchy, self._plan)
            ends += self._anneal(pace, chains, 1.0, end, _ROUNDS_OF_A_START, exchange=False)
        return self._go_on(pace, ends, until)

    def _go_on(self, pace: Pace, ends: Sequence[Chain], until: float) -> Chain:
        """Chains from the best of some, with groups that the others' plans suggest besides."""
        best, *others = sorted(ends, key=lambda chain: chain.best_energy)
        apart = [
            chain.best_devices
            for chain in others
            if not np.array_equal(chain.best_devices, best.best_devices)
        ]
        groups = overlaid(
            self._problem, self._hierarchy, best.best_devices, apart[: self._guide.overlays]
        )
        self._use(groups)
        chains = self._start(groups, best.best_plan)
        heat = self._guide.reheat
        return _best(self._anneal(pace, chains, heat, until, _ROUNDS, exchange=True))

    def _use(self, hierarchy: Hierarchy) -> None:
        share = SEARCH.neighbour_share
        self._team.use(Moves(hierarchy, share, self._scorer, self._guide.guidance))

    def _start(self, hierarchy: Hierarchy, plan: Plan) -> list[Chain]:
        annealer = Annealer(self._problem, hierarchy, SEARCH.neighbour_share)
        seeds = chain_seeds(self._seed, self._team.size, self._chains)
        self._chains += len(seeds)
        return [annealer.start(plan.devices, plan.ranks, seed) for seed in seeds]

    def _anneal(
        self,
        pace: Pace,
        chains: Sequence[Chain],
        heat: float,
        until: float,
        rounds: int,
        exchange: bool,
    ) -> list[Chain]:
        ends = anneal_together(
            self._team, chains, pace, self._temperature, heat, until, rounds, self._on_round,
            exchange,
        )  # fmt: skip
        self.evaluations += sum(chain.evaluations for chain in ends)
        return ends

    def _seconds_of_a_plan(self, budget: Budget) -> float:
        """What simulating one takes here, about."""
        annealer = Annealer(self._problem, self._hierarchy, SEARCH.neighbour_share)
        before = budget.spent_seconds
        for _ in range(_TIMED):
            annealer.energy(self._plan.devices, self._plan.ranks)
        return max(budget.spent_seconds - before, 1e-6) / _TIMED


def _best(chains: Sequence[Chain]) -> Chain:
    return min(chains, key=lambda chain: chain.best_energy)
