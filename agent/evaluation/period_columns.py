"""Columns where the objective is throughput: everything that places, by the period of its plans.

Plans of placers for one step's time are scored by the steps that overlap; `portfolio` is the best
of all heuristics and cuts by its period, `search` the best split of the pipeline that `place
--objective throughput` plans, by its period alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from agent.baselines.tensorflow_default import tensorflow_default
from agent.evaluation.columns import (
    COLUMNS,
    GDP,
    HDP,
    PORTFOLIO,
    PUBLISHED,
    SEARCH,
    TENSORFLOW,
    column_of,
)
from envs.instance import Instance
from envs.overlapping import OverlapEvaluator, request_of
from graphs.errors import GraphwrightError
from placement.placer import Budget, Candidate, Placed, Placer, silent
from placement.placers.registry import get_placer
from placement.problem import Problem
from placement.throughput import Throughput, pipeline_plan, plan_pipeline

#: Baselines that learn from the time of one step.
_LEARN_LATENCY = (GDP, HDP, *PUBLISHED)

Deciding = Callable[[Problem, Budget, int], Placed]


def period_column_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """The columns that may be asked for; where none is named, those of the table that there are.

    Raises:
        GraphwrightError: an unknown column, or a baseline that learns from one step's time.
    """
    for name in names:
        column_of(name)
        if name in _LEARN_LATENCY:
            raise GraphwrightError(
                f"column {name} learns from the time of one step; leave it out with --objective "
                "throughput"
            )
    return names or tuple(name for name in COLUMNS if name not in _LEARN_LATENCY)


def deciding_by_period(name: str, overlap: Throughput) -> Deciding:
    """A column that needs no network, by its name."""
    if name == PORTFOLIO:
        return lambda problem, _budget, seed: _portfolio(problem, overlap, seed)
    if name == SEARCH:
        return lambda problem, budget, seed: _pipeline(problem, overlap, budget, seed)
    others: Mapping[str, Placer] = {TENSORFLOW: tensorflow_default}
    placer = others[name] if name in others else get_placer(name)
    return lambda problem, budget, seed: by_period(
        problem, overlap, placer(problem, budget, seed, silent)
    )


def by_period(problem: Problem, overlap: Throughput, placed: Placed) -> Placed:
    """The same plan, scored by the steps that overlap."""
    evaluator = OverlapEvaluator(problem, _request(problem, overlap))
    best = replace(placed.best, evaluation=evaluator.evaluate(placed.best.plan))
    # Stages tell times of one step.
    return Placed(best, evaluations=placed.evaluations)


def bound_of_period(problem: Problem, overlap: Throughput) -> float:
    """No placement has a shorter period; 0 where no bound is known."""
    return Instance(problem.graph.name, problem, overlap=overlap).bound_seconds


def _portfolio(problem: Problem, overlap: Throughput, seed: int) -> Placed:
    instance = Instance(problem.graph.name, problem, seed=seed, overlap=overlap)
    return Placed(instance.portfolio, evaluations=len(instance.heuristic_plans))


def _pipeline(problem: Problem, overlap: Throughput, budget: Budget, seed: int) -> Placed:
    if problem.cluster.device_count == 1:
        return _portfolio(problem, overlap, seed)
    request = _request(problem, overlap)
    pipeline = plan_pipeline(problem, budget, seed, request)
    evaluator = OverlapEvaluator(problem, request)
    plans = {
        split.name: pipeline_plan(problem, split) for split in (pipeline.best, *pipeline.others)
    }
    candidates = tuple(
        Candidate(plan, evaluator.evaluate(plan), f"pipeline: {name}")
        for name, plan in plans.items()
    )
    best = min(candidates, key=lambda item: item.rank_key)
    return Placed(best, candidates, evaluations=len(candidates))


def _request(problem: Problem, overlap: Throughput) -> Throughput:
    return request_of(problem, overlap.in_flight, overlap.micro_batches)
