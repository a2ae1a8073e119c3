"""Exact cuts of linear orders, against all cuts on all devices."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from graph_samples import device, graph_of, op, random_graph, toy_cluster
from hypothesis import given, settings
from hypothesis import strategies as st

from graphs.builder import OpRecord, OutputTensor
from graphs.graph import Graph
from graphs.kinds import OpKind, Phase, Storage
from placement.problem import Problem
from placement.throughput import (
    LoadProblem,
    Throughput,
    channel_problem,
    load_problem,
    period_of,
)
from placement.throughput.chain import crossing_bytes, even_pieces, make_chain
from placement.throughput.chain_split import device_kinds, split_chain, split_order
from placement.throughput.equal_cuts import equal_cuts
from placement.throughput.linear_orders import linear_orders
from placement.throughput.loads import fits
from placement.throughput.replication import replicated_split
from simulator.clusters.cluster import Cluster


def chain_graph(rng: np.random.Generator, count: int, resident: int = 1) -> Graph:
    return graph_of(
        *(
            op(
                f"a{i}",
                float(rng.integers(1, 20)),
                (f"a{i - 1}",) if i else (),
                int(rng.integers(0, 12)),
                resident_bytes=int(rng.integers(0, resident)),
            )
            for i in range(count)
        )
    )


def unlike_cluster(paces: tuple[float, ...], memory_bytes: int = 1 << 40) -> Cluster:
    cluster = toy_cluster(len(paces), memory_bytes)
    return replace(
        cluster,
        devices=tuple(device(f"d{i}", memory_bytes, pace) for i, pace in enumerate(paces)),
    )


def compositions(count: int, most: int) -> list[tuple[int, ...]]:
    """All ends of up to `most` runs of so many positions."""
    return [
        (*cuts, count)
        for parts in range(1, most + 1)
        for cuts in itertools.combinations(range(1, count), parts - 1)
    ]


def best_of_all(loads: LoadProblem, positions: np.ndarray, within_memory: bool = True) -> float:
    """The least largest load of all cuts of an order, on all devices in any sequence."""
    count, best = int(positions.max()) + 1, np.inf
    for ends in compositions(count, loads.device_count):
        stage = np.searchsorted(ends, positions, side="right")
        for chosen in itertools.permutations(range(loads.device_count), len(ends)):
            units = np.array(chosen, np.int32)[stage]
            if not within_memory or fits(loads, units):
                best = min(best, period_of(loads, units))
    return best


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.booleans(), st.booleans())
def test_the_cut_of_a_chain_is_the_best_of_all(seed: int, hops: bool, tight: bool) -> None:
    rng = np.random.default_rng(seed)
    paces = tuple(float(rng.integers(1, 4)) for _ in range(3))
    problem = Problem(chain_graph(rng, 7, 10), unlike_cluster(paces, 20 if tight else 1000))
    loads = load_problem(problem, 2.0) if hops else channel_problem(problem, Throughput(), 0)
    positions = linear_orders(loads)["as given"]
    wanted = best_of_all(loads, positions)
    found = split_order(loads, positions)
    if np.isinf(wanted):
        assert found is None
        return
    assert found is not None
    assert fits(loads, found.devices)
    assert found.seconds == pytest.approx(wanted)
    assert period_of(loads, found.devices) == pytest.approx(wanted)
    used = [len({d for stage in cut.stages for d in stage.devices}) for cut in found.fewer]
    assert used == sorted(used, reverse=True)
    for cut in found.fewer:
        assert period_of(loads, cut.devices) == pytest.approx(cut.seconds)
        assert cut.seconds >= found.seconds


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_hops_are_counted_exactly_in_any_graph(seed: int) -> None:
    loads = load_problem(Problem(random_graph(seed, 8), toy_cluster(3)), 4.0)
    for positions in linear_orders(loads).values():
        found = split_order(loads, positions)
        assert found is not None
        assert found.seconds == pytest.approx(period_of(loads, found.devices))
        assert found.seconds == pytest.approx(best_of_all(loads, positions))


def test_devices_that_only_cost_transfers_stay_empty() -> None:
    graph = graph_of(
        op("a", 5, output_bytes=1),
        op("b", 4, ("a",), 90),
        op("c", 1, ("b",), 90),
        op("d", 5, ("c",)),
    )
    loads = load_problem(Problem(graph, toy_cluster(4)), 1.0)
    found = split_order(loads, linear_orders(loads)["as given"])
    assert found is not None
    assert found.seconds == 5 + 5 + 1, "a alone sends a byte, the rest stays together"
    assert len(found.stages) == 2


def test_weights_that_two_stages_read_are_held_by_both() -> None:
    weight = OpRecord(
        name="w",
        op_type="Const",
        kind=OpKind.CONSTANT,
        outputs=(OutputTensor("w", 100, Storage.WEIGHT),),
        inputs=(),
    )
    graph = graph_of(
        weight,
        op("a", 5, ("w",), resident_bytes=50),
        op("b", 5, ("a", "w"), resident_bytes=50),
    )
    for memory_bytes, stages in ((149, None), (150, 2), (200, 2)):
        loads = load_problem(Problem(graph, toy_cluster(2, memory_bytes)), 1.0)
        found = split_order(loads, linear_orders(loads)["as given"])
        assert stages == (None if found is None else len(found.stages))


def test_each_device_is_filled_within_its_own_memory() -> None:
    graph = graph_of(
        *(op(f"a{i}", 1, (f"a{i - 1}",) if i else (), resident_bytes=10) for i in range(6))
    )
    cluster = toy_cluster(2, memory_bytes=50)
    small = replace(cluster.devices[0], memory_bytes=19)
    cluster = replace(cluster, devices=(small, cluster.devices[1]))
    loads = load_problem(Problem(graph, cluster), 1.0)
    found = split_order(loads, linear_orders(loads)["as given"])
    assert found is not None
    assert np.bincount(found.devices).tolist() == [1, 5]
    assert fits(loads, found.devices)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_replicas_are_the_best_of_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph, devices = chain_graph(rng, 5, 10), 3
    capacity = int(rng.integers(15, 40))
    loads = channel_problem(Problem(graph, toy_cluster(devices, capacity)), Throughput(), 0)
    sizes, seconds = graph.tensor_bytes, graph.flops
    best = np.inf
    for ends in compositions(5, devices):
        for replicas in itertools.product(range(1, devices + 1), repeat=len(ends)):
            if sum(replicas) > devices:
                continue
            largest = 0.0
            for first, end, count in zip((0, *ends[:-1]), ends, replicas, strict=True):
                into = sizes[first - 1] if first else 0
                out = sizes[end - 1] if end < 5 else 0
                stage = max(seconds[first:end].sum(), into, out)
                held = graph.resident_bytes[first:end].sum()
                largest = max(largest, stage / count if held <= capacity else np.inf)
            best = min(best, largest)
    found = replicated_split(loads, linear_orders(loads)["as given"])
    if np.isinf(best):
        assert found is None
        return
    assert found is not None
    assert found.period_seconds == pytest.approx(best)
    stages = found.as_dict()["stages"]
    assert sum(stage["ops"] for stage in stages) == 5
    names = [name for stage in stages for name in stage["devices"]]
    assert len(set(names)) == len(names)
    assert all(stage["memory_bytes"] <= capacity for stage in stages)


def test_gradients_of_replicas_are_added_up_once_for_all_micro_batches() -> None:
    graph = graph_of(
        op("w", 0, kind=OpKind.VARIABLE, colocation="w", resident_bytes=1),
        op("f", 50, ("w",), colocation="w"),
        op("g", 50, ("f",), output_bytes=240, phase=Phase.BACKWARD, colocation="w"),
        op("u", 0, ("g",), kind=OpKind.OPTIMIZER_UPDATE, phase=Phase.UPDATE, colocation="w"),
    )
    problem = Problem(graph, toy_cluster(2))
    for micro_batches, wanted in ((1, 100), (4, 240 * 2 * 0.5 / 4), (8, 50)):
        loads = channel_problem(problem, Throughput(micro_batches=micro_batches), 0)
        found = replicated_split(loads, linear_orders(loads)["as given"])
        assert found is not None
        assert found.period_seconds == pytest.approx(wanted)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_orders_keep_what_comes_before(seed: int) -> None:
    loads = load_problem(Problem(random_graph(seed, 40), toy_cluster(2)), 1.0)
    earlier, later = loads.order_pairs
    for positions in linear_orders(loads).values():
        assert (positions[earlier] <= positions[later]).all()
        assert set(positions.tolist()) == set(range(int(positions.max()) + 1))


def test_depth_first_comes_to_weights_just_before_their_readers() -> None:
    layers = 20
    records = [op(f"w{i}", 0, output_bytes=100) for i in range(layers)]
    records += [op(f"a{i}", 1, (f"w{i}", *((f"a{i - 1}",) if i else ())), 1) for i in range(layers)]
    loads = load_problem(Problem(graph_of(*records), toy_cluster(2)), 1.0)
    orders = linear_orders(loads)
    assert crossing_bytes(loads, orders["depth first"]).max() <= 101
    assert crossing_bytes(loads, orders["as given"]).max() == 100 * layers


@pytest.mark.parametrize("most", [4, 10, 39])
def test_pieces_are_cut_where_little_crosses(most: int) -> None:
    graph = graph_of(
        *(op(f"a{i}", 1, (f"a{i - 1}",) if i else (), 1 if i % 10 == 6 else 50) for i in range(40))
    )
    loads = load_problem(Problem(graph, toy_cluster(2)), 1.0)
    pieces = even_pieces(loads, linear_orders(loads)["as given"], most)
    assert pieces.max() < most + 1
    assert (np.diff(pieces) >= 0).all()
    if most == 4:
        assert np.flatnonzero(np.diff(pieces)).tolist() == [6, 16, 26, 36]


def test_coarse_cuts_are_refined_around_their_borders() -> None:
    rng = np.random.default_rng(0)
    graph = chain_graph(rng, 400)
    loads = load_problem(Problem(graph, unlike_cluster((1.0, 2.0, 3.0))), 50.0)
    positions = linear_orders(loads)["as given"]
    exact = split_order(loads, positions)
    coarse = split_order(loads, positions, most_pieces=60)
    assert exact is not None
    assert coarse is not None
    assert exact.chain.count == 400
    assert coarse.chain.count < 150
    pieces = even_pieces(loads, positions, 60)
    unrefined = split_chain(loads, make_chain(loads, pieces), device_kinds(loads))
    assert unrefined is not None
    assert exact.seconds <= coarse.seconds < unrefined.seconds
    assert coarse.seconds <= 1.003 * exact.seconds


def test_equal_cuts_are_runs_of_an_order() -> None:
    graph = graph_of(
        *(
            op(f"a{i}", 1 + 9 * (i < 4), (f"a{i - 1}",) if i else (), resident_bytes=i)
            for i in range(12)
        )
    )
    loads = load_problem(Problem(graph, toy_cluster(2)), 1.0)
    cuts = equal_cuts(loads, linear_orders(loads)["depth first"])
    assert cuts["equal layers"].tolist() == [0] * 6 + [1] * 6
    assert cuts["equal flops"].tolist() == [0] * 2 + [1] * 10
    assert cuts["equal bytes"].tolist() == [0] * 8 + [1] * 4
