"""Observations by hand on a tiny trace, slack against brute force, symmetry, fused plans."""

import math
from dataclasses import replace

import numpy as np
import pytest
from environment_samples import two_chains
from graph_samples import (
    graph_of,
    op,
    random_cluster,
    random_devices,
    random_graph,
    toy_cluster,
)

from envs.features.observation import (
    DEVICE_COLUMNS,
    EDGE_COLUMNS,
    GRAPH_COLUMNS,
    LINK_COLUMNS,
    OP_COLUMNS,
    PAIR_COLUMNS,
    Observation,
    Previous,
    observe,
)
from envs.features.static_features import OP_FEATURES
from envs.features.trace_features import OP_TRACE_FEATURES, trace_features
from envs.instance import Instance
from envs.spaces import as_space_sample, from_sample, observation_space
from graphs.builder import OpRecord, OutputTensor
from graphs.graph import Graph
from graphs.kinds import OpKind, Storage
from placement.problem import Problem
from simulator.clusters.cluster import Cluster
from simulator.fusion import xla_like_groups
from simulator.plan import Plan
from simulator.traces.trace import Trace

ROOMY = 1 << 40


def share(seconds: float) -> float:
    """0 for a ten-millionth, 1 for one."""
    return 1.0 + math.log10(seconds) / 7.0


class Columns:
    """Columns of an observation by name; of two with one name, the trace's."""

    def __init__(self, seen: Observation) -> None:
        self.seen = seen

    def op(self, name: str) -> list[float]:
        offset = len(OP_FEATURES)
        if name in OP_TRACE_FEATURES:
            return self.seen.ops[:, offset + OP_TRACE_FEATURES.index(name)].tolist()
        return self.seen.ops[:, OP_COLUMNS.index(name)].tolist()

    def edge(self, name: str) -> list[float]:
        return self.seen.edges[:, last(EDGE_COLUMNS, name)].tolist()

    def device(self, name: str) -> list[float]:
        return self.seen.devices[:, last(DEVICE_COLUMNS, name)].tolist()

    def link(self, name: str) -> list[list[float]]:
        return self.seen.links[..., last(LINK_COLUMNS, name)].tolist()

    def pair(self, name: str) -> list[list[float]]:
        return self.seen.pairs[..., last(PAIR_COLUMNS, name)].tolist()

    def whole(self, name: str) -> float:
        return float(self.seen.graph[last(GRAPH_COLUMNS, name)])


def last(names: tuple[str, ...], name: str) -> int:
    return len(names) - 1 - names[::-1].index(name)


def about(values: object) -> object:
    return pytest.approx(np.array(values), abs=1e-6)


@pytest.fixture
def example() -> Columns:
    """d0 runs `a` until 1 and `d` until 2; 2 bytes of `a` reach d1 at 3, where `c` runs until 5
    and `b`, which reads `a`, until 6."""
    graph = graph_of(
        op("a", 1.0, (), 2, resident_bytes=10), op("b", 1.0, ("a",)), op("c", 5.0), op("d", 1.0)
    )
    cluster = toy_cluster(2, memory_bytes=20)
    larger = replace(cluster.devices[1], memory_bytes=40)
    cluster = replace(cluster, devices=(cluster.devices[0], larger))
    instance = Instance("", Problem(graph, cluster))
    plan = Plan.of(np.array([0, 1, 1, 0]), np.array([3.0, 0.0, 9.0, 1.0]))
    return Columns(observe(instance, Previous(plan, instance.evaluator.trace(plan))))


def test_times_of_ops(example: Columns) -> None:
    assert example.op("ran") == [1, 1, 1, 1]
    assert example.op("start") == about([0, 5 / 6, 0, 1 / 6])
    assert example.op("end") == about([1 / 6, 1, 5 / 6, 2 / 6])
    assert example.op("busy") == about([share(1 / 6), share(1 / 6), share(5 / 6), share(1 / 6)])
    assert example.op("priority") == about([2 / 3, 0, 1, 1 / 3])


def test_slack_and_what_is_critical(example: Columns) -> None:
    assert example.op("slack") == about([2 / 6, 0, 0, 4 / 6])
    assert example.op("slack_log") == about([share(2 / 6), 0, 0, share(4 / 6)])
    assert example.op("critical") == [0, 1, 1, 0]


