"""The bound over all orders of a placement: by hand, and never above the engine."""

import numpy as np
import pytest
from graph_samples import graph_of, op, random_cluster, random_devices, random_graph, toy_cluster
from hypothesis import given
from hypothesis import strategies as st

from graphs.graph import Graph
from placement.annealing.order_bound import order_bound_seconds
from placement.problem import Problem
from simulator.plan import Plan


def bound(graph: Graph, devices: list[int], count: int = 2) -> float:
    return order_bound_seconds(Problem(graph, toy_cluster(count)), np.array(devices, np.int32))


def test_the_work_of_a_device_the_longest_chain_and_a_busy_channel() -> None:
    # Links of the toy cluster: 10 bytes per second, 2 s of latency.
    apart = graph_of(op("a", 3), op("b", 4), op("c", 5))
    assert bound(apart, [0, 1, 0]) == pytest.approx(8)
    chain = graph_of(op("a", 3, output_bytes=10), op("b", 4, ("a",)))
    link = toy_cluster(2).link_arrays
    sending = link.latency_seconds[0, 1] + 10 / link.bytes_per_second[0, 1]
    assert bound(chain, [0, 1]) == pytest.approx(7 + sending)
    # A tensor is sent to a device once, however many read it there.
    fan = graph_of(
        op("a", 1, output_bytes=400),
        op("b", 1, output_bytes=400),
        *(op(f"a{i}", 1, ("a",)) for i in range(3)),
        op("b0", 1, ("b",)),
    )
    busy = 800 / link.bytes_per_second[0, 1]
    assert bound(fan, [0, 0, 1, 1, 1, 1]) == pytest.approx(busy)


@given(st.integers(0, 100_000))
def test_no_order_beats_it(seed: int) -> None:
    graph, cluster = random_graph(seed, 40), random_cluster(seed)
    problem = Problem(graph, cluster)
    devices = random_devices(graph, cluster, seed)
    least = order_bound_seconds(problem, devices)
    for number in range(3):
        order = np.random.default_rng([seed, number]).random(graph.op_count)
        assert least <= problem.evaluate(Plan.of(devices, order)).makespan_seconds
