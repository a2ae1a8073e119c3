"""A genetic algorithm over a mid level of the hierarchy, for comparison with annealing."""

import numpy as np
from jaxtyping import Float64, Int32

from placement.annealing.anneal import Annealer
from placement.annealing.hierarchy import Hierarchy, build_hierarchy
from placement.heuristics.placements import candidate
from placement.placer import Budget, OnProgress, Placed
from placement.placers.portfolio import portfolio
from placement.priorities import upward_ranks
from placement.problem import Problem
from simulator.plan import priority_ranks

POPULATION = 40
MUTATION = 0.02
_LEVEL_GROUPS = 512


def genetic(problem: Problem, budget: Budget, seed: int, on_progress: OnProgress) -> Placed:
    """Evolve placements of up to 512 groups; the first generation is the portfolio's members.

    Tournament selection of two, uniform crossover, uniform mutation, the best two survive. The
    result is never worse than the portfolio's.
    """
    floor = portfolio(problem, budget, seed, on_progress)
    progress = [(budget.spent_seconds, floor.best.evaluation.makespan_seconds)]
    if problem.cluster.device_count == 1 or budget.is_spent:
        return Placed(floor.best, floor.candidates, tuple(progress), floor.evaluations)
    rng = np.random.default_rng(seed)
    annealer = Annealer(problem, build_hierarchy(problem, seed))
    group_of, allowed = _genes(problem, annealer.hierarchy)
    first = np.zeros(len(allowed), np.int64)
    first[group_of[::-1]] = np.arange(len(group_of))[::-1]
    ranked = sorted(floor.candidates, key=lambda item: item.rank_key)[:POPULATION]
    population = np.stack([_legal(item.plan.devices[first], allowed) for item in ranked])
    while len(population) < POPULATION:
        extra = _mutate(population[rng.integers(len(ranked))], allowed, 5 * MUTATION, rng)
        population = np.concatenate([population, extra[None]])

    def score(genes: Int32[np.ndarray, " groups"]) -> float:
        devices = genes[group_of]
        return annealer.energy(devices, priority_ranks(upward_ranks(problem, devices)))

    energies = np.array([score(genes) for genes in population])
    best, evaluations = floor.best, floor.evaluations + POPULATION
    reached = np.inf
    while not budget.is_spent and not problem.leaves_nothing(best.evaluation):
        on_progress(min(budget.spent_seconds / budget.cpu_seconds, 1.0))
        children = [population[i] for i in np.argsort(energies, kind="stable")[:2]]
        while len(children) < POPULATION and not budget.is_spent:
            mother, father = (_tournament(population, energies, rng) for _ in range(2))
            child = np.where(rng.random(len(mother)) < 0.5, mother, father)
            children.append(_mutate(child, allowed, MUTATION, rng))
        fresh = np.array([score(genes) for genes in children[2:]])
        evaluations += len(fresh)
        energies = np.concatenate([np.sort(energies, kind="stable")[:2], fresh])
        population = np.stack(children)
        if energies.min() < reached:
            reached = float(energies.min())
            fittest = candidate(problem, population[energies.argmin()][group_of], "genetic")
            best = min(best, fittest, key=lambda item: item.rank_key)
            progress.append((budget.spent_seconds, best.evaluation.makespan_seconds))
    return Placed(best, floor.candidates, tuple(progress), evaluations)


def _genes(problem: Problem, hierarchy: Hierarchy) -> tuple[Int32[np.ndarray, " ops"], np.ndarray]:
    """The finest level of at most 512 groups: group of each op, devices allowed to each group."""
    level = max(hierarchy.level_count - 2, 0)
    if hierarchy.level_offsets[-1] - hierarchy.level_offsets[-2] <= _LEVEL_GROUPS:
        level = hierarchy.level_count - 1
    first, last = hierarchy.level_offsets[level], hierarchy.level_offsets[level + 1]
    group_of = np.empty(problem.graph.op_count, np.int32)
    for number, group in enumerate(range(first, last)):
        start, stop = hierarchy.member_offsets[group], hierarchy.member_offsets[group + 1]
        group_of[hierarchy.members[start:stop]] = number
    return group_of, hierarchy.allowed[first:last]


def _legal(
    genes: Int32[np.ndarray, " groups"], allowed: np.ndarray
) -> Int32[np.ndarray, " groups"]:
    fine = allowed[np.arange(len(genes)), genes]
    return np.where(fine, genes, allowed.argmax(axis=1)).astype(np.int32)


def _mutate(
    genes: Int32[np.ndarray, " groups"],
    allowed: np.ndarray,
    rate: float,
    rng: np.random.Generator,
) -> Int32[np.ndarray, " groups"]:
    draw = rng.integers(0, allowed.shape[1], len(genes)).astype(np.int32)
    changed = (rng.random(len(genes)) < rate) & allowed[np.arange(len(genes)), draw]
    return np.where(changed, draw, genes).astype(np.int32)


def _tournament(
    population: Int32[np.ndarray, "plans groups"],
    energies: Float64[np.ndarray, " plans"],
    rng: np.random.Generator,
) -> Int32[np.ndarray, " groups"]:
    pair = rng.integers(0, len(population), 2)
    return population[pair[np.argmin(energies[pair])]]