def test_causes_of_waiting(example: Columns) -> None:
    """`b` could start at 3 and waits for `c`; `d` could start at 0 and waits for `a`."""
    assert example.op("queued") == about([0, share(2 / 6), 0, share(1 / 6)])
    assert example.op("held_by_queue") == [0, 1, 0, 1]
    assert example.op("transfer_wait") == about([0, share(2 / 6), 0, 0])
    assert example.op("held_by_transfer") == [0, 0, 0, 0]
    assert example.op("held_by_input") == [0, 0, 0, 0]
    graph = graph_of(op("a", 1.0, (), 2), op("b", 1.0, ("a",)), op("c", 1.0, ("a",)))
    instance = Instance("", Problem(graph, toy_cluster(2)))
    plan = Plan.of(np.array([0, 1, 0]))
    seen = Columns(observe(instance, Previous(plan, instance.evaluator.trace(plan))))
    assert seen.op("held_by_transfer") == [0, 1, 0]
    assert seen.op("held_by_input") == [0, 0, 1]


def test_what_is_sent(example: Columns) -> None:
    assert example.op("sent_seconds") == about([share(2 / 6), 0, 0, 0])
    assert example.op("received_seconds") == about([0, share(2 / 6), 0, 0])
    assert example.op("sent_copies") == about([math.log(2) / math.log(1000), 0, 0, 0])
    assert example.edge("crosses") == [1]
    assert example.edge("transfer") == about([share(2 / 6)])
    assert example.edge("link_wait") == [0]
    assert example.edge("slack") == about([share(2 / 6)])
    assert example.edge("is_cause") == [1]
    assert example.link("busy") == about([[0, 2 / 6], [0, 0]])
    assert example.link("waited") == [[0, 0], [0, 0]]


def test_what_devices_do_and_hold(example: Columns) -> None:
    """On d0 the 2 bytes of `a` lie until they are sent, on d1 until `b` is done."""
    assert example.device("busy") == about([2 / 6, 1])
    assert example.device("peak_share") == about([12 / 20, 2 / 40])
    assert example.device("resident_share") == about([10 / 20, 0])
    assert example.device("op_share") == [0.5, 0.5]
    assert example.device("sent_seconds") == about([2 / 6, 0])
    assert example.device("received_seconds") == about([0, 2 / 6])
    assert example.device("critical_busy") == about([0, 1])
    held = 2 / 20 * 3 + 2 / 40 * (6 - 1)
    assert example.op("memory_seconds") == about([share(held / 6), 0, 0, 0])


def test_what_moves_would_bring(example: Columns) -> None:
    assert example.pair("is_previous") == [[1, 0], [0, 1], [0, 1], [1, 0]]
    sending = share(2 / 6)
    assert example.pair("pull_seconds") == about([[0, 0], [0, sending], [0, 0], [0, 0]])
    assert example.pair("push_seconds") == about([[sending, 0], [0, 0], [0, 0], [0, 0]])
    assert example.pair("inputs_here") == [[0, 0], [1, 0], [0, 0], [0, 0]]
    assert example.pair("outputs_here") == [[0, 1], [0, 0], [0, 0], [0, 0]]
    # `b` is ready at 3 on d1 and would be at 1 on d0.
    assert example.pair("arrival")[1] == about([-2 / 6, 0])
    # d0 is busy until 2, d1 all the time; `d` runs from 1 to 2 and its window is 0.02 longer.
    window = 1 + 2 * 0.02 * 6
    assert example.pair("busy_around")[3] == about([(1 + 0.12) / window, 1])


def seen_on(graph: Graph, cluster: Cluster, devices: list[int], fusion: object = None) -> Columns:
    instance = Instance("", Problem(graph, cluster))
    plan = Plan.of(np.array(devices), None, None if fusion is None else np.array(fusion))
    return Columns(observe(instance, Previous(plan, instance.evaluator.trace(plan))))


