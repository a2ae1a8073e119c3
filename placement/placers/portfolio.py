"""The best feasible plan of all heuristics, within memory wherever anything fits."""

from collections.abc import Iterable

from placement.heuristics.registry import HEURISTICS
from placement.placer import Budget, Candidate, OnProgress, Placed
from placement.placers.repair import repair
from placement.problem import Problem


def portfolio(problem: Problem, budget: Budget, seed: int, on_progress: OnProgress) -> Placed:
    """Run every heuristic, and look at the plans that are known; where none fits in memory, repair
    those that come closest.

    The members are not cut short by the budget: they are the floor that everything else must
    not fall below. Repair stops with the budget.
    """
    members: list[Candidate] = []
    tried: list[Candidate] = []
    for index, heuristic in enumerate(HEURISTICS.values()):
        on_progress(index / len(HEURISTICS))
        placed = heuristic(problem, budget, seed, on_progress)
        members.append(placed.best)
        tried.extend(placed.candidates)
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
