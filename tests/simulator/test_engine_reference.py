"""The compiled engine against the one in plain Python: equal to the last bit."""

from dataclasses import replace

import numpy as np
import pytest
from graph_samples import random_cluster, random_devices, random_graph, with_hosts

from graphs.graph import Graph
from simulator.clusters.cluster import Cluster
from simulator.costs.cost_model import RooflineCosts
from simulator.event_engine.reference import simulate_reference
from simulator.plan import Plan
from simulator.simulator import Simulator


class FractionalCosts:
    """Costs whose sums depend on their order, so that a reordered addition shows."""

    name = "fractional"

    def seconds(self, graph: Graph, cluster: Cluster) -> np.ndarray:
        seconds = RooflineCosts().seconds(graph, cluster)
        noise = np.random.default_rng(graph.op_count).random(seconds.shape)
        return np.where(seconds > 0, seconds + noise / 3, 0.0)


def random_plan(graph: Graph, cluster: Cluster, seed: int) -> Plan:
    """Some plans leave many priorities equal, so that ties are settled everywhere."""
    rng = np.random.default_rng(seed)
    priorities = rng.integers(0, 4 if seed % 2 else 1000, graph.op_count).astype(np.float64)
    plan = Plan.of(random_devices(graph, cluster, seed), priorities)
    if seed % 4 == 0:  # no op waits for a later one, so that nothing waits in a circle
        later = rng.integers(-1, np.maximum(np.arange(graph.op_count), 1)).astype(np.int32)
        holds = np.where(rng.random(graph.op_count) < 0.2, later, -1).astype(np.int32)
        holds[0] = -1
        return replace(plan, holds=holds)
    return plan


def compare(seed: int, *, hosts: bool = False) -> None:
    graph = random_graph(seed, 10 + seed % 111)
    cluster = with_hosts(random_cluster(seed), seed) if hosts else random_cluster(seed)
    costs = FractionalCosts() if seed % 3 == 0 else RooflineCosts()
    simulator = Simulator(graph, cluster, costs)
    plan = random_plan(graph, cluster, seed)
    trace = simulator.trace(plan)
    expected = simulate_reference(
        graph, cluster, simulator.seconds, plan.devices, plan.ranks, plan.holds
    )
    assert trace.makespan_seconds == expected.makespan
    assert tuple(trace.peak_bytes.tolist()) == expected.peak_bytes
    assert {(0, op): at for op, at in enumerate(trace.start.tolist())} == expected.start
    assert {(0, op): at for op, at in enumerate(trace.end.tolist())} == expected.end
    columns = (
        trace.transfer_tensors,
        trace.transfer_targets,
        trace.transfer_start,
        trace.transfer_arrival,
    )
    transfers = tuple(zip(*(column.tolist() for column in columns), strict=True))
    assert transfers == tuple(transfer[1:] for transfer in expected.transfers)
    evaluation = simulator.evaluate(plan)
    assert evaluation.makespan_seconds == expected.makespan
    assert evaluation.peak_bytes == expected.peak_bytes


@pytest.mark.parametrize("batch", range(15))
def test_kernel_equals_reference(batch: int) -> None:
    for seed in range(10 * batch, 10 * batch + 10):
        compare(seed)
        compare(seed, hosts=True)


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(20))
def test_kernel_equals_reference_a_thousand_times(batch: int) -> None:
    for seed in range(1000 + 50 * batch, 1050 + 50 * batch):
        compare(seed)
        compare(seed, hosts=True)


def test_the_random_cases_cover_what_is_special() -> None:
    """A comparison is worth what it meets: waiting links, shared channels, views, ties."""
    met = {"blocked": 0, "over memory": 0, "transfers": 0, "waiting": 0}
    for seed in range(150):
        graph, cluster = random_graph(seed, 10 + seed % 111), random_cluster(seed)
        trace = Simulator.of(graph, cluster).trace(random_plan(graph, cluster, seed))
        met["blocked"] += bool((trace.transfer_blocker >= 0).any())
        met["over memory"] += not trace.evaluation.feasible
        met["transfers"] += bool(trace.transfer_tensors.size)
        met["waiting"] += bool((trace.start > trace.ready).any())
    assert all(count > 30 for count in met.values()), met
