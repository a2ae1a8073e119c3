"""The event engine's memory on graphs small enough to work out by hand, and what fills it.

On a toy device an op of n flops takes n seconds; a toy link moves one byte a second.
"""

from dataclasses import replace

import numpy as np
import pytest
from graph_samples import graph_of, op, random_cluster, random_devices, random_graph, toy_cluster
from hypothesis import given
from hypothesis import strategies as st

from graphs.builder import OpRecord, OutputTensor
from graphs.graph import Graph
from graphs.kinds import OpKind, Storage
from simulator.clusters.cluster import Cluster
from simulator.evaluation import OutOfMemory
from simulator.plan import Plan
from simulator.simulator import Simulator, simulate
from simulator.traces.trace import Trace


def run(graph: Graph, cluster: Cluster, where: dict[str, int]) -> Trace:
    return simulate(graph, cluster, Plan.of(np.array([where[name] for name in graph.op_names])))


def timeline(trace: Trace, device: int) -> list[tuple[float, int]]:
    times, levels = trace.memory_timeline(device)
    return list(zip(times.tolist(), levels.tolist(), strict=True))


def stored(name: str, seconds: float, size: int, storage: Storage, *inputs: str) -> OpRecord:
    alias = inputs[0] if storage == Storage.ALIAS else None
    record = op(
        name, seconds, inputs, kind=OpKind.VIEW if storage == Storage.ALIAS else OpKind.CONV
    )
    return replace(record, outputs=(OutputTensor(name, size, storage, alias),))


def test_outputs_live_until_their_last_reader_ends() -> None:
    # a's 10 bytes from its start at 0 to the end of c at 6; b's 20 bytes 1-6; c's output has no
    # reader and goes when c ends.
    graph = graph_of(
        op("a", 1, output_bytes=10),
        op("b", 2, ("a",), 20),
        op("c", 3, ("a", "b"), 5),
    )
    trace = run(graph, toy_cluster(1), {"a": 0, "b": 0, "c": 0})
    assert timeline(trace, 0) == [(0, 10), (1, 30), (3, 35), (6, 0)]
    assert trace.peak_bytes.tolist() == [35]


def test_memory_freed_at_an_instant_is_there_for_what_starts_then() -> None:
    # b starts when a's reader r ends: 10 + 2 is never beside 20.
    graph = graph_of(op("a", 1, output_bytes=10), op("r", 1, ("a",), 2), op("b", 1, ("r",), 20))
    trace = run(graph, toy_cluster(1), {"a": 0, "r": 0, "b": 0})
    assert timeline(trace, 0) == [(0, 10), (1, 12), (2, 22), (3, 0)]
    assert trace.peak_bytes.tolist() == [22]


def test_workspace_is_held_while_the_op_runs() -> None:
    graph = graph_of(op("a", 1, output_bytes=10, workspace_bytes=100), op("b", 2, ("a",)))
    trace = run(graph, toy_cluster(1), {"a": 0, "b": 0})
    assert timeline(trace, 0) == [(0, 110), (1, 10), (3, 0)]


def test_parameters_are_held_from_beginning_to_end() -> None:
    graph = graph_of(
        op("a", 1, output_bytes=10, resident_bytes=1000), op("b", 2, ("a",), resident_bytes=500)
    )
    trace = run(graph, toy_cluster(2), {"a": 0, "b": 1})
    assert trace.resident_bytes.tolist() == [1000, 500]
    assert timeline(trace, 0) == [(0, 1010), (11, 1000)]
    assert trace.peak_bytes.tolist() == [1010, 510]


def test_a_sent_tensor_is_on_both_sides_while_it_travels() -> None:
    # x 0-1, y 1-2 on d0. x's 4 bytes travel 1-5: on d0 until 5, on d1 from 1 to the end of u at 6.
    # y's 3 bytes wait for the link until 5 and travel 5-8: on d0 1-8, on d1 from 5 (not from 2).
    graph = graph_of(
        op("x", 1, output_bytes=4),
        op("y", 1, output_bytes=3),
        op("u", 1, ("x",)),
        op("v", 1, ("y",)),
    )
    trace = run(graph, toy_cluster(2), {"x": 0, "y": 0, "u": 1, "v": 1})
    assert timeline(trace, 0) == [(0, 4), (1, 7), (5, 3), (8, 0)]
    assert timeline(trace, 1) == [(0, 0), (1, 4), (5, 7), (6, 3), (9, 0)]
    assert trace.peak_bytes.tolist() == [7, 7]


def test_latency_keeps_both_copies_until_the_arrival() -> None:
    graph = graph_of(op("x", 1, output_bytes=4), op("u", 1, ("x",)))
    trace = run(graph, toy_cluster(2, latency_seconds=2), {"x": 0, "u": 1})
    assert timeline(trace, 0) == [(0, 4), (7, 0)]
    assert timeline(trace, 1) == [(0, 0), (1, 4), (8, 0)]


def test_views_keep_the_buffer_that_they_share() -> None:
    # The view of a view is read by c until 4: a's 10 bytes live as long, beside b's 7 from 1.
    graph = graph_of(
        op("a", 1, output_bytes=10),
        stored("v", 0, 10, Storage.ALIAS, "a"),
        stored("w", 0, 5, Storage.ALIAS, "v"),
        op("b", 1, output_bytes=7),
        op("c", 2, ("w", "b")),
    )
    trace = run(graph, toy_cluster(1), dict.fromkeys("avwbc", 0))
    assert timeline(trace, 0) == [(0, 10), (1, 17), (4, 0)]
    assert trace.peak_bytes.tolist() == [17]


