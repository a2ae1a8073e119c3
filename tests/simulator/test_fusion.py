"""Which ops may share a kernel, and what the kernel costs."""

from dataclasses import replace

import numpy as np
import pytest
from graph_samples import device, graph_of, op, random_cluster, random_devices, random_graph
from hypothesis import given
from hypothesis import strategies as st

from graphs.builder import OpRecord
from graphs.graph import Graph
from graphs.kinds import OpKind, Storage
from simulator.clusters.cluster import Cluster
from simulator.errors import PlanError
from simulator.fusion import (
    CONTRACTIONS,
    MAX_GROUP_OPS,
    POINTWISE,
    REDUCTIONS,
    check_fusion,
    fuse,
    greedy_groups,
    xla_like_groups,
)
from simulator.plan import Plan
from simulator.simulator import Simulator, simulate

ADD, SUM, MATMUL = OpKind.ELEMENTWISE, OpKind.REDUCE, OpKind.MATMUL


def piece(name: str, kind: OpKind, *inputs: str, **fields: object) -> OpRecord:
    """An op that reads 10 bytes per input and writes 10."""
    moved = {"bytes_read": 10.0 * len(inputs), "bytes_written": 10.0}
    return op(name, 1, inputs, 10, kind, **{**moved, **fields})


def groups_of(*records: OpRecord, devices: list[int] | None = None) -> list[set[str]]:
    """What XLA-like fusion puts together, by name."""
    graph = graph_of(*records)
    where = np.array(devices or [0] * graph.op_count, np.int32)
    fusion = xla_like_groups(graph, where)
    check_fusion(graph, fusion, where)
    names = np.array(graph.op_names)
    return [set(names[fusion == group]) for group in np.unique(fusion[fusion >= 0])]


def chain(*kinds: OpKind) -> list[OpRecord]:
    """Ops named a, b, c, ... each of which reads the one before."""
    names = "abcdefgh"
    return [piece(names[i], kind, *names[max(i - 1, 0) : i]) for i, kind in enumerate(kinds)]


def test_a_chain_of_pointwise_ops_is_one_kernel() -> None:
    assert groups_of(*chain(ADD, OpKind.CAST, OpKind.ACTIVATION)) == [{"a", "b", "c"}]


def test_a_diamond_of_pointwise_ops_is_one_kernel() -> None:
    records = (
        piece("a", ADD),
        piece("b", ADD, "a"),
        piece("c", ADD, "a"),
        piece("d", ADD, "b", "c"),
    )
    assert groups_of(*records) == [{"a", "b", "c", "d"}]


def test_a_producer_with_readers_in_two_kernels_stays_apart() -> None:
    records = (*chain(ADD, ADD), piece("r", SUM, "a"), piece("s", SUM, "b"))
    assert groups_of(*records) == [{"b", "s"}]


def test_no_cycle_can_run_through_the_outside() -> None:
    # a -> sort -> b and a -> b: with a in b's kernel, the sort would wait for that kernel.
    records = (piece("a", ADD), piece("sort", OpKind.SORT, "a"), piece("b", ADD, "a", "sort"))
    assert groups_of(*records) == []


def test_a_reduction_ends_a_kernel() -> None:
    assert groups_of(*chain(ADD, SUM, ADD)) == [{"a", "b"}]
    assert groups_of(*chain(SUM, ADD, ADD)) == [{"b", "c"}]


def test_a_kernel_holds_one_reduction() -> None:
    records = (piece("a", ADD), piece("r", SUM, "a"), piece("s", SUM, "r"))
    assert groups_of(*records) == [{"a", "r"}]


def test_pointwise_work_follows_a_contraction_but_does_not_feed_it() -> None:
    assert groups_of(*chain(ADD, MATMUL, ADD, OpKind.ACTIVATION)) == [{"b", "c", "d"}]


def test_a_kernel_holds_one_contraction() -> None:
    records = (piece("m", MATMUL), piece("n", MATMUL), piece("sum", ADD, "m", "n"))
    (group,) = groups_of(*records)
    assert group in ({"m", "sum"}, {"n", "sum"})


def test_a_contraction_and_a_reduction_do_not_meet() -> None:
    assert groups_of(*chain(MATMUL, SUM)) == []
    (group,) = groups_of(*chain(MATMUL, ADD, SUM))
    assert group in ({"a", "b"}, {"b", "c"})


def test_other_kinds_stay_alone() -> None:
    alone = set(OpKind) - POINTWISE - REDUCTIONS - CONTRACTIONS
    assert {OpKind.VARIABLE, OpKind.COLLECTIVE, OpKind.RANDOM} < alone
    for kind in alone:
        assert groups_of(*chain(ADD, kind, ADD)) == []