def test_links_have_a_direction() -> None:
    """d1 sends four times as fast as d0; `a` is read on both."""
    cluster = toy_cluster(2)
    links = tuple(
        replace(link, bytes_per_second=4.0 if link.source == "d1" else 1.0)
        for link in cluster.links
    )
    graph = graph_of(op("a", 1.0, (), 2), op("b", 1.0, ("a",)), op("c", 1.0, ("a",)))
    seen = seen_on(graph, replace(cluster, links=links), [0, 1, 0])  # 4 seconds
    slow, fast = share(2 / 4), share(0.5 / 4)
    assert seen.pair("push_seconds")[0] == about([slow, fast])
    assert seen.pair("pull_seconds")[1:] == about([[0, slow], [0, slow]])


def test_a_transfer_waits_for_its_link() -> None:
    """`a` is sent from 1 to 3; `b` is there at 2 and is sent from 3 to 5."""
    graph = graph_of(op("a", 1.0, (), 2), op("b", 1.0, (), 2), op("c", 1.0, ("a", "b")))
    seen = seen_on(graph, toy_cluster(2), [0, 0, 1])  # 6 seconds
    assert seen.edge("link_wait") == about([0, share(1 / 6)])
    assert seen.edge("transfer") == about([share(2 / 6), share(3 / 6)])
    assert seen.edge("is_cause") == [0, 1]
    assert seen.link("waited")[0] == about([0, share(1 / 6)])


def test_weights_never_cross() -> None:
    weight = OpRecord("w", "W", OpKind.CONSTANT, outputs=(OutputTensor("w", 8, Storage.WEIGHT),))
    graph = graph_of(weight, op("b", 1.0, ("w",)))
    seen = seen_on(graph, toy_cluster(2), [0, 1])
    assert seen.edge("crosses") == [0]
    assert seen.op("sent_copies") == [0, 0]
    assert seen.pair("pull_seconds") == [[0, 0], [0, 0]]


def test_of_a_kernels_transfers_the_last_counts() -> None:
    """The kernel ends at 2, its results of 4 and 2 bytes are on the other device at 6 and 8."""
    soft = OpKind.ELEMENTWISE
    both = OpRecord(
        "b", "B", soft, inputs=("a",), flops=1.0,
        outputs=(OutputTensor("b", 4), OutputTensor("b2", 2)),
    )  # fmt: skip
    graph = graph_of(op("a", 1.0, (), 1, soft), both, op("c", 1.0, ("b", "b2")))
    seen = seen_on(graph, toy_cluster(2), [0, 0, 1], [1, 1, -1])  # 9 seconds
    assert seen.edge("transfer") == about([0, share(6 / 9), share(6 / 9)])


def test_the_whole(example: Columns) -> None:
    assert example.whole("ran") == 1
    assert example.whole("fits") == 1
    assert example.whole("above_bound") == pytest.approx(math.log10(6 / 5), abs=1e-6)
    assert example.whole("mean_busy") == pytest.approx((2 + 6) / 2 / 6)
    assert example.whole("critical_sending") == 0


def test_before_a_plan_has_run_all_trace_columns_are_zero() -> None:
    instance = Instance("", Problem(two_chains(), toy_cluster(2)))
    seen = Columns(observe(instance))
    assert not any(any(seen.op(name)) for name in OP_TRACE_FEATURES)
    assert seen.whole("ran") == 0
    assert not np.any(seen.pair("is_previous"))
    assert (seen.seen.previous == -1).all()


def test_static_columns() -> None:
    seen = Columns(observe(Instance("", Problem(two_chains(), toy_cluster(2)))))
    assert seen.op("seconds") == about([share(1 / 3)] * 5)
    assert seen.op("in_degree") == about(np.log1p([0, 1, 0, 1, 2]) / math.log(1000))
    assert seen.op("out_degree") == about(np.log1p([1, 1, 1, 1, 0]) / math.log(1000))
    assert seen.op("rank_up_local") == about([1, 2 / 3, 1, 2 / 3, 1 / 3])
    assert seen.op("rank_down_local") == about([0, 1 / 3, 0, 1 / 3, 2 / 3])
    assert seen.op("depth") == about([0, 0.5, 0, 0.5, 1])
    assert seen.op("position") == about([0, 0.25, 0.5, 0.75, 1])
    assert seen.op("is_contraction") == [1] * 5
    assert seen.seen.edge_ops.tolist() == [[0, 1, 2, 3], [1, 4, 3, 4]]
    assert seen.seen.legal.all()
    assert seen.device("slot") == [0, 0.5]


