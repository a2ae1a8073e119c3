"""Uninformed search: annealing from the portfolio's best over nested groups; any-time.

The bar for everything learned.
"""

from dataclasses import dataclass

import numpy as np

from placement.annealing.anneal import Annealer, Chain
from placement.annealing.hierarchy import build_hierarchy
from placement.placer import Budget, Candidate, OnProgress, Placed
from placement.placers.portfolio import portfolio
from placement.problem import Problem


@dataclass(frozen=True)
class SearchConfig:
    """What `benchmarks/quality/tune_search.py` tunes."""

    start_temperature: float = 0.002
    """Uphill steps accepted at the start, as a share of step time; falls linearly to zero."""
    neighbour_share: float = 0.5
    """How often a group moves to a neighbour's device rather than to any."""


DEFAULT = SearchConfig()
_ROUNDS = 100
_FIRST_MOVES = 50


def search(
    problem: Problem,
    budget: Budget,
    seed: int,
    on_progress: OnProgress,
    config: SearchConfig = DEFAULT,
) -> Placed:
    """Anneal until the budget is spent or the lower bound is reached.

    The result is never worse than the portfolio's.

    The portfolio's own time counts against the budget. After each hundredth of the budget the
    scheduling order is worked out anew for the placement reached.
    """
    floor = portfolio(problem, budget, seed, on_progress)
    progress = [(budget.spent_seconds, floor.best.evaluation.makespan_seconds)]
    if problem.cluster.device_count == 1 or budget.is_spent:
        return Placed(floor.best, floor.candidates, tuple(progress), floor.evaluations)
    annealer = Annealer(problem, build_hierarchy(problem, seed), config.neighbour_share)
    chain = annealer.start(floor.best.plan.devices, floor.best.plan.ranks, seed)
    best = floor.best
    begun = budget.spent_seconds
    span = max(budget.cpu_seconds - begun, 1e-9)
    moves = _FIRST_MOVES
    while not budget.is_spent and not problem.leaves_nothing(best.evaluation):
        before = budget.spent_seconds
        left = 1.0 - (before - begun) / span
        on_progress(min(1.0 - left, 1.0))
        reached = chain.best_energy
        chain = annealer.reprioritise(
            annealer.advance(chain, moves, config.start_temperature * max(left, 0.0))
        )
        if chain.best_energy < reached:
            best = min(best, _best(problem, chain), key=lambda item: item.rank_key)
            progress.append((budget.spent_seconds, best.evaluation.makespan_seconds))
        seconds = max(budget.spent_seconds - before, 1e-4)
        moves = int(np.clip(moves * span / _ROUNDS / seconds, 1, 4 * moves))
    return Placed(best, floor.candidates, tuple(progress), floor.evaluations + chain.evaluations)


def _best(problem: Problem, chain: Chain) -> Candidate:
    return Candidate(chain.best_plan, problem.evaluate(chain.best_plan), "search")
