"""Improves a plan by what is measured: neighbours are simulated in numbers, the best few run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from placement.placer import Budget, OnProgress, silent
from placement.placers.portfolio import portfolio
from placement.priorities import upward_ranks
from placement.problem import Problem
from placement.runtime.hardware_evaluator import HardwareEvaluator
from simulator.plan import Plan

_HEURISTIC_SECONDS = 10.0


@dataclass(frozen=True)
class MeasuredSearchConfig:
    """How long to search."""

    rounds: int = 6
    """Each simulates candidates and measures the best of them."""
    candidates: int = 150
    """Neighbours of the best plan, simulated per round."""
    measured: int = 4
    """How many of them are measured in each round."""
    seed: int = 0


@dataclass(frozen=True, eq=False)
class MeasuredSearch:
    """The fastest plan as measured, as a share of the reference's step time."""

    plan: Plan
    ratio: float
    started_from: float
    """The best ratio among the plans that the search was given."""
    measured: int
    """Plans that were run."""


def measured_search(
    problem: Problem,
    evaluator: HardwareEvaluator,
    starts: Sequence[Plan],
    config: MeasuredSearchConfig,
    on_progress: OnProgress = silent,
) -> MeasuredSearch:
    """Measure the plans given, then climb from the best of them.

    The last step measures the winner and the best start once more, side by side, so that the
    luckiest of many noisy measurements does not win.
    """
    random = np.random.default_rng(config.seed)
    distinct = list(dict.fromkeys(starts))
    ratios = [item.ratio for item in evaluator.measure(distinct)]
    known = dict(zip(distinct, ratios, strict=True))
    first = best = min(known, key=known.__getitem__)
    for number in range(config.rounds):
        drawn = neighbours(best, problem, random)
        pool = list(dict.fromkeys(next(drawn) for _ in range(config.candidates)))
        pool = [plan for plan in pool if plan not in known]
        guess = [evaluator.predictor.evaluate(plan).makespan_seconds for plan in pool]
        picked = [pool[i] for i in np.argsort(guess, kind="stable")[: config.measured].tolist()]
        measurements = evaluator.measure(picked)
        known.update((p, item.ratio) for p, item in zip(picked, measurements, strict=True))
        best = min(known, key=known.__getitem__)
        on_progress((number + 1) / config.rounds)
    again = evaluator.runtime.measure([evaluator.reference, first, best], evaluator.sampling)
    if not again[2].ok or again[2].seconds >= again[1].seconds:
        best = first
    ratio = again[2].seconds if best is not first else again[1].seconds
    base = again[0].seconds
    return MeasuredSearch(best, ratio / base, again[1].seconds / base, len(known))


def promising(problem: Problem, evaluator: HardwareEvaluator, count: int, seed: int) -> list[Plan]:
    """The plans of all heuristics that are predicted to be fastest as programs.

    The event engine, by which heuristics are ranked otherwise, does not know that a core is busy
    while it sends; predictions of programs do.
    """
    candidates = portfolio(problem, Budget(_HEURISTIC_SECONDS), seed, silent).candidates
    plans = list(dict.fromkeys(item.plan for item in candidates if item.evaluation.feasible))
    return sorted(plans, key=lambda plan: evaluator.predictor.evaluate(plan).makespan_seconds)[
        :count
    ]


def neighbours(plan: Plan, problem: Problem, random: np.random.Generator) -> Iterator[Plan]:
    """Endless plans that differ from one in where a run of units is, or in the order."""
    units, allowed = problem.unit_of, problem.unit_allowed
    first = np.unique(units, return_index=True)[1]
    count = len(first)
    while True:
        devices = plan.devices[first].copy()
        length = int(np.ceil(2 ** random.uniform(0, np.log2(max(count / 4, 2)))))
        begin = int(random.integers(0, max(1, count - length + 1)))
        chosen = np.arange(begin, min(begin + length, count))
        target = int(random.integers(problem.cluster.device_count))
        devices[chosen] = np.where(allowed[chosen, target], target, devices[chosen])
        moved = devices[units].astype(np.int32)
        if random.random() < 0.5:
            yield Plan.of(moved, upward_ranks(problem, moved))
        else:
            yield Plan.of(moved, plan.priorities)
