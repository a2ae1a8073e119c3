"""Moves of devices and kernels: legal, exact, and good for something on graphs done by hand."""

from dataclasses import replace

import numpy as np
import pytest
from graph_samples import device, graph_of, op, random_cluster, random_devices, random_graph
from hypothesis import example, given, settings
from hypothesis import strategies as st

from graphs.kinds import OpKind
from placement.annealing.energy import energy_of_evaluation
from placement.annealing.fusing.fused_problem import fuse_problem
from placement.annealing.fusing.joint_anneal import JointAnnealer, JointChain
from placement.annealing.fusing.joint_search import joint_hierarchy, joint_search
from placement.annealing.fusing.kernel_program import can_rebuild
from placement.annealing.hierarchy import build_hierarchy
from placement.placer import Budget, silent
from placement.placers.fused import FusedPlacer
from placement.placers.portfolio import portfolio
from placement.placers.search import search
from placement.problem import Problem
from simulator.clusters.cluster import Cluster, Link
from simulator.costs.cost_model import RooflineCosts
from simulator.event_engine.reference import simulate_reference
from simulator.fusion import check_fusion
from simulator.plan import Plan

ADD = OpKind.ELEMENTWISE


def two_devices(launch_seconds: float) -> Cluster:
    """A byte takes a second from one to the other."""
    devices = tuple(replace(device(f"d{at}"), launch_seconds=launch_seconds) for at in range(2))
    return Cluster("two", devices, (Link("d0", "d1", 1.0, 0.0), Link("d1", "d0", 1.0, 0.0)))


def annealed(problem: Problem, plan: Plan, wishes: list[int], moves: int = 200) -> JointChain:
    annealer = JointAnnealer(problem, build_hierarchy(problem, 0))
    return annealer.advance(annealer.start(plan, np.array(wishes), 0), moves, 0.0)


def test_fusing_two_ops_saves_a_launch() -> None:
    # Each op takes a second and a launch of two; b must wait for a whatever device it is on.
    problem = Problem(
        graph_of(op("a", 1, (), 10, ADD), op("b", 1, ("a",), 10, ADD)), two_devices(2.0)
    )
    plan = Plan.of(np.zeros(2, np.int32))
    assert problem.evaluate(plan).makespan_seconds == 6.0
    chain = annealed(problem, plan, [0, 0])
    assert np.exp(chain.best_energy) == pytest.approx(4.0)
    assert chain.best_wishes[0] == 1


def test_taking_an_op_out_of_a_kernel_frees_its_device() -> None:
    # One kernel: 5 + 5 + 1 seconds. Apart, a and b run at once, and what is sent has no bytes.
    problem = Problem(
        graph_of(op("a", 5, (), 0, ADD), op("b", 5, (), 0, ADD), op("c", 1, ("a", "b"), 0, ADD)),
        two_devices(0.0),
    )
    annealer = JointAnnealer(problem, build_hierarchy(problem, 0))
    start = annealer.start(Plan.of(np.zeros(3, np.int32)), np.ones(3), 0)
    assert np.exp(start.energy) == pytest.approx(11.0)
    chain = annealer.advance(start, 200, 0.0)
    best = annealer.best_plan(chain)
    assert problem.evaluate(best).makespan_seconds == pytest.approx(6.0)
    assert best.devices[0] != best.devices[1]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
@example(115)  # what a member held was counted beside what its kernel did
def test_every_plan_is_legal_and_takes_what_the_reference_says(seed: int) -> None:
    graph, cluster = random_graph(seed, 40), random_cluster(seed)
    problem = Problem(graph, cluster, given_costs=RooflineCosts())
    rng = np.random.default_rng(seed)
    start = Plan.of(random_devices(graph, cluster, seed), rng.random(graph.op_count))
    annealer = JointAnnealer(problem, build_hierarchy(problem, 0))
    chain = annealer.start(start, rng.integers(2, size=graph.op_count), seed)
    for temperature in (1e3, 1e3, 0.01, 1e3, 0.0):
        chain = annealer.advance(chain, 5, temperature)
        fusion = annealer.fusion(chain.devices, chain.wishes)
        check_fusion(graph, fusion, chain.devices)
        plan = Plan.of(chain.devices, -chain.ranks.astype(np.float64), fusion)
        assert chain.energy == energy_of_evaluation(problem.evaluate(plan))
        chain = annealer.reprioritise(chain)
    best = annealer.best_plan(chain)
    assert chain.best_energy == energy_of_evaluation(problem.evaluate(best))
    program, devices, ranks = problem.simulator._lower(best)
    expected = simulate_reference(program.graph, cluster, program.arrays.seconds, devices, ranks)
    assert expected.makespan == problem.evaluate(best).makespan_seconds


def test_colocated_ops_stay_together_and_the_same_seed_finds_the_same() -> None:
    graph, cluster = random_graph(3, 60), random_cluster(5)
    problem = Problem(graph, cluster)
    given = portfolio(problem, Budget(), 0, silent).best.plan
    fused = fuse_problem(problem, given)
    plan = fused.plan(fused.kernels.known_plans[0])
    chains = []
    for _ in range(2):
        annealer = JointAnnealer(problem, joint_hierarchy(problem, fused, 0))
        chain = annealer.advance(annealer.start(plan, np.ones(graph.op_count), 7), 300, 0.01)
        chains.append(annealer.reprioritise(chain))
        problem.evaluate(annealer.best_plan(chains[-1]))  # checks colocation
    assert chains[0].best_energy == chains[1].best_energy
    assert chains[0].random_state == chains[1].random_state
    assert np.array_equal(chains[0].best_devices, chains[1].best_devices)
    assert np.array_equal(chains[0].best_wishes, chains[1].best_wishes)


def test_a_search_with_a_spent_budget_gives_back_what_it_was_given_or_better() -> None:
    problem = Problem(random_graph(1, 60), two_devices(0.5))
    given = portfolio(problem, Budget(), 0, silent).best.plan
    fused = fuse_problem(problem, given)
    plan = fused.plan(fused.kernels.known_plans[0])
    found, evaluations = joint_search(problem, plan, Budget(0.0), 0, silent)
    assert evaluations == 0
    assert problem.evaluate(found).makespan_seconds <= problem.evaluate(plan).makespan_seconds


def test_a_fused_search_moves_kernels_and_never_ends_above_the_portfolio() -> None:
    problem = Problem(random_graph(2, 60), two_devices(0.5))
    placed = FusedPlacer(search)(problem, Budget(1.0), 0, silent)
    floor = portfolio(problem, Budget(), 0, silent).best
    assert placed.best.rank_key <= floor.rank_key
    if not problem.leaves_nothing(placed.best.evaluation):
        assert any("kernels moved" in item.origin for item in placed.candidates)


def test_costs_that_are_no_roofline_keep_their_kernels() -> None:
    class Doubled(RooflineCosts):
        """Compiled code does not know it."""

    problem = Problem(random_graph(2, 20), two_devices(0.5), given_costs=Doubled())
    assert not can_rebuild(problem)
    assert can_rebuild(replace(problem, given_costs=RooflineCosts()))