def traced(
    graph: Graph, cluster: Cluster, seed: int, fuse: bool = False
) -> tuple[Problem, Plan, Trace]:
    problem = Problem(graph, cluster)
    devices = random_devices(graph, cluster, seed)
    fusion = xla_like_groups(graph, devices) if fuse else None
    rng = np.random.default_rng(seed)
    plan = Plan.of(devices, rng.permutation(graph.op_count).astype(float), fusion)
    return problem, plan, problem.simulator.trace(plan)


def makespan_if_late(trace: Trace, late_op: int, late: float) -> float:
    """The makespan if an op ends later, each device keeps its order, and sending takes as long."""
    graph = trace.graph
    sent = {
        (int(tensor), int(target)): float(arrival)
        for tensor, target, arrival in zip(
            trace.transfer_tensors, trace.transfer_targets, trace.transfer_arrival, strict=True
        )
    }
    delay = np.zeros(graph.op_count)
    settled = np.zeros(graph.op_count, bool)

    def settle(current: int) -> None:
        """Work out an op's delay after those of all that it waits for."""
        settled[current] = True
        before = [int(trace.previous[current])] if trace.previous[current] >= 0 else []
        spare = [trace.start[current] - trace.end[before[0]]] if before else []
        first, end = graph.input_offsets[current], graph.input_offsets[current + 1]
        for edge in graph.input_edges[first:end]:
            tensor = int(graph.edge_tensors[edge])
            producer = int(graph.tensor_producers[tensor])
            key = (tensor, int(trace.devices[current]))
            before.append(producer)
            spare.append(trace.start[current] - sent.get(key, trace.end[producer]))
        for other, room in zip(before, spare, strict=True):
            if not settled[other]:
                settle(other)
            delay[current] = max(delay[current], delay[other] - room)
        if current == late_op:
            delay[current] += late

    for current in range(graph.op_count):
        if not settled[current]:
            settle(current)
    return float((trace.end + delay).max())


@pytest.mark.parametrize("seed", [*range(8), 39])
def test_slack_is_how_late_an_op_may_be(seed: int) -> None:
    graph, cluster = random_graph(seed, 40), random_cluster(seed + 1)
    if seed % 2:  # on these every sixth op takes no time, though it waits for the device
        cluster = toy_cluster(3, ROOMY, bytes_per_second=20.0)
    problem, plan, trace = traced(graph, cluster, seed)
    column = OP_TRACE_FEATURES.index("slack")
    slack = trace_features(problem, plan, trace).ops[:, column] * trace.makespan_seconds
    assert (slack > 0).any() and (slack == 0).any()
    for one in range(graph.op_count):
        room = float(slack[one])
        within, beyond = max(room - 1e-3, 0.0), room + 1e-2
        assert makespan_if_late(trace, one, within) == pytest.approx(trace.makespan_seconds)
        assert makespan_if_late(trace, one, beyond) > trace.makespan_seconds + 1e-3


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("fuse", [False, True], ids=["unfused", "fused"])
def test_observations_are_finite_and_in_their_space(seed: int, fuse: bool) -> None:
    graph, cluster = random_graph(seed, 30), random_cluster(seed)
    problem, plan, trace = traced(graph, cluster, seed, fuse)
    seen = observe(Instance("", problem), Previous(plan, trace))
    count = cluster.device_count
    sample = as_space_sample(seen)
    assert observation_space(problem, count).contains(sample)
    assert observation_space(None, count + 2).contains(as_space_sample(seen, count + 2))
    for values in (seen.ops, seen.edges, seen.devices, seen.links, seen.graph, seen.pairs):
        assert np.isfinite(values).all()
        assert np.abs(values).max(initial=0.0) <= 8.0
    back = from_sample(as_space_sample(seen, count + 2))
    for name in Observation.__dataclass_fields__:
        before, after = getattr(seen, name), getattr(back, name)
        assert before.dtype == after.dtype, name
        assert np.array_equal(before, after), name
        assert not np.shares_memory(before, after), name


