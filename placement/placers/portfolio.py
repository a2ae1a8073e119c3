"""The best feasible plan of all heuristics, within memory wherever anything fits."""

from collections.abc import Iterable

from placement.heuristics.placements import (
    Heuristic,
    HeuristicPlacer,
    eft_grid,
    heft,
    human_expert,
    layers_balanced,
    m_etf,
    m_sct,
    metis_all,
    metis_subsets,
    round_robin,
    single_device,
)
from placement.placer import Budget, Candidate, Placed, Report
from placement.placers.repair import repair
from placement.problem import Problem

MEMBERS: dict[str, Heuristic] = {
    "single": single_device,
    "round-robin": round_robin,
    "human-expert": human_expert,
    "layers": layers_balanced,
    "metis": metis_all,
    "metis-subsets": metis_subsets,
    "heft": heft,
    "eft": eft_grid,
    "m-etf": m_etf,
    "m-sct": m_sct,
}


def portfolio(problem: Problem, budget: Budget, seed: int, report: Report) -> Placed:
    """Run every heuristic, and look at the plans that are known; where none fits in memory, repair
    those that come closest.

    The members are not cut short by the budget: they are the floor that everything else must
    not fall below. Repair stops with the budget.
    """
    members: list[Candidate] = []
    tried: list[Candidate] = []
    for index, heuristic in enumerate(MEMBERS.values()):
        report(index / len(MEMBERS))
        placed = HeuristicPlacer(heuristic)(problem, budget, seed, report)
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
