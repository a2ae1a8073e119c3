"""Makes a plan fit into memory: groups leave full devices, then ops are held back."""

from placement.annealing.anneal import Annealer
from placement.annealing.hierarchy import build_hierarchy
from placement.heuristics.placements import candidate
from placement.placer import Budget, Candidate
from placement.placers.holding import hold_back
from placement.problem import Problem

_MOVES = 400
_ROUNDS = 60
_SHARE = 0.25


def repair(problem: Problem, start: Candidate, budget: Budget, seed: int) -> Candidate:
    """Anneal at temperature zero until the plan fits, a quarter of the budget is spent, or stuck.

    The annealer's energy puts memory before time, so every accepted move comes closer to fitting.
    What still does not fit may do so if some ops wait: see `placement.placers.holding`.
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
    closest = min(start, result, key=lambda item: item.rank_key)
    return hold_back(problem, closest)
