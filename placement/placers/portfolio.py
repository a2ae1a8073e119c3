"""The best feasible plan of all heuristics, within memory wherever anything fits."""

from collections.abc import Iterable
from dataclasses import replace

from placement.heuristics.registry import HEURISTICS
from placement.placer import Budget, Candidate, OnProgress, Placed
from placement.placers.repair import repair
from placement.problem import Problem

#: Of the budget, what the heuristics may take before those with many placements try fewer.
_SHARE = 0.4
#: They have this much at least: on graphs of up to about 30,000 ops all of them run.
_LEAST_SECONDS = 4.0


def portfolio(problem: Problem, budget: Budget, seed: int, on_progress: OnProgress) -> Placed:
    """Run every heuristic, and look at the plans that are known; where none fits in memory, repair
    those that come closest.

    Each member has its say, for they are the floor that everything else must not fall below; where
    a graph is so large that they would take most of the budget, those that try many placements try
    fewer. Repair stops with the budget.
    """
    limit = replace(budget, cpu_seconds=max(_SHARE * budget.cpu_seconds, _LEAST_SECONDS))
    tried: list[Candidate] = []
    for index, heuristic in enumerate(HEURISTICS.values()):
        on_progress(index / len(HEURISTICS))
        fits = any(item.evaluation.feasible for item in tried)
        tried.extend(heuristic.until(problem, seed, limit, fits).candidates)
    tried.extend(Candidate(plan, problem.evaluate(plan), "given") for plan in problem.known_plans)
    best = best_of(tried)
    if not best.evaluation.feasible:
        closest = sorted(tried, key=lambda item: item.rank_key)[:3]
        repaired = [repair(problem, item, budget, seed) for item in closest]
        tried.extend(repaired)
        best = best_of([best, *repaired])
    return Placed(best, tuple(tried), evaluations=len(tried))


def best_of(candidates: Iterable[Candidate]) -> Candidate:
    """The fastest feasible candidate, or the one closest to fitting."""
    return min(candidates, key=lambda item: item.rank_key)
