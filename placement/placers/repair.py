"""Makes a plan fit into memory by moving groups away from full devices."""

from placement.annealing.anneal import Annealer
from placement.annealing.hierarchy import build_hierarchy
from placement.heuristics.placements import candidate
from placement.placer import Budget, Candidate
from placement.problem import Problem

_MOVES = 400
_ROUNDS = 60
_SHARE = 0.25


def repair(problem: Problem, start: Candidate, budget: Budget, seed: int) -> Candidate:
    """Anneal at temperature zero until the plan fits, a quarter of the budget is spent, or stuck.

    The annealer's energy puts memory before time, so every accepted move comes closer to fitting.
    """
    annealer = Annealer(problem, build_hierarchy(problem, seed))
    chain = annealer.start(start.plan.devices, start.plan.ranks, seed)
    limit = Budget(max(1.0, _SHARE * budget.cpu_seconds))
    result = start
    for _ in range(_ROUNDS):
        before = chain.best_energy
        chain = annealer.advance(chain, _MOVES, temperature=0.0)
        result = candidate(problem, chain.best_devices, f"repaired {start.origin}")
        if result.evaluation.feasible or limit.is_spent or chain.best_energy == before:
            break
    return min(start, result, key=lambda item: item.rank_key)
