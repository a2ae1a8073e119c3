"""Lower bounds worked out by hand; that no plan beats them is tested with the engine."""

from dataclasses import replace

import numpy as np
import pytest
from graph_samples import device, graph_of, op, toy_cluster

from graphs.graph import Graph
from simulator.bounds import LowerBounds, lower_bounds
from simulator.clusters.cluster import Cluster
from simulator.costs.cost_model import RooflineCosts


def bounds(graph: Graph, cluster: Cluster) -> LowerBounds:
    return lower_bounds(graph, cluster, RooflineCosts().seconds(graph, cluster))


def test_the_longest_chain() -> None:
    # a 1 -> c 5 -> d 2, with transfers free; b 3 is shorter than c.
    graph = graph_of(
        op("a", 1, output_bytes=100),
        op("b", 3, ("a",)),
        op("c", 5, ("a",)),
        op("d", 2, ("b", "c")),
    )
    assert bounds(graph, toy_cluster(4)).critical_path_seconds == 8
    waiting = graph_of(op("a", 1), op("b", 3, control_inputs=("a",)))
    assert bounds(waiting, toy_cluster(4)).critical_path_seconds == 4


def test_each_op_of_the_chain_on_its_fastest_device() -> None:
    fast = replace(toy_cluster(2), devices=(device("d0"), device("d1", flops_per_second=4.0)))
    graph = graph_of(op("a", 1), op("b", 3, ("a",)))
    assert bounds(graph, fast).critical_path_seconds == 1


def test_all_work_spread_perfectly() -> None:
    # 12 s of work: on equal devices 12 / 3, with one of speed 4 beside one of speed 1 12 / 5.
    graph = graph_of(*(op(f"n{i}", 1) for i in range(12)))
    assert bounds(graph, toy_cluster(3)).load_seconds == pytest.approx(4, rel=1e-3)
    assert bounds(graph, toy_cluster(1)).load_seconds == pytest.approx(12)
    unlike = replace(toy_cluster(2), devices=(device("d0"), device("d1", flops_per_second=4.0)))
    load = bounds(graph, unlike).load_seconds
    assert 0.95 * 12 / 5 <= load <= 12 / 5


def test_memory_makes_slow_devices_work() -> None:
    # Half of the parameters must be on the slow device: 5 s there at least, by linear relaxation.
    devices = (device("d0", memory_bytes=50), device("d1", 50, flops_per_second=4.0))
    graph = graph_of(*(op(f"n{i}", 1, resident_bytes=10) for i in range(10)))
    load = bounds(graph, replace(toy_cluster(2), devices=devices)).load_seconds
    assert 0.9 * 5 <= load <= 5


def test_the_cheapest_transfer_that_memory_makes_unavoidable() -> None:
    # 1 + 1 + 1 s of compute; the parameters do not fit on one device, so one of the two tensors
    # crosses: 5 bytes and 2 s of latency.
    graph = graph_of(
        op("a", 1, output_bytes=20, resident_bytes=40),
        op("b", 1, ("a",), 5, resident_bytes=40),
        op("c", 1, ("b",), resident_bytes=40),
    )
    tight = bounds(graph, toy_cluster(2, memory_bytes=100, latency_seconds=2))
    assert tight.memory_cut_seconds == 1 + 1 + 5 + 2 + 1
    assert tight.seconds == tight.memory_cut_seconds
    assert bounds(graph, toy_cluster(2, memory_bytes=120)).memory_cut_seconds == 0


def test_a_graph_in_pieces_may_be_split_for_free() -> None:
    graph = graph_of(op("a", 1, resident_bytes=40), op("b", 1, resident_bytes=40))
    assert bounds(graph, toy_cluster(2, memory_bytes=50)).memory_cut_seconds == 0


def test_a_forbidden_device_is_an_infinite_cost() -> None:
    graph = graph_of(op("a", 4), op("b", 4))
    seconds = np.array([[4.0, np.inf], [4.0, np.inf]])
    assert lower_bounds(graph, toy_cluster(2), seconds).seconds == pytest.approx(8)
