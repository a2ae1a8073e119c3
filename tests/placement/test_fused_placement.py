"""Placement of kernels: the same step as the fused plan of the original graph, and no way around
constraints."""

import numpy as np
import pytest
from graph_samples import random_graph, toy_cluster
from hypothesis import given, settings
from hypothesis import strategies as st

from graphs.bundled_graphs import load_bundled
from placement.annealing.fusing.fused_problem import fuse_problem
from placement.constraints import Constraints
from placement.placer import Budget, silent
from placement.placers.fused import FusedPlacer
from placement.placers.portfolio import portfolio
from placement.placers.search import search
from placement.problem import Problem
from simulator.clusters.presets import preset
from simulator.errors import PlanError
from simulator.fusion import xla_like_groups
from simulator.plan import Plan


@pytest.fixture(scope="module")
def transformer() -> Problem:
    return Problem(load_bundled("transformer-xl-2"), preset("4xp100-pcie"))


def test_kernels_take_what_the_fused_plan_takes(transformer: Problem) -> None:
    start = portfolio(transformer, Budget(), 0, silent).best.plan
    fused = fuse_problem(transformer, start)
    assert fused.kernels.graph.op_count < transformer.graph.op_count
    rng = np.random.default_rng(0)
    units = rng.integers(4, size=fused.kernels.unit_count)
    for of_kernels in (
        fused.kernels.known_plans[0],
        Plan.of(units[fused.kernels.unit_of], rng.random(fused.kernels.graph.op_count)),
    ):
        whole = transformer.evaluate(fused.plan(of_kernels))
        parts = fused.kernels.evaluate(of_kernels)
        assert whole.makespan_seconds == parts.makespan_seconds
        assert whole.peak_bytes == parts.peak_bytes


def test_the_portfolio_s_placement_is_where_the_search_begins(transformer: Problem) -> None:
    start = portfolio(transformer, Budget(), 0, silent).best.plan
    fused = fuse_problem(transformer, start)
    back = fused.plan(fused.kernels.known_plans[0])
    assert np.array_equal(back.devices, start.devices)
    found = portfolio(fused.kernels, Budget(), 0, silent)
    assert "given" in {item.origin for item in found.candidates}


def test_a_fused_search_beats_fusing_afterwards(transformer: Problem) -> None:
    placed = FusedPlacer(search)(transformer, Budget(3.0), 0, silent)
    start = portfolio(transformer, Budget(), 0, silent).best.plan
    fused = fuse_problem(transformer, start)
    afterwards = transformer.evaluate(fused.plan(fused.kernels.known_plans[0]))
    assert placed.best.evaluation.makespan_seconds <= afterwards.makespan_seconds
    assert placed.best.plan.is_fused


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000))
def test_pins_hold_for_kernels(seed: int) -> None:
    graph = random_graph(seed, 30)
    names = graph.op_names
    rules = Constraints(pins={names[3]: "d1", names[7]: "d0"})
    problem = Problem(graph, toy_cluster(3, bytes_per_second=1e3), rules)
    placed = FusedPlacer(portfolio)(problem, Budget(), 0, silent)
    at = placed.best.plan.devices
    assert problem.cluster.device_names[at[3]] == "d1"
    assert problem.cluster.device_names[at[7]] == "d0"


def test_kernels_are_not_fused_again(transformer: Problem) -> None:
    start = portfolio(transformer, Budget(), 0, silent).best.plan
    kernels = fuse_problem(transformer, start).kernels
    alone = np.zeros(kernels.graph.op_count, np.int32)
    again = Plan.of(alone, fusion=xla_like_groups(kernels.graph, alone))
    assert again.is_fused
    with pytest.raises(PlanError, match="leave --fuse out"):
        kernels.evaluate(again)