def test_a_view_that_is_sent_becomes_a_buffer_of_its_own() -> None:
    # w's 5 bytes travel 1-6 and stay on d1 until b ends at 8; a's buffer is freed at 6.
    graph = graph_of(
        op("a", 1, output_bytes=10),
        stored("w", 0, 5, Storage.ALIAS, "a"),
        op("b", 2, ("w",)),
    )
    trace = run(graph, toy_cluster(2), {"a": 0, "w": 0, "b": 1})
    assert timeline(trace, 0) == [(0, 10), (6, 0)]
    assert timeline(trace, 1) == [(0, 0), (1, 5), (8, 0)]


def test_a_view_of_a_received_tensor_keeps_the_received_copy() -> None:
    # a's 10 bytes are on d1 from 1; the view made there at 11 is read until 13.
    graph = graph_of(
        op("a", 1, output_bytes=10),
        stored("v", 0, 10, Storage.ALIAS, "a"),
        op("b", 2, ("v",)),
    )
    trace = run(graph, toy_cluster(2), {"a": 0, "v": 1, "b": 1})
    assert timeline(trace, 1) == [(0, 0), (1, 10), (13, 0)]


def test_a_view_that_nobody_reads_keeps_nothing() -> None:
    graph = graph_of(
        op("a", 1, output_bytes=10), stored("v", 0, 10, Storage.ALIAS, "a"), op("b", 5)
    )
    trace = run(graph, toy_cluster(1), {"a": 0, "v": 0, "b": 0})
    assert timeline(trace, 0) == [(0, 10), (1, 0)]


@pytest.mark.parametrize(
    ("storage", "here", "there"),
    [(Storage.BUFFER, 7, 7), (Storage.RESIDENT, 0, 7), (Storage.UNCOUNTED, 0, 0)],
)  # fmt: skip
def test_where_each_storage_is_charged(storage: Storage, here: int, there: int) -> None:
    graph = graph_of(stored("a", 1, 7, storage), op("b", 1, ("a",)))
    trace = run(graph, toy_cluster(2), {"a": 0, "b": 1})
    assert trace.peak_bytes.tolist() == [here, there]
    assert trace.makespan_seconds == 9  # sent in any case


def test_weights_are_held_wherever_they_are_read_once_per_device() -> None:
    graph = graph_of(
        stored("w", 0, 100, Storage.WEIGHT),
        op("a", 1, ("w",)),
        op("b", 1, ("w",)),
        op("c", 1, ("w",)),
    )
    trace = run(graph, toy_cluster(3), {"w": 2, "a": 0, "b": 0, "c": 1})
    assert trace.resident_bytes.tolist() == [100, 100, 0]
    assert trace.peak_bytes.tolist() == [100, 100, 0]


def out_of_memory(capacity: int) -> tuple[Simulator, Plan]:
    graph = graph_of(
        op("a", 1, output_bytes=10, resident_bytes=30),
        stored("w", 0, 25, Storage.WEIGHT),
        op("b", 2, ("a", "w"), 20, workspace_bytes=40),
        op("c", 3, ("a", "b"), 5),
    )
    devices = np.zeros(graph.op_count, np.int32)
    return Simulator.of(graph, toy_cluster(1, memory_bytes=capacity)), Plan.of(devices)


def test_running_out_of_memory_names_device_instant_and_holdings() -> None:
    # 30 + 25 resident; a adds 10 at 0; b adds 20 + 40 at 1: 125 bytes.
    simulator, plan = out_of_memory(capacity=100)
    assert simulator.trace(plan).evaluation.failure == OutOfMemory(
        device="d0",
        capacity_bytes=100,
        peak_bytes=125,
        seconds=1.0,
        largest=(
            ("workspace of b", 40),
            ("parameters of a", 30),
            ("weights w", 25),
            ("output of b", 20),
            ("output of a", 10),
        ),
    )
    message = str(simulator.trace(plan).evaluation.failure)
    assert message.startswith("d0 runs out of memory at 1 s: peak 125 B of 100 B; largest holdings")


def test_the_score_alone_says_by_how_much() -> None:
    simulator, plan = out_of_memory(capacity=100)
    evaluation = simulator.evaluate(plan)
    assert evaluation.failure == OutOfMemory("d0", 100, 125)
    assert (evaluation.excess_bytes, evaluation.makespan_seconds) == (25, 6)


def test_exactly_full_is_not_over() -> None:
    simulator, plan = out_of_memory(capacity=125)
    assert simulator.evaluate(plan).feasible
    assert simulator.trace(plan).evaluation.feasible


def test_being_full_before_is_not_the_instant_of_failure() -> None:
    simulator, plan = out_of_memory(capacity=65)  # full from 0 on, over at 1
    failure = simulator.trace(plan).evaluation.failure
    assert isinstance(failure, OutOfMemory)
    assert failure.seconds == 1.0


def test_memory_that_parameters_alone_exceed_fails_at_the_start() -> None:
    simulator, plan = out_of_memory(capacity=50)
    failure = simulator.trace(plan).evaluation.failure
    assert isinstance(failure, OutOfMemory)
    assert failure.seconds == 0.0


@given(st.integers(0, 100_000))
def test_the_timeline_peaks_at_the_peak_and_ends_with_what_is_resident(seed: int) -> None:
    graph, cluster = random_graph(seed, 50), random_cluster(seed)
    trace = simulate(graph, cluster, Plan.of(random_devices(graph, cluster, seed)))
    for index in range(cluster.device_count):
        times, levels = trace.memory_timeline(index)
        assert levels.max() == trace.peak_bytes[index]
        assert levels.min() >= 0
        assert (np.diff(times) > 0).all()
        assert levels[-1] == trace.resident_bytes[index]
    assert trace.evaluation.feasible == (trace.peak_bytes <= cluster.memory_bytes).all()