def test_devices_separate() -> None:
    assert groups_of(*chain(ADD, ADD, ADD), devices=[0, 1, 1]) == [{"b", "c"}]


def test_a_signal_to_the_outside_separates() -> None:
    records = (*chain(ADD, ADD), piece("waits", MATMUL, control_inputs=("a",)))
    assert groups_of(*records) == []
    assert groups_of(*chain(ADD, ADD), piece("waits", MATMUL, control_inputs=("b",))) == [
        {"a", "b"}
    ]


def test_a_signal_within_the_kernel_does_not() -> None:
    records = (*chain(ADD, ADD), piece("c", ADD, "b", control_inputs=("a",)))
    assert groups_of(*records) == [{"a", "b", "c"}]


def test_kernels_have_a_size_limit() -> None:
    names = [f"n{i}" for i in range(MAX_GROUP_OPS + 8)]
    records = [piece(n, ADD, *names[max(i - 1, 0) : i]) for i, n in enumerate(names)]
    assert max(len(group) for group in groups_of(*records)) == MAX_GROUP_OPS


def test_priorities_decide_what_is_fused() -> None:
    # m and n both fit before the sum, but only one contraction: the higher priority wins. An op
    # of no priority stays out.
    graph = graph_of(piece("m", MATMUL), piece("n", MATMUL), piece("sum", ADD, "m", "n"))
    devices = np.zeros(3, np.int32)
    assert greedy_groups(graph, np.array([2.0, 1, 0]), devices).tolist() == [2, -1, 2]
    assert greedy_groups(graph, np.array([1.0, 2, 0]), devices).tolist() == [-1, 2, 2]
    assert greedy_groups(graph, np.array([0.0, -1, 0]), devices).tolist() == [-1, -1, -1]


def test_a_kernel_costs_its_flops_its_border_and_one_launch() -> None:
    # Unfused on a device of 1 flop/s and 1 byte/s with launches of 2 s: a moves 10 bytes, b and c
    # 20 each, that is (10 + 2) + (20 + 2) + (20 + 2). Fused: 10 bytes written at the end of three
    # flops, one launch: max(3, 10) + 2.
    slow = replace(device("d0"), memory_bytes_per_second=1.0, launch_seconds=2.0)
    cluster = Cluster("one", (slow,))
    graph = graph_of(*chain(ADD, ADD, ADD))
    devices = np.zeros(3, np.int32)
    assert simulate(graph, cluster, Plan.of(devices)).makespan_seconds == 56
    plan = Plan.of(devices, None, np.array([0, 0, 0]))
    trace = simulate(graph, cluster, plan)
    assert trace.makespan_seconds == 12
    assert trace.graph.op_names == ("c",)
    assert trace.peak_bytes.tolist() == [10]


def test_a_kernel_reads_what_comes_from_outside_once_per_edge() -> None:
    graph = graph_of(piece("x", MATMUL), piece("a", ADD, "x"), piece("b", ADD, "a", "x"))
    fused = fuse(graph, np.array([-1, 5, 5], np.int32), np.zeros(3, np.int32)).graph
    assert fused.op_names == ("x", "b")
    assert fused.bytes_read.tolist() == [0, 20]
    assert fused.bytes_written.tolist() == [10, 10]
    assert fused.flops.tolist() == [1, 2]
    assert fused.inputs_of(1).tolist() == [0]


def test_the_heavy_op_gives_a_kernel_its_kind_and_the_last_its_place() -> None:
    graph = graph_of(*chain(MATMUL, ADD, OpKind.ACTIVATION))
    fused = fuse(graph, np.zeros(3, np.int32), np.zeros(3, np.int32))
    assert fused.graph.kinds.tolist() == [MATMUL]
    assert fused.root_of.tolist() == [2]
    assert fused.kernel_of.tolist() == [0, 0, 0]


def test_the_most_urgent_member_gives_a_kernel_its_priority() -> None:
    # Whichever of the two kernels holds the op of priority 9 comes first.
    graph = graph_of(piece("a", ADD), piece("b", ADD, "a"), piece("c", ADD), piece("d", ADD, "c"))
    cluster = Cluster("one", (device("d0"),))
    for urgent, first in (("a", "b"), ("c", "d")):
        priorities = np.array([9.0 if name == urgent else 1.0 for name in graph.op_names])
        plan = Plan.of(np.zeros(4, np.int32), priorities, np.array([0, 0, 1, 1]))
        trace = simulate(graph, cluster, plan)
        assert trace.graph.op_names[int(trace.start.argmin())] == first
        assert trace.start.tolist() in ([0, 2], [2, 0])


