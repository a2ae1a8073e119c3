"""The search of `search`, by several chains at once that share their best plan; any-time."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from placement.annealing.anneal import Annealer, Chain
from placement.annealing.hierarchy import build_hierarchy
from placement.chains.chain_team import ChainTeam, process_team
from placement.chains.messages import Moves
from placement.chains.shared_anneal import Pace, anneal_together
from placement.placer import Budget, Candidate, OnProgress, Placed
from placement.placers.portfolio import portfolio
from placement.placers.search import DEFAULT, SearchConfig
from placement.problem import Problem

_ROUNDS = 100
_MOVES = 50

#: Starts a team for a problem, of so many chains.
MakeTeam = Callable[[Problem, int], AbstractContextManager[ChainTeam]]


@dataclass(frozen=True, eq=False)
class SharedSearch:
    """A `Placer`: as `search`, with several chains from the portfolio's best."""

    jobs: int
    """Chains, each in a process of its own."""
    config: SearchConfig = DEFAULT
    max_rounds: int | None = None
    """With a limit the result does not depend on the budget, as long as it lasts."""
    moves: int = _MOVES
    """Of each chain in the first round, and with a limit in each."""
    make_team: MakeTeam = process_team

    def __call__(
        self, problem: Problem, budget: Budget, seed: int, on_progress: OnProgress
    ) -> Placed:
        """Anneal until the budget is spent or the lower bound is reached; never worse than the
        portfolio.

        A budget of CPU seconds is for all processes together; starting them does not count.

        Raises:
            InfeasibleError: constraints leave some op no device.
            TeamError: a process was lost.
        """
        if problem.cluster.device_count == 1:
            return portfolio(problem, budget, seed, on_progress)
        with self.make_team(problem, self.jobs) as team:
            floor = portfolio(problem, budget, seed, on_progress)
            if budget.is_spent or problem.leaves_nothing(floor.best.evaluation):
                return floor
            return self._search(problem, budget, seed, on_progress, floor, team)

    def _search(
        self,
        problem: Problem,
        budget: Budget,
        seed: int,
        on_progress: OnProgress,
        floor: Placed,
        team: ChainTeam,
    ) -> Placed:
        hierarchy = build_hierarchy(problem, seed)
        annealer = Annealer(problem, hierarchy, self.config.neighbour_share)
        plan = floor.best.plan
        chains = [
            annealer.start(plan.devices, plan.ranks, own) for own in chain_seeds(seed, self.jobs)
        ]
        team.use(Moves(hierarchy, self.config.neighbour_share))
        least = float(np.log(max(problem.least_seconds, 1e-300)))
        pace = Pace(team, budget, self.max_rounds, self.moves, least)
        found = BestOfChains(problem, floor.best, "search")
        progress = [(pace.spent_seconds, floor.best.evaluation.makespan_seconds)]

        def on_round(chains: Sequence[Chain]) -> None:
            if found.offer(chains):
                progress.append((pace.spent_seconds, found.best.evaluation.makespan_seconds))
            on_progress(min(pace.progress, 1.0))

        temperature = self.config.start_temperature
        ends = anneal_together(team, chains, pace, temperature, 1.0, 1.0, _ROUNDS, on_round)
        return Placed(
            found.best,
            floor.candidates,
            tuple(progress),
            floor.evaluations + sum(chain.evaluations for chain in ends),
            elsewhere_cpu_seconds=team.cpu_seconds,
        )


class BestOfChains:
    """The best plan that any chain met, scored by the simulator."""

    def __init__(self, problem: Problem, start: Candidate, origin: str) -> None:
        """Args:
        start: what has to be beaten.
        origin: what plans of chains are called.
        """
        self._problem = problem
        self._origin = origin
        self._energy = np.inf
        self.best = start

    def offer(self, chains: Sequence[Chain]) -> bool:
        """Look at where chains are; whether that is a new best plan."""
        chain = min(chains, key=lambda item: item.best_energy)
        if chain.best_energy >= self._energy:
            return False
        self._energy, plan = chain.best_energy, chain.best_plan
        mine = Candidate(plan, self._problem.evaluate(plan), self._origin)
        if mine.rank_key >= self.best.rank_key:
            return False
        self.best = mine
        return True


def chain_seeds(seed: int, count: int, already: int = 0) -> list[int]:
    """A seed for each chain; the first chain of all has the search's own.

    Args:
        already: chains that were started before.
    """
    return [
        int(np.random.SeedSequence([seed, number]).generate_state(1)[0]) if number else seed
        for number in range(already, already + count)
    ]