def test_graphs_of_one_op_and_clusters_of_one_device() -> None:
    instance = Instance("", Problem(graph_of(op("a", 1.0)), toy_cluster(1)))
    plan = instance.portfolio.plan
    seen = observe(instance, Previous(plan, instance.evaluator.trace(plan)))
    assert np.isfinite(seen.ops).all() and np.isfinite(seen.devices).all()
    assert observation_space(instance.problem, 1).contains(as_space_sample(seen))
    assert from_sample(as_space_sample(seen)).links.shape == (1, 1, len(LINK_COLUMNS))


def distinct_cluster() -> Cluster:
    """Three devices and six links, no two alike."""
    cluster = toy_cluster(3, ROOMY)
    devices = tuple(
        replace(device, flops_per_second={"float32": 1.0 + index / 7}, memory_bytes=ROOMY + index)
        for index, device in enumerate(cluster.devices)
    )
    links = tuple(
        replace(link, bytes_per_second=11.0 + index * 0.37, latency_seconds=0.01 * (index + 1))
        for index, link in enumerate(cluster.links)
    )
    return Cluster("distinct", devices, links)


@pytest.mark.parametrize("seed", range(3))
def test_observations_follow_devices_that_are_renumbered(seed: int) -> None:
    graph, cluster = random_graph(seed, 40), distinct_cluster()
    order = np.array([2, 0, 1])
    renumbered = Cluster(
        "renumbered", tuple(cluster.devices[index] for index in order), cluster.links
    )
    problem, plan, trace = traced(graph, cluster, seed)
    moved = Plan.of(np.argsort(order)[plan.devices], np.array(plan.priorities))
    seen = observe(Instance("", problem), Previous(plan, trace))
    other_instance = Instance("", Problem(graph, renumbered))
    other = observe(other_instance, Previous(moved, other_instance.evaluator.trace(moved)))
    for name in ("ops", "edges", "graph"):
        assert np.allclose(getattr(seen, name), getattr(other, name), atol=1e-5), name
    assert np.allclose(seen.devices[order], other.devices, atol=1e-5)
    assert np.allclose(seen.links[order][:, order], other.links, atol=1e-5)
    assert np.allclose(seen.pairs[:, order], other.pairs, atol=1e-5)
    assert (seen.legal[:, order] == other.legal).all()


def test_slots_tell_alike_devices_apart_by_their_links() -> None:
    """Two pairs of fast links: a slot and the next are neighbours, however devices are numbered."""
    cluster = toy_cluster(4, bytes_per_second=1.0)
    pairs = ({"d0", "d3"}, {"d1", "d2"})
    links = tuple(
        replace(link, bytes_per_second=8.0) if {link.source, link.target} in pairs else link
        for link in cluster.links
    )
    instance = Instance("", Problem(two_chains(), replace(cluster, links=links)))
    assert instance.slots.tolist() == [0, 2, 3, 1]


def test_a_fused_plan_shows_each_op_its_kernels_times() -> None:
    """`a` and `b` are one kernel from 0 to 2; `c`, a product, follows from 2 to 5."""
    soft = OpKind.ELEMENTWISE
    graph = graph_of(
        op("a", 1.0, (), 4, soft), op("b", 1.0, ("a",), 4, soft), op("c", 3.0, ("b",), 4)
    )
    instance = Instance("", Problem(graph, toy_cluster(2)))
    plan = Plan.of(np.zeros(3, int), None, np.array([1, 1, -1]))
    trace = instance.evaluator.trace(plan)
    assert trace.graph.op_count == 2
    seen = Columns(observe(instance, Previous(plan, trace)))
    assert seen.op("start") == about([0, 0, 2 / 5])
    assert seen.op("end") == about([2 / 5, 2 / 5, 1])
    assert seen.op("is_fused") == [1, 1, 0]
    assert seen.op("critical") == [1, 1, 1]
    assert seen.edge("is_cause") == [0, 1]
    # Fused within and sent elsewhere: the edge inside the kernel does not cross.
    torn = Plan.of(np.array([0, 0, 1]), None, np.array([1, 1, -1]))
    seen = Columns(observe(instance, Previous(torn, instance.evaluator.trace(torn))))
    assert seen.edge("crosses") == [0, 1]
    assert seen.edge("transfer") == about([0, share(4 / 9)])
    assert seen.op("start") == about([0, 0, 6 / 9])
