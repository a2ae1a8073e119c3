"""Loads and memory: by hand, and kept up to date against counted anew."""

from dataclasses import replace

import numpy as np
import pytest
from graph_samples import graph_of, op, random_cluster, random_graph, toy_cluster, with_hosts
from hypothesis import given, settings
from hypothesis import strategies as st

from graphs.builder import OpRecord, OutputTensor
from graphs.kinds import OpKind, Phase, Storage
from placement.problem import Problem
from placement.throughput import (
    LoadProblem,
    Throughput,
    channel_problem,
    load_problem,
    resource_loads,
)
from placement.throughput.load_state import POWER, load_state, move_units
from placement.throughput.loads import held_bytes
from simulator.clusters.host_costs import HostCosts


def _problem(seed: int, hops: bool) -> LoadProblem:
    cluster = random_cluster(seed % 50)
    if seed % 3 == 0:
        cluster = with_hosts(cluster, seed % 7)
    problem = Problem(random_graph(seed, 24), cluster)
    if hops:
        return load_problem(problem, 3.0)
    return channel_problem(problem, Throughput(micro_batches=1 + seed % 4))


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.integers(0, 10_000), st.booleans())
def test_moves_count_what_counting_anew_does(seed: int, draw: int, hops: bool) -> None:
    loads, rng = _problem(seed, hops), np.random.default_rng(draw)
    devices = rng.integers(0, loads.device_count, loads.unit_count).astype(np.int32)
    units = rng.integers(0, loads.unit_count, 12).astype(np.int32)
    targets = rng.integers(0, loads.device_count, 12).astype(np.int32)
    state = load_state(loads.arrays, devices, scale_seconds=100.0)
    move_units(loads.arrays, state, units, targets)
    devices[units] = targets  # of several moves of a unit the last one counts
    assert state.devices.tolist() == devices.tolist()
    wanted = resource_loads(loads, devices)
    np.testing.assert_allclose(state.loads, wanted, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(state.held_bytes, held_bytes(loads, devices), rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(state.sums[0], ((wanted / 100) ** POWER).sum(), rtol=1e-6, atol=1e-9)
    p = loads.arrays
    leaving = {
        tensor
        for tensor in range(len(p.makers))
        for reader in p.readers[p.reader_offsets[tensor] : p.reader_offsets[tensor + 1]]
        if devices[reader] != devices[p.makers[tensor]]
    }
    assert set(state.cut[: state.cut_count[0]].tolist()) == leaving


def test_transfers_keep_channels_busy_beside_compute_once_for_each_device() -> None:
    graph = graph_of(op("a", 5, output_bytes=6), *(op(f"r{i}", 1, ("a",), 0) for i in range(4)))
    problem = Problem(graph, toy_cluster(3, bytes_per_second=2.0, latency_seconds=100.0))
    loads = channel_problem(problem, Throughput())
    found = resource_loads(loads, np.array([0, 1, 1, 2, 0], np.int32))
    assert found[:3].tolist() == [6, 2, 1]
    names = problem.cluster.link_arrays.channel_names
    busy = dict(zip(names, found[3:].tolist(), strict=True))
    assert {name for name, seconds in busy.items() if seconds} == {"d0->d1", "d0->d2"}
    assert busy["d0->d1"] == busy["d0->d2"] == 3


def test_links_that_share_a_channel_add_up_on_it() -> None:
    cluster = toy_cluster(3)
    cluster = replace(
        cluster, links=tuple(replace(link, channels=("bus",)) for link in cluster.links)
    )
    graph = graph_of(op("a", 5, output_bytes=6), op("b", 1, ("a",)), op("c", 1, ("a",)))
    loads = channel_problem(Problem(graph, cluster), Throughput())
    assert resource_loads(loads, np.array([0, 1, 2], np.int32)).tolist() == [5, 1, 1, 12]


def test_a_core_pays_for_sending_receiving_and_starting() -> None:
    host = HostCosts(
        launch_seconds=0.5,
        op_seconds=0.25,
        border_seconds=2.0,
        input_seconds_per_byte=0.1,
        output_seconds_per_byte=0.01,
        send_seconds=16.0,
        send_seconds_per_byte=1.0,
        receive_seconds=32.0,
    )
    cluster = toy_cluster(2, bytes_per_second=0.5)
    cluster = replace(cluster, devices=tuple(replace(d, host=host) for d in cluster.devices))
    graph = graph_of(op("a", 5, output_bytes=10), op("b", 1, ("a",)), op("c", 1, ("a",)))
    loads = channel_problem(Problem(graph, cluster), Throughput())
    found = resource_loads(loads, np.array([0, 1, 1], np.int32))
    sender = 5 + 0.25 + 2.0 + 10 * 0.01 + 16.0 + 10 * 1.0
    receiver = 2 + 2 * 0.25 + 32.0 + 2.0 + 0.5 + 10 * (0.1 + 2.0)
    assert found[:2].tolist() == pytest.approx([sender, receiver])
    assert not found[2:].any(), "the receiver copies, not the link"


def _training_graph() -> list[OpRecord]:
    return [
        op("w", 0, kind=OpKind.VARIABLE, resident_bytes=100, colocation="w", output_bytes=100),
        op("f", 8, ("w",), output_bytes=7),
        op("g", 4, ("f",), output_bytes=40, phase=Phase.BACKWARD),
        op("u", 2, ("g",), kind=OpKind.OPTIMIZER_UPDATE, phase=Phase.UPDATE, colocation="w"),
    ]


def test_updates_run_once_for_all_micro_batches() -> None:
    problem = Problem(graph_of(*_training_graph()), toy_cluster(2))
    loads = channel_problem(problem, Throughput(micro_batches=4))
    units = np.zeros(loads.unit_count, np.int32)
    assert resource_loads(loads, units)[:2].tolist() == [8 + 4 + 2 / 4, 0]
    # The forward op and what reads it on another device than the variable and its update.
    units[problem.unit_of[[1, 2]]] = 1
    found = resource_loads(loads, units)
    names = problem.cluster.link_arrays.channel_names
    busy = dict(zip(names, found[2:].tolist(), strict=True))
    assert found[:2].tolist() == [2 / 4, 12]
    assert busy == {"d0->d1": 100, "d1->d0": 40 / 4}, "gradients cross once they are added up"


def test_memory_counts_weights_where_read_and_activations_for_steps_on_the_way() -> None:
    weight = OpRecord(
        name="w",
        op_type="Const",
        kind=OpKind.CONSTANT,
        outputs=(OutputTensor("w", 1000, Storage.WEIGHT),),
        inputs=(),
    )
    graph = graph_of(
        weight,
        op("a", 1, ("w",), output_bytes=10),
        op("b", 1, ("a", "w"), output_bytes=20, resident_bytes=5),
        op("g", 1, ("a", "b"), phase=Phase.BACKWARD),
    )
    problem = Problem(graph, toy_cluster(2, memory_bytes=5000))
    for steps in (1, 3):
        loads = channel_problem(problem, Throughput(micro_batches=8), steps)
        together = np.zeros(4, np.int32)
        # What the backward op reads is kept for each step: 10 of a, 20 of b.
        assert held_bytes(loads, together).tolist() == [1000 + 5 + steps * 30, 0]
        apart = np.array([0, 0, 1, 1], np.int32)
        received = steps * 10
        assert held_bytes(loads, apart).tolist() == [
            1000 + steps * 10,
            1000 + 5 + steps * 20 + received,
        ]
        # Room for the op with the most inputs and outputs: 10 + 20 bytes.
        assert loads.arrays.capacity_bytes.tolist() == [5000 - 30] * 2
    hops = load_problem(problem, 1.0)
    assert held_bytes(hops, together).tolist() == [1005, 0], "activations do not count"
