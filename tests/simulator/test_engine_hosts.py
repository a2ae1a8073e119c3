"""Devices that send, receive and start by themselves, against times worked out by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from graph_samples import graph_of, op, toy_cluster

from graphs.kinds import OpKind
from simulator.bounds import lower_bounds
from simulator.cluster_file import dump_cluster, load_cluster, parse_cluster
from simulator.clusters.cluster import Cluster, Link
from simulator.clusters.host_costs import HostCosts, runs_alone
from simulator.errors import ClusterError
from simulator.plan import Plan
from simulator.simulator import Simulator, simulate

HOST = HostCosts(
    launch_seconds=0.5,
    op_seconds=0.125,
    border_seconds=0.0625,
    input_seconds_per_byte=0.25,
    output_seconds_per_byte=0.5,
    send_seconds=0.75,
    send_seconds_per_byte=0.125,
    receive_seconds=1.5,
)


def hosts(count: int, host: HostCosts = HOST) -> Cluster:
    """Links of 4 bytes a second and a latency of two."""
    plain = toy_cluster(count, bytes_per_second=4.0, latency_seconds=2.0)
    return replace(plain, devices=tuple(replace(d, host=host) for d in plain.devices))


def test_both_ends_of_a_transfer_are_busy_with_it() -> None:
    graph = graph_of(
        op("a", 2.0, output_bytes=8),
        op("here", 4.0, ("a",), output_bytes=0),
        op("there", 3.0, ("a",)),
    )
    trace = simulate(graph, hosts(2), Plan.of(np.array([0, 0, 1], np.int32), np.array([2, 1, 0.0])))
    # launch, op, kernel; the tensor leaves the run; it is copied out
    sent = 0.5 + 0.125 + 2.0 + (0.0625 + 8 * 0.5) + (0.75 + 8 * 0.125)
    assert trace.end[0] == sent
    # a run of its own, because the one before was cut: launch, op, the tensor comes in again
    assert (trace.start[1], trace.end[1]) == (sent, sent + 0.5 + 0.125 + (0.0625 + 2.0) + 4.0)
    # the tensor can be seen one latency later, the receiver copies at the link's pace
    assert trace.start[2] == sent + 2.0
    assert trace.end[2] == sent + 2.0 + (1.5 + 8 / 4.0) + 0.5 + 0.125 + (0.0625 + 2.0) + 3.0


def test_ops_of_one_run_share_its_start_and_hand_over_for_nothing() -> None:
    graph = graph_of(op("a", 2.0, output_bytes=8), op("b", 4.0, ("a",)))
    trace = simulate(graph, hosts(1), Plan.of(np.zeros(2, np.int32)))
    assert trace.makespan_seconds == 0.5 + 2 * 0.125 + 6.0


def test_a_tensor_is_received_once() -> None:
    graph = graph_of(op("a", 1.0, output_bytes=4), op("b", 1.0, ("a",)), op("c", 1.0, ("a",)))
    host = HostCosts(receive_seconds=8.0)
    trace = simulate(graph, hosts(2, host), Plan.of(np.array([0, 1, 1], np.int32)))
    assert (trace.end - trace.start).tolist() == [1.0, 8.0 + 4 / 4.0 + 1.0, 1.0]


def test_inputs_of_the_step_are_sent_by_whoever_has_them() -> None:
    graph = graph_of(
        op("x", 0.0, output_bytes=8, kind=OpKind.INPUT),
        op("a", 1.0, ("x",)),
        op("b", 1.0),
    )
    host = HostCosts(send_seconds=5.0)
    trace = simulate(
        graph, hosts(2, host), Plan.of(np.array([0, 1, 0], np.int32), np.array([1, 0, 0.0]))
    )
    assert (trace.end[0], trace.start[2]) == (5.0, 5.0)
    assert trace.start[1] == 7.0


def test_kernels_slow_down_while_others_work() -> None:
    graph = graph_of(op("a", 4.0), op("b", 8.0), op("c", 2.0, ("b",)))
    host = HostCosts(contention=0.5)
    trace = simulate(graph, hosts(3, host), Plan.of(np.array([0, 1, 1], np.int32)))
    assert trace.end.tolist() == [4.0 * 1.25, 8.0 * 1.25, 8.0 * 1.25 + 2.0]


def test_ops_that_share_a_large_weight_are_runs_of_their_own() -> None:
    weight = op("w", 0.0, output_bytes=1 << 17, kind=OpKind.CONSTANT)
    from graphs.builder import OutputTensor
    from graphs.kinds import Storage

    weight = replace(weight, outputs=(OutputTensor("w", 1 << 17, Storage.WEIGHT),))
    graph = graph_of(weight, op("a", 1.0, ("w",)), op("b", 1.0, ("a", "w")), op("c", 1.0, ("b",)))
    assert runs_alone(graph).tolist() == [False, True, True, False]
    trace = simulate(graph, hosts(1, HostCosts(launch_seconds=1.0)), Plan.of(np.zeros(4, np.int32)))
    assert trace.makespan_seconds == 3.0 + 3.0


def test_a_transfer_altogether_is_what_bounds_and_planners_see() -> None:
    cluster = hosts(2)
    links = cluster.link_arrays
    whole = (0.75 + 0.0625) + 2.0 + (1.5 + 0.0625 + 0.5)
    assert links.latency_seconds[0, 1] == whole
    assert 1 / links.bytes_per_second[0, 1] == pytest.approx(0.125 + 0.5 + 1 / 4 + 0.25)
    graph = graph_of(
        op("a", 1.0, output_bytes=8, resident_bytes=1 << 39),
        op("b", 1.0, ("a",), resident_bytes=(1 << 39) + 1),
    )
    simulator = Simulator.of(graph, cluster)
    bounds = lower_bounds(graph, cluster, simulator.seconds)
    apart = simulator.evaluate(Plan.of(np.array([0, 1], np.int32))).makespan_seconds
    assert bounds.memory_cut_seconds == pytest.approx(apart - 2 * (0.125) - 0.5)


def test_host_costs_are_written_read_and_count_as_content(tmp_path: Path) -> None:
    cluster = hosts(2)
    path = tmp_path / "cores.yaml"
    path.write_text(dump_cluster(cluster), encoding="utf-8")
    assert load_cluster(path) == cluster
    assert cluster.digest != toy_cluster(2, bytes_per_second=4.0, latency_seconds=2.0).digest
    text = "devices: [{name: a, like: cpu, host: {send_seconds: 2us, contention: 0.1}}]"
    assert parse_cluster(text, "text").devices[0].host == HostCosts(
        send_seconds=2e-6, contention=0.1
    )


@pytest.mark.parametrize("host", ["{send: 2us}", "{send_seconds: -1}", "[1]", "{op_seconds: fast}"])
def test_host_costs_that_make_no_sense_are_refused(host: str) -> None:
    with pytest.raises(ClusterError, match="host"):
        parse_cluster(f"devices: [{{name: a, like: cpu, host: {host}}}]", "text")


def test_only_the_receiver_with_host_costs_copies_by_itself() -> None:
    graph = graph_of(op("a", 1.0, output_bytes=8), op("b", 1.0, ("a",)))
    plain = toy_cluster(2, bytes_per_second=4.0)
    mixed = replace(plain, devices=(plain.devices[0], replace(plain.devices[1], host=HostCosts())))
    there = simulate(graph, mixed, Plan.of(np.array([0, 1], np.int32)))
    assert (there.start[1], there.end[1]) == (1.0, 1.0 + 2.0 + 1.0)
    back = simulate(graph, mixed, Plan.of(np.array([1, 0], np.int32)))
    assert (back.start[1], back.end[1]) == (3.0, 4.0)
    assert isinstance(mixed.links[0], Link)
