"""The event engine's clock on graphs small enough to work out by hand.

On a toy device an op of n flops takes n seconds; a toy link moves one byte a second.
"""

from dataclasses import replace

import numpy as np
import pytest
from graph_samples import device, graph_of, op, toy_cluster

from graphs.builder import OpRecord, OutputTensor
from graphs.graph import Graph
from graphs.kinds import OpKind, Storage
from simulator.clusters.cluster import Cluster, Link
from simulator.errors import PlanError
from simulator.plan import Plan
from simulator.simulator import Simulator, simulate
from simulator.traces.trace import Trace


def run(
    graph: Graph, cluster: Cluster, where: dict[str, int], first: tuple[str, ...] = ()
) -> Trace:
    """Run a placement given by name; ops in `first` come first, in that order."""
    devices = np.array([where[name] for name in graph.op_names])
    order = [*first, *(name for name in graph.op_names if name not in first)]
    priorities = np.array([-float(order.index(name)) for name in graph.op_names])
    return simulate(graph, cluster, Plan.of(devices, priorities))


def times(trace: Trace) -> dict[str, tuple[float, float]]:
    spans = zip(trace.start.tolist(), trace.end.tolist(), strict=True)
    return dict(zip(trace.graph.op_names, spans, strict=True))


def sent(trace: Trace) -> list[tuple[float, float]]:
    """(start, arrival) of each transfer, in the order of request."""
    return list(zip(trace.transfer_start.tolist(), trace.transfer_arrival.tolist(), strict=True))


def fork(size: int = 4) -> Graph:
    """a -> b, c -> d."""
    return graph_of(
        op("a", 1, output_bytes=size),
        op("b", 3, ("a",), size),
        op("c", 5, ("a",), size),
        op("d", 2, ("b", "c")),
    )


def test_a_chain_on_one_device_adds_up() -> None:
    # No transfers: 1 + 2 + 3.
    graph = graph_of(op("a", 1, output_bytes=9), op("b", 2, ("a",), 9), op("c", 3, ("b",)))
    trace = run(graph, toy_cluster(1), {"a": 0, "b": 0, "c": 0})
    assert times(trace) == {"a": (0, 1), "b": (1, 3), "c": (3, 6)}
    assert trace.makespan_seconds == 6


def test_fork_and_join_on_two_devices() -> None:
    # a 0-1 on d0; its 4 bytes reach d1 at 5; b 1-4 on d0; c 5-10 on d1; its 4 bytes are back on
    # d0 at 14; d 14-16.
    trace = run(fork(), toy_cluster(2), {"a": 0, "b": 0, "c": 1, "d": 0})
    assert times(trace) == {"a": (0, 1), "b": (1, 4), "c": (5, 10), "d": (14, 16)}
    assert sent(trace) == [(1, 5), (10, 14)]


def test_fork_and_join_on_one_device_runs_one_op_at_a_time() -> None:
    # 1 + 3 + 5 + 2, with no transfers.
    trace = run(fork(), toy_cluster(1), dict.fromkeys("abcd", 0))
    assert trace.makespan_seconds == 11


def test_two_consumers_on_one_device_get_a_tensor_once() -> None:
    # One transfer 1-5, then b 5-8 and c 8-13 on d1, d 13-15.
    trace = run(fork(), toy_cluster(2), {"a": 0, "b": 1, "c": 1, "d": 1})
    assert sent(trace) == [(1, 5)]
    assert times(trace)["d"] == (13, 15)
    assert trace.transfers_between().tolist() == [[0, 4], [0, 0]]


def test_consumers_on_two_devices_get_a_copy_each_over_their_own_links() -> None:
    # Both transfers 1-5, at once.
    trace = run(fork(), toy_cluster(3), {"a": 0, "b": 1, "c": 2, "d": 2})
    assert sent(trace)[:2] == [(1, 5), (1, 5)]


def test_transfers_on_one_link_wait_for_each_other() -> None:
    # x ends at 1 and its 4 bytes take the link 1-5; y ends at 2, its 3 bytes wait for 5-8.
    graph = graph_of(
        op("x", 1, output_bytes=4),
        op("y", 1, output_bytes=3),
        op("u", 1, ("x",)),
        op("v", 1, ("y",)),
    )
    trace = run(graph, toy_cluster(2), {"x": 0, "y": 0, "u": 1, "v": 1})
    assert sent(trace) == [(1, 5), (5, 8)]
    assert trace.transfer_request.tolist() == [1, 2]
    assert trace.transfer_blocker.tolist() == [-1, 0]
    assert times(trace) == {"x": (0, 1), "y": (1, 2), "u": (5, 6), "v": (8, 9)}


