"""What holds for the engine whatever the graph, cluster and plan."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from graph_samples import random_cluster, random_devices, random_graph, toy_cluster, with_hosts
from hypothesis import given, settings
from hypothesis import strategies as st

from graphs.graph import Graph
from graphs.kinds import Storage
from simulator.bounds import lower_bounds
from simulator.clusters.cluster import Cluster
from simulator.errors import PlanError
from simulator.fusion import xla_like_groups
from simulator.plan import Plan
from simulator.simulator import Simulator, simulate, simulate_many
from simulator.traces.critical_path import critical_path, critical_seconds
from simulator.traces.trace import Trace

seeds = st.integers(0, 100_000)


def case(seed: int, ops: int = 60) -> tuple[Graph, Cluster, Plan]:
    graph, cluster = random_graph(seed, ops), random_cluster(seed)
    if seed % 2:
        cluster = with_hosts(cluster, seed // 2)
    priorities = np.random.default_rng(seed).random(ops)
    return graph, cluster, Plan.of(random_devices(graph, cluster, seed), priorities)


def traced(seed: int) -> Trace:
    return simulate(*case(seed))


@given(seeds)
def test_no_plan_that_fits_beats_the_lower_bounds(seed: int) -> None:
    graph, cluster, plan = case(seed)
    simulator = Simulator.of(graph, cluster)
    evaluation = simulator.evaluate(plan)
    bounds = lower_bounds(graph, cluster, simulator.seconds)
    assert bounds.critical_path_seconds <= evaluation.makespan_seconds * (1 + 1e-12)
    if evaluation.feasible:
        assert bounds.seconds <= evaluation.makespan_seconds * (1 + 1e-9)


@given(seeds)
def test_no_plan_takes_longer_than_everything_one_after_the_other(seed: int) -> None:
    trace = traced(seed)
    transfers = trace.transfer_arrival - trace.transfer_start
    assert trace.makespan_seconds <= (trace.busy_seconds.sum() + transfers.sum()) * (1 + 1e-12)
    assert trace.makespan_seconds == max(trace.end.max(), trace.transfer_arrival.max(initial=0.0))


@given(seeds)
def test_ops_start_after_their_inputs_arrive(seed: int) -> None:
    trace = traced(seed)
    graph = trace.graph
    arrival = {
        (int(t), int(d)): a
        for t, d, a in zip(
            trace.transfer_tensors, trace.transfer_targets, trace.transfer_arrival, strict=True
        )
    }
    assert len(arrival) == len(trace.transfer_tensors), "a tensor is sent to a device once"
    for op in range(graph.op_count):
        inputs = [0.0]
        for tensor in graph.inputs_of(op).tolist():
            if graph.tensor_storage[tensor] == Storage.WEIGHT:
                continue
            producer = graph.tensor_producers[tensor]
            here = trace.devices[producer] == trace.devices[op]
            inputs.append(trace.end[producer] if here else arrival[tensor, int(trace.devices[op])])
        assert trace.ready[op] == max(inputs)
        assert trace.ready[op] <= trace.start[op] <= trace.end[op]


@given(seeds)
def test_ops_never_overlap_on_a_device(seed: int) -> None:
    trace = traced(seed)
    for device in range(trace.cluster.device_count):
        held = np.isin(np.arange(len(trace.start)), trace.previous)  # if only for an instant
        mine = np.flatnonzero((trace.devices == device) & ((trace.end > trace.start) | held))
        # Ops that take no time can begin and end at the same instant: who came first is told by
        # what came before each.
        following = {int(trace.previous[op]): op for op in mine.tolist()}
        assert len(following) == mine.size
        walk = [-1]
        while walk[-1] in following:
            walk.append(following[walk[-1]])
        assert sorted(walk[1:]) == mine.tolist()
        assert (trace.start[walk[2:]] >= trace.end[walk[1:-1]]).all()


@given(seeds)
def test_a_device_is_idle_only_while_nothing_is_ready(seed: int) -> None:
    trace = traced(seed)
    waited = np.flatnonzero(trace.start > trace.ready)
    assert (trace.previous[waited] >= 0).all()
    assert (trace.end[trace.previous[waited]] == trace.start[waited]).all()


@given(seeds)
def test_transfers_never_overlap_on_a_channel(seed: int) -> None:
    trace = traced(seed)
    links = trace.cluster.link_arrays
    pairs = list(zip(trace.transfer_sources, trace.transfer_targets, strict=True))
    sizes = trace.graph.tensor_bytes[trace.transfer_tensors]
    for channel in range(len(links.channel_names)):
        mine = [i for i, pair in enumerate(pairs) if channel in links.channels[pair]]
        for first, second in pairwise(mine):
            busy = sizes[first] / links.wire_bytes_per_second[pairs[first]]
            assert trace.transfer_start[second] >= trace.transfer_start[first] + busy
    assert (trace.transfer_start >= trace.transfer_request).all()


@given(seeds)
def test_the_critical_path_ends_at_the_makespan_and_says_why(seed: int) -> None:
    trace = traced(seed)
    steps = critical_path(trace)
    assert steps[-1].end_seconds == trace.makespan_seconds
    assert (steps[0].start_seconds, steps[0].because) == (0.0, "source")
    for before, step in zip((None, *steps), steps, strict=False):
        if step.because == "source":
            assert before is None
            continue
        assert before is not None
        if step.because == "device busy":
            assert (before.what, step.what) == ("op", "op")
            assert trace.devices[before.index] == trace.devices[step.index]
            assert before.end_seconds == step.start_seconds > trace.ready[step.index]
        elif step.because == "transfer":
            assert (before.what, step.what) == ("transfer", "op")
            assert before.end_seconds == step.start_seconds
            assert trace.transfer_targets[before.index] == trace.devices[step.index]
        elif step.because == "input":
            assert before.what == "op"
            assert before.end_seconds == step.start_seconds
        else:
            assert (before.what, step.what) == ("transfer", "transfer")
            assert step.because == "link busy"
            assert before.end_seconds >= step.start_seconds > trace.transfer_request[step.index]
    assert sum(critical_seconds(trace).values()) == pytest.approx(trace.makespan_seconds)


def permuted(cluster: Cluster, order: list[int]) -> Cluster:
    """The cluster with its devices in another order, and its links in any."""
    devices = tuple(cluster.devices[index] for index in order)
    return replace(cluster, devices=devices, links=cluster.links[::-1])


@given(seeds, st.data())
def test_renumbering_the_devices_changes_nothing(seed: int, data: st.DataObject) -> None:
    graph, cluster, plan = case(seed)
    order = data.draw(st.permutations(range(cluster.device_count)))
    position = np.argsort(order).astype(np.int32)
    here = simulate(graph, cluster, plan)
    moved = Plan.of(position[plan.devices], plan.priorities)
    there = simulate(graph, permuted(cluster, order), moved)
    assert there.makespan_seconds == here.makespan_seconds
    np.testing.assert_array_equal(there.start, here.start)
    np.testing.assert_array_equal(there.transfer_start, here.transfer_start)
    np.testing.assert_array_equal(there.peak_bytes, here.peak_bytes[order])


@given(seeds, st.data())
def test_equal_devices_are_interchangeable(seed: int, data: st.DataObject) -> None:
    graph, cluster = random_graph(seed, 60), toy_cluster(4, bytes_per_second=9, latency_seconds=0.5)
    devices = random_devices(graph, cluster, seed)
    swap = np.array(data.draw(st.permutations(range(4))), np.int32)
    batch = simulate_many(graph, cluster, [Plan.of(devices), Plan.of(swap[devices])])
    assert batch.makespan_seconds[0] == batch.makespan_seconds[1]


@given(seeds)
def test_the_same_plan_gives_the_same_result(seed: int) -> None:
    graph, cluster, plan = case(seed)
    again = Plan.of(plan.devices.copy(), plan.priorities.copy())
    assert again == plan
    first, second = simulate(graph, cluster, plan), simulate(graph, cluster, again)
    np.testing.assert_array_equal(first.start, second.start)
    assert first.evaluation == second.evaluation


@given(seeds)
def test_only_the_order_of_priorities_counts(seed: int) -> None:
    graph, cluster, plan = case(seed)
    simulator = Simulator.of(graph, cluster)
    scaled = Plan.of(plan.devices, 3.0 * plan.priorities - 7.0)
    assert simulator.evaluate(scaled) == simulator.evaluate(plan)


@settings(max_examples=15)
@given(st.lists(seeds, min_size=0, max_size=8))
def test_many_at_once_are_the_same_as_one_by_one(plan_seeds: list[int]) -> None:
    graph, cluster = random_graph(7, 60), random_cluster(12)
    simulator = Simulator.of(graph, cluster)
    plans = []
    for seed in plan_seeds:
        devices = random_devices(graph, cluster, seed)
        groups = xla_like_groups(graph, devices) if seed % 2 else None
        plans.append(Plan.of(devices, np.random.default_rng(seed).random(60), groups))
    batch = simulator.evaluate_many(plans, threads=2)
    for index, plan in enumerate(plans):
        single = simulator.evaluate(plan)
        assert batch.makespan_seconds[index] == single.makespan_seconds
        assert tuple(batch.peak_bytes[index].tolist()) == single.peak_bytes
        assert batch.feasible[index] == single.feasible


def test_plans_of_another_graph_are_refused_in_a_batch_too() -> None:
    graph, cluster, plan = case(3)
    with pytest.raises(PlanError, match="it belongs to another graph"):
        Simulator.of(graph, cluster).evaluate_many([plan, Plan.of(np.zeros(5, np.int32))])
