"""Published learned placers find known optima; TensorFlow's default is what it says."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from counted_budget import Rounds
from graph_samples import device, graph_of, op, random_graph, toy_cluster
from known_optima import forced_split, fork_join, two_chains

from agent.baselines.gdp import GdpPlacer
from agent.baselines.hdp import HdpConfig, HdpPlacer, group_features, unit_features
from agent.baselines.tensorflow_default import first_come_first_served, tensorflow_default
from envs.instance import Instance
from graphs.kinds import OpKind
from placement.placer import Budget, Placer, silent
from placement.problem import Problem
from simulator.clusters.cluster import Cluster

PLACERS = {"gdp": GdpPlacer(), "hdp": HdpPlacer()}
#: A problem and the step time of its best plan.
MakeProblem = Callable[[], tuple[Problem, float]]
PROBLEMS: dict[str, MakeProblem] = {
    "two chains": lambda: two_chains(3),
    "fork-join": fork_join,
    "forced split": forced_split,
}
#: A fork and join asks for all that two chains do, and is tried each time.
EACH_PROBLEM = pytest.mark.parametrize(
    "problem",
    [
        pytest.param(make, id=name, marks=[pytest.mark.slow] if name == "two chains" else [])
        for name, make in PROBLEMS.items()
    ],
)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("placer", PLACERS.values(), ids=list(PLACERS))
@EACH_PROBLEM
def test_learned_placers_find_the_best_plan(placer: Placer, problem: MakeProblem) -> None:
    given, optimum = problem()
    placed = placer(given, Rounds(), 0, silent)
    assert placed.best.evaluation.feasible
    assert placed.best.evaluation.makespan_seconds == pytest.approx(optimum)


@pytest.mark.slow
def test_gdp_splits_long_chains_by_learning() -> None:
    """Of random plans 2 in 16384 do."""
    given, optimum = two_chains(7)
    learned = GdpPlacer()(given, Rounds(60), 0, silent)
    assert learned.best.evaluation.makespan_seconds == pytest.approx(optimum)
    config = replace(GdpPlacer().config, ppo=replace(GdpPlacer().config.ppo, lr=0.0))
    drawn = GdpPlacer(config)(given, Rounds(60), 0, silent)
    assert drawn.best.evaluation.makespan_seconds > optimum


@pytest.mark.slow
def test_hdp_learns_that_the_links_are_slow() -> None:
    """Where sending costs more than it saves, one device is best; random plans never are."""
    records = [op(f"op{i}", 1.0, (f"op{i - 1}",) if i else (), 20) for i in range(16)]
    problem = Problem(graph_of(*records), toy_cluster(4))
    learned = HdpPlacer()(problem, Rounds(40), 0, silent).best.evaluation.makespan_seconds
    drawn = HdpPlacer(HdpConfig(lr=0.0))(problem, Rounds(40), 0, silent)
    assert learned == pytest.approx(16.0)
    assert drawn.best.evaluation.makespan_seconds > 30.0


@pytest.mark.parametrize("placer", PLACERS.values(), ids=list(PLACERS))
def test_the_same_seed_gives_the_same_plan_and_no_heuristic_helps(
    placer: Placer, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = Problem(random_graph(3, 60), toy_cluster(3))

    def refuse(_self: Instance) -> None:
        raise AssertionError("asked for a heuristic's plan")

    monkeypatch.setattr(Instance, "heuristic_plans", property(refuse))
    plans = [placer(problem, Rounds(4), seed, silent).best.plan for seed in (1, 1, 2)]
    assert plans[0] == plans[1]
    assert plans[0] != plans[2]


@pytest.mark.parametrize("placer", PLACERS.values(), ids=list(PLACERS))
def test_units_keep_to_devices_that_can_run_them(placer: Placer) -> None:
    limited = replace(device("d1"), unsupported=frozenset({"matmul"}))
    cluster = toy_cluster(3)
    devices = (cluster.devices[0], limited, cluster.devices[2])
    problem = Problem(random_graph(5, 80), Cluster("limited", devices, cluster.links))
    placed = placer(problem, Rounds(3), 0, silent)
    assert problem.unit_allowed[problem.unit_of, placed.best.plan.devices].all()
    assert placed.evaluations == 4 * 32


def test_groups_are_described_by_their_members() -> None:
    records = [op("a", 1.0, (), 3), op("b", 1.0, ("a",), 5), op("c", 1.0, ("b",), 7)]
    problem = Problem(graph_of(*records), toy_cluster(2))
    features = unit_features(problem)
    described = group_features(features, torch.tensor([0, 0, 1]), 3)
    kinds = described[:, : features.kinds.shape[1]]
    assert kinds[:2, OpKind.MATMUL].tolist() == [1.0, 1.0]
    assert kinds[2].sum() == 0.0
    output, size = described[:, features.kinds.shape[1]], described[:, features.kinds.shape[1] + 1]
    assert output[0].item() == pytest.approx((np.log1p(3) + np.log1p(5)) / 2 / 20)
    assert size.tolist() == pytest.approx([np.log(3), np.log(2), 0.0])
    # The first group's only edges: inside (seen from both ends) and to the second.
    assert described[0, -3:].tolist() == pytest.approx([2 / 3, 1 / 3, 0.0])
    assert described[1, -3:].tolist() == pytest.approx([1.0, 0.0, 0.0])


def test_tensorflow_takes_the_fastest_device_alone() -> None:
    slow, fast = device("d0"), device("d1", flops_per_second=4.0)
    cluster = Cluster("unlike", (slow, fast), toy_cluster(2).links)
    problem = Problem(two_chains()[0].graph, cluster)
    placed = tensorflow_default(problem, Budget(), 0, silent)
    assert placed.best.plan.devices.tolist() == [1] * 12
    assert placed.best.evaluation.makespan_seconds == pytest.approx(3.0)
    assert not placed.best.plan.is_fused


def test_what_the_accelerator_cannot_run_goes_elsewhere() -> None:
    fast = replace(device("d1", flops_per_second=4.0), unsupported=frozenset({"conv"}))
    cluster = Cluster("unlike", (device("d0"), fast), toy_cluster(2).links)
    records = [op("a", 4.0, (), 1), op("b", 4.0, (), 1), op("c", 1.0, ("a", "b"), 0, OpKind.CONV)]
    placed = tensorflow_default(Problem(graph_of(*records), cluster), Budget(), 0, silent)
    assert placed.best.plan.devices.tolist() == [1, 1, 0]


def test_tensorflow_runs_ops_in_the_order_in_which_they_become_ready() -> None:
    graph = graph_of(
        op("x", 1.0, (), 0),
        op("y", 1.0, (), 0),
        op("z", 1.0, ("x",), 0),
        op("free", 0.0, ("x",), 0, kind=OpKind.VIEW),
        op("last", 1.0, ("free",), 0),
        op("late", 1.0, ("y", "z"), 0),
    )
    problem = Problem(graph, toy_cluster(2))
    priorities = first_come_first_served(problem, np.zeros(6, np.int32))
    order = [graph.op_names[index] for index in np.argsort(-priorities)]
    # y was ready from the beginning; what x makes ready waits behind it, in the order made ready.
    assert order == ["x", "free", "y", "z", "last", "late"]


def test_what_follows_a_free_source_is_ready_from_the_beginning() -> None:
    records = [
        op("x", 1.0, (), 0),
        op("variable", 0.0, (), 0, kind=OpKind.VARIABLE),
        op("after x", 1.0, ("x",), 0),
        op("reader", 1.0, ("variable",), 0),
    ]
    problem = Problem(graph_of(*records), toy_cluster(1))
    order = np.argsort(-first_come_first_served(problem, np.zeros(4, np.int32)))
    assert [records[index].name for index in order] == ["variable", "x", "reader", "after x"]


def test_first_come_first_served_is_what_the_simulator_then_runs() -> None:
    problem = Problem(random_graph(11, 120), toy_cluster(1))
    devices = np.zeros(120, np.int32)
    placed = tensorflow_default(problem, Budget(), 0, silent)
    trace = problem.simulator.trace(placed.best.plan)
    busy = np.flatnonzero(problem.simulator.seconds[np.arange(120), devices] > 0)
    # Some ops of the sample are so short that several begin at one instant.
    in_order = busy[np.lexsort((placed.best.plan.ranks[busy], trace.start[busy]))]
    assert (np.diff(trace.ready[in_order]) >= 0).all()