def shared(channels: dict[tuple[int, int], tuple[str, ...]], count: int = 3) -> Cluster:
    plain = toy_cluster(count)
    links = tuple(
        Link(a, b, 1.0, 0.0, channels.get((int(a[1]), int(b[1])), ()))
        for a in plain.device_names
        for b in plain.device_names
        if a != b
    )
    return replace(plain, links=links)


def test_links_that_share_a_channel_contend() -> None:
    # a's copy for d1 takes the bus 1-5, the one for d2 follows 5-9.
    cluster = shared({(0, 1): ("bus",), (0, 2): ("bus",)})
    trace = run(fork(), cluster, {"a": 0, "b": 1, "c": 2, "d": 2})
    assert sent(trace)[:2] == [(1, 5), (5, 9)]


def test_a_transfer_holds_all_channels_of_its_link() -> None:
    # x: d0 -> d1 over out and bus, 1-5. y (ready at 2): d2 -> d1 over the bus alone, waits to 5.
    # z (ready at 3): d0 -> d2 over out alone, free since 5 as well: 5-6.
    graph = graph_of(
        op("x", 1, output_bytes=4),
        op("y", 2, output_bytes=3),
        op("z", 2, output_bytes=1),
        op("join", 1, ("x", "y")),
        op("end", 1, ("z",)),
    )
    cluster = shared({(0, 1): ("out", "bus"), (2, 1): ("bus",), (0, 2): ("out",)})
    trace = run(graph, cluster, {"x": 0, "y": 2, "z": 0, "join": 1, "end": 2})
    assert sent(trace) == [(1, 5), (5, 8), (5, 6)]
    assert times(trace)["join"] == (8, 9)


def test_channels_serve_in_the_order_of_request_even_where_another_link_idles() -> None:
    # x's bytes hold the bus 1-5. At 2, y asks for out and bus and reserves both for 5-8, though
    # out is idle until then; z asks for out at 3 and so waits until 8.
    graph = graph_of(
        op("x", 1, output_bytes=4),
        op("y", 2, output_bytes=3),
        op("z", 1, output_bytes=1),
        op("u", 1, ("x",)),
        op("v", 1, ("y",)),
        op("w", 1, ("z",)),
    )
    cluster = shared({(0, 1): ("bus",), (2, 1): ("out", "bus"), (2, 0): ("out",)})
    trace = run(graph, cluster, {"x": 0, "y": 2, "z": 2, "u": 1, "v": 1, "w": 0})
    assert sent(trace) == [(1, 5), (5, 8), (8, 9)]


def test_latency_delays_the_arrival_and_not_the_next_transfer() -> None:
    # 4 bytes leave by 1-5 and arrive at 7; 3 bytes leave by 5-8 and arrive at 10.
    graph = graph_of(
        op("x", 1, output_bytes=4),
        op("y", 1, output_bytes=3),
        op("u", 1, ("x",)),
        op("v", 1, ("y",)),
    )
    trace = run(graph, toy_cluster(2, latency_seconds=2), {"x": 0, "y": 0, "u": 1, "v": 1})
    assert sent(trace) == [(1, 7), (5, 10)]
    assert trace.makespan_seconds == 11


def test_bandwidth_divides() -> None:
    # 4 bytes at 8 bytes a second: half a second.
    trace = run(fork(), toy_cluster(2, bytes_per_second=8), {"a": 0, "b": 0, "c": 1, "d": 1})
    assert sent(trace)[0] == (1, 1.5)


@pytest.mark.parametrize(("first", "makespan"), [(("long",), 6), (("short", "other"), 8)])
def test_priority_decides_the_order(first: tuple[str, ...], makespan: float) -> None:
    # The tail (3 s) follows the long op (2 s) on another device, the link takes 1 s. If the long
    # op comes first: 2 + 1 + 3; after the two others (1 s each): 1 + 1 + 2 + 1 + 3.
    graph = graph_of(
        op("short", 1),
        op("other", 1),
        op("long", 2, output_bytes=1),
        op("tail", 3, ("long",)),
    )
    where = {"short": 0, "other": 0, "long": 0, "tail": 1}
    assert run(graph, toy_cluster(2), where, first).makespan_seconds == makespan


def test_a_running_op_is_not_interrupted() -> None:
    # The urgent op becomes ready at 1 while the slow one runs 0-5, and waits.
    graph = graph_of(op("early", 1), op("slow", 5), op("urgent", 1, ("early",)))
    trace = run(graph, toy_cluster(2), {"early": 1, "slow": 0, "urgent": 0}, ("urgent",))
    assert times(trace)["urgent"] == (5, 6)
    assert trace.ready[2] == 1
    assert trace.previous[2] == 1


