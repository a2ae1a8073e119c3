"""One price of plans: the same for annealing, candidates and whatever was scored."""

import math
from dataclasses import replace

import numpy as np
import pytest
from graph_samples import graph_of, op, random_cluster, random_devices, random_graph, toy_cluster
from hypothesis import given, settings
from hypothesis import strategies as st

from placement.annealing.anneal import Annealer
from placement.annealing.energy import energy_of_evaluation, energy_of_excess
from placement.annealing.hierarchy import build_hierarchy
from placement.heuristics.placements import candidate
from placement.placers.portfolio import best_of
from placement.problem import Problem
from simulator.evaluation import Evaluation
from simulator.plan import priority_ranks


def test_energy_by_hand() -> None:
    assert energy_of_excess(2.0, 0, 100) == math.log(2.0)
    assert energy_of_excess(2.0, 25, 100) == pytest.approx(math.log(2.0) + 10 + 25)
    assert energy_of_excess(0.0, 0, 100) == pytest.approx(math.log(1e-12))


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_annealing_and_candidates_pay_the_same(seed: int) -> None:
    graph, cluster = random_graph(seed, 30), random_cluster(seed)
    problem = Problem(graph, cluster)
    found = candidate(problem, random_devices(graph, cluster, seed), "random")
    annealer = Annealer(problem, build_hierarchy(problem, 0))
    ranks = priority_ranks(found.plan.priorities)
    if np.isfinite(found.evaluation.makespan_seconds):
        assert found.energy == annealer.energy(np.array(found.plan.devices), ranks)
    assert problem.simulator.trace(found.plan).evaluation.capacity_bytes == (
        found.evaluation.capacity_bytes
    )


def test_failures_without_a_price_come_last() -> None:
    assert energy_of_evaluation(Evaluation(1.0, (0,), "the worker died")) == math.inf
    assert energy_of_evaluation(Evaluation(math.inf, (0,), "d0 cannot run it")) == math.inf
    graph = graph_of(*(op(f"n{i}", 1.0, resident_bytes=60) for i in range(2)))
    problem = Problem(graph, toy_cluster(2, memory_bytes=100))
    together = candidate(problem, np.zeros(2, np.int32), "over")
    apart = candidate(problem, np.array([0, 1], np.int32), "fits")
    died = replace(apart, evaluation=Evaluation(0.5, (0, 0), "the worker died"))
    assert together.energy == pytest.approx(math.log(2.0) + 10 + 100 * 20 / 200)
    assert sorted((died, together, apart), key=lambda item: item.rank_key) == [
        apart, together, died
    ]  # fmt: skip
    assert best_of((died, together, apart)) is apart