def test_a_device_that_cannot_run_a_member_cannot_run_the_kernel() -> None:
    refusing = replace(device("d0"), unsupported=frozenset({"activation"}))
    graph = graph_of(*chain(MATMUL, OpKind.ACTIVATION))
    plan = Plan.of(np.zeros(2, np.int32), None, np.zeros(2, np.int32))
    evaluation = Simulator.of(graph, Cluster("one", (refusing,))).evaluate(plan)
    assert evaluation.failure == "d0 cannot run op 'b' (Activation)"


@pytest.mark.parametrize(
    ("kinds", "groups", "devices", "message"),
    [
        ((ADD, OpKind.SORT), [0, 0], [0, 0], r"group 0: op 'b' \(Sort\) is of a kind that cannot"),
        ((ADD, ADD), [3, 3], [0, 1], "fusion group 3: op 'a' is on another device than the rest"),
        ((ADD, ADD, ADD), [0, -1, 0], [0, 0, 0], "op 'a' is read outside its group, but only"),
        ((ADD, MATMUL), [0, 0], [0, 0], "op 'a' feeds a contraction, whose inputs must be in mem"),
        ((SUM, ADD), [0, 0], [0, 0], "op 'a' is a reduction, which can only end a kernel"),
        ((SUM, SUM), [0, 0], [0, 0], "group 0 has 2 reductions or contractions; a kernel can hold"),
        ((MATMUL, ADD, SUM), [0, 0, 0], [0, 0, 0], "group 0 has 2 reductions or contractions"),
    ],
)
def test_errors_name_the_op(
    kinds: tuple[OpKind, ...], groups: list[int], devices: list[int], message: str
) -> None:
    graph = graph_of(*chain(*kinds))
    where = np.array(devices, np.int32)
    with pytest.raises(PlanError, match=message):
        check_fusion(graph, np.array(groups, np.int32), where)
    with pytest.raises(PlanError, match=message):
        fuse(graph, np.array(groups, np.int32), where)


def test_groups_without_a_connection_are_refused() -> None:
    graph = graph_of(piece("a", ADD), piece("b", ADD), piece("c", ADD, "a"))
    with pytest.raises(PlanError, match="op 'b' is not connected to its group"):
        check_fusion(graph, np.array([-1, 0, 0], np.int32), np.zeros(3, np.int32))


def test_groups_that_are_too_large_are_refused() -> None:
    names = [f"n{i}" for i in range(MAX_GROUP_OPS + 1)]
    graph = graph_of(*(piece(n, ADD, *names[max(i - 1, 0) : i]) for i, n in enumerate(names)))
    with pytest.raises(PlanError, match="fusion group 7 has 33 ops; at most 32 may fuse"):
        check_fusion(graph, np.full(33, 7, np.int32), np.zeros(33, np.int32))


@given(st.integers(0, 100_000))
def test_greedy_groups_are_legal_and_fuse_into_a_cheaper_graph(seed: int) -> None:
    graph, cluster = random_graph(seed, 60), random_cluster(seed)
    devices = random_devices(graph, cluster, seed)
    priorities = np.random.default_rng(seed).normal(0.5, 1, graph.op_count)
    fusion = greedy_groups(graph, priorities, devices)
    fused = fuse(graph, fusion, devices)  # a `Graph` checks order and edges when it is made
    kernels = fused.graph
    assert kernels.flops.sum() == graph.flops.sum()
    assert kernels.resident_bytes.sum() == graph.resident_bytes.sum()
    assert kernels.bytes_read.sum() <= graph.bytes_read.sum()
    assert kernels.bytes_written.sum() <= graph.bytes_written.sum()
    assert (kernels.bytes_read >= 0).all()
    assert (kernels.bytes_written >= 0).all()
    assert (fused.kernel_of[fused.root_of] == np.arange(kernels.op_count)).all()
    assert (priorities[(fusion >= 0) & (fusion != np.arange(graph.op_count))] > 0).all()
    _same_dependencies(graph, fused.kernel_of, kernels)
    plan = Plan.of(devices, np.random.default_rng(seed).random(graph.op_count), fusion)
    simulator = Simulator.of(graph, cluster)
    assert simulator.evaluate(plan).makespan_seconds == simulator.trace(plan).makespan_seconds


def _same_dependencies(graph: Graph, kernel_of: np.ndarray, kernels: Graph) -> None:
    """Kernels wait for each other exactly where their members do."""

    def pairs(of: Graph, name: np.ndarray) -> set[tuple[int, int]]:
        real = of.tensor_storage[of.edge_tensors] != Storage.WEIGHT
        sources = name[of.tensor_producers[of.edge_tensors[real]]]
        return set(zip(sources.tolist(), name[of.consumers[real]].tolist(), strict=True))

    expected = {(a, b) for a, b in pairs(graph, kernel_of) if a != b}
    assert pairs(kernels, np.arange(kernels.op_count)) == expected