def test_equal_priorities_go_by_number() -> None:
    graph = graph_of(op("a", 1), op("b", 2), op("c", 3))
    plan = Plan.of(np.zeros(3, np.int32), np.zeros(3))
    assert times(simulate(graph, toy_cluster(1), plan)) == {"a": (0, 1), "b": (1, 3), "c": (3, 6)}


def test_copies_overlap_with_compute() -> None:
    # While a's bytes travel 1-5, d0 computes b and d1 computes e.
    graph = graph_of(
        op("a", 1, output_bytes=4),
        op("b", 4),
        op("e", 5),
        op("c", 1, ("a",)),
    )
    trace = run(graph, toy_cluster(2), {"a": 0, "b": 0, "e": 1, "c": 1})
    assert times(trace) == {"a": (0, 1), "b": (1, 5), "e": (0, 5), "c": (5, 6)}


def test_free_ops_do_not_wait_for_a_busy_device() -> None:
    # The view of a is there at 1 though d1 computes until 10, and its reader runs 1-2 on d0.
    graph = graph_of(
        op("a", 1, output_bytes=0),
        op("busy", 10),
        op("view", 0, ("a",), kind=OpKind.VIEW),
        op("reader", 1, ("view",)),
    )
    trace = run(graph, toy_cluster(2), {"a": 0, "busy": 1, "view": 1, "reader": 0})
    assert times(trace)["view"] == (1, 1)
    assert times(trace)["reader"] == (1, 2)


def test_chains_of_free_ops_end_at_the_same_instant() -> None:
    views = [op(f"v{i}", 0, (f"v{i - 1}",) if i else ("a",), kind=OpKind.VIEW) for i in range(5)]
    graph = graph_of(op("a", 1), *views, op("b", 1, ("v4",)))
    trace = run(graph, toy_cluster(1), dict.fromkeys(graph.op_names, 0))
    assert times(trace)["b"] == (1, 2)
    assert (trace.previous[1:6] == -1).all()


def test_control_edges_cost_latency_only() -> None:
    # a's output of 100 bytes stays; b waits for the signal: 1 + 2.
    graph = graph_of(op("a", 1, output_bytes=100), op("b", 1, control_inputs=("a",)))
    trace = run(graph, toy_cluster(2, latency_seconds=2), {"a": 0, "b": 1})
    assert times(trace)["b"] == (3, 4)
    here = run(graph, toy_cluster(2, latency_seconds=2), {"a": 0, "b": 0})
    assert times(here)["b"] == (1, 2)


def test_weights_are_never_sent_and_never_waited_for() -> None:
    weight = OpRecord(
        "w", "Constant", OpKind.CONSTANT, outputs=[OutputTensor("w", 1000, Storage.WEIGHT)]
    )
    graph = graph_of(weight, op("a", 1, ("w",)), op("b", 2, ("w",)))
    trace = run(graph, toy_cluster(3), {"w": 0, "a": 1, "b": 2})
    assert trace.makespan_seconds == 2
    assert sent(trace) == []


def test_faster_devices_take_less_time() -> None:
    cluster = replace(toy_cluster(2), devices=(device("d0"), device("d1", flops_per_second=4.0)))
    graph = graph_of(op("a", 2))
    assert run(graph, cluster, {"a": 0}).makespan_seconds == 2
    assert run(graph, cluster, {"a": 1}).makespan_seconds == 0.5


def test_each_kernel_pays_a_launch() -> None:
    # (0.25 + 1) + (0.25 + 2); the view between them starts no kernel.
    cluster = Cluster("launching", (replace(device("d0"), launch_seconds=0.25),))
    graph = graph_of(op("a", 1), op("v", 0, ("a",), kind=OpKind.VIEW), op("b", 2, ("v",)))
    assert run(graph, cluster, {"a": 0, "v": 0, "b": 0}).makespan_seconds == 3.5


def test_an_unsupported_op_is_a_failure_of_the_plan() -> None:
    refusing = replace(device("d1"), unsupported=frozenset({"matmul"}))
    cluster = replace(toy_cluster(2), devices=(device("d0"), refusing))
    simulator = Simulator.of(graph_of(op("a", 1), op("b", 1)), cluster)
    plan = Plan.of(np.array([0, 1]))
    evaluation = simulator.evaluate(plan)
    assert evaluation.makespan_seconds == np.inf
    assert not evaluation.feasible
    assert evaluation.failure == "d1 cannot run op 'b' (Matmul)"
    with pytest.raises(PlanError, match="d1 cannot run op 'b'"):
        simulator.trace(plan)
