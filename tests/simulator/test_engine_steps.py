"""Steps that overlap: the compiled engine against the one in plain Python, and by hand."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from graph_samples import (
    graph_of,
    op,
    random_cluster,
    random_devices,
    random_graph,
    toy_cluster,
    with_hosts,
)

from graphs.builder import OutputTensor
from graphs.graph import Graph
from graphs.kinds import OpKind, Phase, Storage
from simulator.clusters.cluster import Cluster
from simulator.errors import PlanError
from simulator.event_engine.reference import simulate_reference
from simulator.plan import Plan
from simulator.simulator import Simulator, simulate
from simulator.steps import StepOrder, StepSchedule, StepsEvaluation
from simulator.traces.steps_trace import StepsTrace


def as_inference(graph: Graph) -> Graph:
    """The graph with all ops in the forward pass."""
    return replace(graph, phases=np.zeros(graph.op_count, np.uint8))


def as_training(graph: Graph, seed: int) -> Graph:
    """The graph with phases in topological order, here and there one that does not fit."""
    rng = np.random.default_rng(seed)
    place = np.arange(graph.op_count) / graph.op_count
    phases = np.where(
        place < 0.45, Phase.FORWARD, np.where(place < 0.85, Phase.BACKWARD, Phase.UPDATE)
    )
    odd = rng.random(graph.op_count) < 0.05
    phases = np.where(odd & (phases == Phase.UPDATE), Phase.BACKWARD, phases)
    return replace(graph, phases=phases.astype(np.uint8))


def random_schedule(seed: int) -> StepSchedule:
    rng = np.random.default_rng(seed)
    steps = int(rng.integers(1, 8))
    order = list(StepOrder)[seed % 3]
    in_flight = steps if order == StepOrder.GPIPE else int(rng.integers(1, steps + 3))
    return StepSchedule(steps, in_flight, order)


def compare(seed: int, *, hosts: bool = False, training: bool = False) -> None:
    graph = random_graph(seed, 6 + seed % 60)
    graph = as_training(graph, seed) if training else as_inference(graph)
    cluster = with_hosts(random_cluster(seed), seed) if hosts else random_cluster(seed)
    simulator = Simulator.of(graph, cluster)
    priorities = np.random.default_rng(seed).integers(0, 9, graph.op_count).astype(float)
    plan = Plan.of(random_devices(graph, cluster, seed), priorities)
    schedule = random_schedule(seed)
    expected = simulate_reference(
        graph, cluster, simulator.seconds, plan.devices, plan.ranks, schedule=schedule
    )
    trace = simulator.trace_steps(plan, schedule)
    for found in (trace.evaluation, simulator.evaluate_steps(plan, schedule)):
        assert found.makespan_seconds == expected.makespan
        assert found.peak_bytes == expected.peak_bytes
        assert dict(enumerate(found.release_seconds.tolist())) == {
            row: at for row, at in expected.released.items() if row < schedule.steps
        }
        assert dict(enumerate(found.end_seconds.tolist())) == {
            row: at for row, at in expected.ended.items() if row < schedule.steps
        }
        assert found.busy_seconds == expected.busy
    tasks = list(zip(*(axis.tolist() for axis in np.nonzero(trace.ran)), strict=True))
    assert {task: float(trace.start[task]) for task in tasks} == expected.start
    assert {task: float(trace.end[task]) for task in tasks} == expected.end
    columns = (
        trace.transfer_rows,
        trace.transfer_tensors,
        trace.transfer_targets,
        trace.transfer_start,
        trace.transfer_arrival,
    )
    assert tuple(zip(*(column.tolist() for column in columns), strict=True)) == expected.transfers
    for device in range(cluster.device_count):
        _, levels = trace.memory_timeline(device)
        assert levels[-1] == trace.resident_bytes[device], "all is given back in the end"
        if not hosts:  # whose ops may start and end at one instant
            assert levels.max() == trace.evaluation.peak_bytes[device]


@pytest.mark.parametrize("batch", range(4))
def test_kernel_equals_reference(batch: int) -> None:
    for seed in range(12 * batch, 12 * batch + 12):
        compare(seed)
        compare(seed, training=True)
        compare(seed, hosts=True, training=seed % 2 == 0)


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(10))
def test_kernel_equals_reference_on_a_thousand(batch: int) -> None:
    for seed in range(1000 + 100 * batch, 1100 + 100 * batch):
        compare(seed, hosts=seed % 5 == 0)
        compare(seed, training=True, hosts=seed % 7 == 0)


def test_one_step_of_inference_is_the_usual_simulation() -> None:
    for seed in range(20):
        graph, cluster = as_inference(random_graph(seed, 50)), random_cluster(seed)
        plan = Plan.of(random_devices(graph, cluster, seed))
        simulator = Simulator.of(graph, cluster)
        found, usual = simulator.evaluate_steps(plan, StepSchedule(1, 3)), simulator.evaluate(plan)
        assert found.makespan_seconds == usual.makespan_seconds
        assert found.peak_bytes == usual.peak_bytes
        assert found.period_seconds == found.latency_seconds == usual.makespan_seconds


def chain(in_flight: int, steps: int = 4) -> StepsTrace:
    """Two seconds on one device, a second on the wire, a second on the other device."""
    graph = graph_of(op("a", 2, output_bytes=1), op("b", 1, ("a",), 8))
    plan = Plan.of(np.array([0, 1]))
    return simulate(graph, toy_cluster(2), plan, steps=steps, in_flight=in_flight)


def test_steps_one_at_a_time() -> None:
    found = chain(in_flight=1).evaluation
    assert found.release_seconds.tolist() == [0, 4, 8, 12]
    assert found.end_seconds.tolist() == [4, 8, 12, 16]
    assert (found.period_seconds, found.latency_seconds) == (4, 4)


def test_a_step_is_released_when_the_one_in_flight_before_it_ends() -> None:
    trace = chain(in_flight=2)
    assert trace.evaluation.release_seconds.tolist() == [0, 0, 4, 6]
    assert trace.start.tolist() == [[0, 3], [2, 5], [4, 7], [6, 9]]
    assert trace.evaluation.end_seconds.tolist() == [4, 6, 8, 10]
    assert (trace.evaluation.period_seconds, trace.evaluation.latency_seconds) == (2, 4)
    assert trace.evaluation.busy_seconds == (8, 4)
    assert trace.evaluation.steps_per_second == 0.5


def test_activations_are_held_for_each_step_and_weights_once() -> None:
    # The second device is slow, so that outputs of the first pile up there: 10 bytes a step.
    weight = replace(
        op("w", 0, kind=OpKind.CONSTANT), outputs=(OutputTensor("w", 100, Storage.WEIGHT),)
    )
    graph = graph_of(weight, op("a", 1, ("w",), 10), op("b", 50, ("a", "w")))
    plan = Plan.of(np.array([0, 0, 1]))
    cluster = toy_cluster(2, bytes_per_second=1e6)
    peaks = [
        simulate(graph, cluster, plan, steps=6, in_flight=count).evaluation.peak_bytes
        for count in (1, 2, 4, 99)
    ]
    assert peaks == [(110, 110), (120, 120), (120, 140), (120, 160)]


#: A forward and a backward op on each of two stages, a second each, transfers free.
TRAINING = (
    op("f0", 1, output_bytes=7),
    op("f1", 1, ("f0",), 0),
    op("b1", 1, ("f1",), 0, phase=Phase.BACKWARD),
    op("b0", 1, ("b1", "f0"), 0, phase=Phase.BACKWARD),
)


def train(order: StepOrder, steps: int = 3, in_flight: int = 3) -> StepsTrace:
    cluster = toy_cluster(2, bytes_per_second=1e300)
    plan = Plan.of(np.array([0, 1, 1, 0]))
    return simulate(
        graph_of(*TRAINING), cluster, plan, steps=steps, in_flight=in_flight, order=order
    )


def test_gpipe_by_hand() -> None:
    trace = train(StepOrder.GPIPE)
    assert trace.start.T.tolist() == [[0, 1, 2], [1, 2, 3], [4, 5, 6], [5, 6, 7]]
    assert trace.evaluation.makespan_seconds == 8  # 2 (micro-batches + stages - 1)
    assert trace.evaluation.bubble == 0.25
    assert trace.evaluation.peak_bytes[0] == 21


def test_1f1b_by_hand() -> None:
    trace = train(StepOrder.ONE_F_ONE_B)
    assert trace.start.T.tolist() == [[0, 1, 4], [1, 3, 5], [2, 4, 6], [3, 5, 7]]
    assert trace.evaluation.makespan_seconds == 8
    assert trace.evaluation.peak_bytes[0] == 14, "two micro-batches, not three, are held"


def test_gpipe_holds_all_micro_batches_and_1f1b_as_many_as_stages() -> None:
    held = {order: train(order, 20, 20).evaluation.peak_bytes[0] for order in StepOrder}
    assert held[StepOrder.GPIPE] == 20 * 7
    assert held[StepOrder.ONE_F_ONE_B] == 2 * 7


def test_gradients_add_up_and_updates_run_once() -> None:
    graph = graph_of(
        op("f", 1),
        op("g", 1, ("f",), 10, phase=Phase.BACKWARD),
        op("u", 1, ("g",), phase=Phase.UPDATE),
    )
    plan, cluster = Plan.of(np.zeros(3)), toy_cluster(1)
    trace = simulate(graph, cluster, plan, steps=3, in_flight=3)
    assert trace.evaluation.makespan_seconds == 3 * 2 + 1
    assert trace.ran.tolist() == [[True, True, False]] * 3 + [[False, False, True]]
    assert trace.start[3, 2] == 6
    assert trace.evaluation.peak_bytes == (20,), "the sum, and a new gradient beside it"
    slow = replace(cluster.devices[0], memory_bytes_per_second=30.0)
    slower = simulate(graph, Cluster("slow", (slow,), ()), plan, steps=3, in_flight=3)
    assert slower.evaluation.makespan_seconds == 7 + 2, "two sums of 30 bytes, a second each"


def test_a_gradient_that_is_updated_elsewhere_is_sent_once() -> None:
    graph = graph_of(
        op("f", 1),
        op("g", 1, ("f",), 10, phase=Phase.BACKWARD),
        op("u", 1, ("g",), phase=Phase.UPDATE),
    )
    trace = simulate(graph, toy_cluster(2), Plan.of(np.array([0, 0, 1])), steps=4, in_flight=2)
    assert trace.transfer_start.tolist() == [8]
    assert trace.evaluation.makespan_seconds == 8 + 10 + 1


def test_what_depends_on_a_later_phase_belongs_to_it() -> None:
    """A forward op that reads a gradient does not keep GPipe from ending its forward passes."""
    graph = graph_of(*TRAINING, op("late", 1, ("b0",)))
    plan = Plan.of(np.array([0, 1, 1, 0, 0]))
    cluster = toy_cluster(2)
    found = simulate(graph, cluster, plan, steps=3, in_flight=3, order=StepOrder.GPIPE)
    assert np.isfinite(found.evaluation.end_seconds).all()


def test_out_of_memory_names_the_device() -> None:
    graph = graph_of(op("a", 1, output_bytes=10), op("b", 50, ("a",)))
    simulator = Simulator.of(graph, toy_cluster(2, memory_bytes=25, bytes_per_second=1e6))
    plan = Plan.of(np.array([0, 1]))
    assert simulator.evaluate_steps(plan, StepSchedule(9, 2)).feasible
    found = simulator.evaluate_steps(plan, StepSchedule(9, 4))
    assert "d1 runs out of memory" in str(found.failure)


@pytest.mark.parametrize(
    ("schedule", "told"),
    [
        (lambda: StepSchedule(0, 1), "at least one must run"),
        (lambda: StepSchedule(2, 0), "at least one must be on the way"),
        (lambda: StepSchedule(4, 2, StepOrder.GPIPE), "all 4 micro-batches"),
    ],
)
def test_schedules_that_make_no_sense(schedule: Callable[[], StepSchedule], told: str) -> None:
    with pytest.raises(PlanError, match=told):
        schedule()


def test_more_steps_than_the_engine_counts() -> None:
    with pytest.raises(PlanError, match="take at most"):
        chain(in_flight=2, steps=10**9)


def test_holds_between_a_step_and_the_updates_are_refused() -> None:
    graph = graph_of(*TRAINING, op("u", 1, ("b0",), phase=Phase.UPDATE))
    plan = replace(Plan.of(np.zeros(5)), holds=np.array([-1, -1, -1, -1, 0], np.int32))
    with pytest.raises(PlanError, match="place without holds"):
        simulate(graph, toy_cluster(1), plan, steps=2, in_flight=2)


def test_holds_within_a_step_hold_in_each() -> None:
    graph = graph_of(op("a", 1), op("b", 5), op("c", 1))
    plan = replace(Plan.of(np.array([0, 1, 1])), holds=np.array([1, -1, -1], np.int32))
    trace = simulate(graph, toy_cluster(2), plan, steps=3, in_flight=3)
    assert (trace.start[:, 0] >= trace.end[:, 1]).all()


def test_the_next_run_of_a_state_begins_anew() -> None:
    """Two evaluations of one plan are equal, whatever ran between them."""
    graph = as_training(random_graph(3, 60), 3)
    simulator = Simulator.of(graph, toy_cluster(3))
    plans = [Plan.of(np.arange(60) % count) for count in (3, 1, 2)]
    schedule = StepSchedule(5, 3)
    first = simulator.evaluate_steps(plans[0], schedule)
    for plan in plans:
        simulator.evaluate_steps(plan, schedule)
    again = simulator.evaluate_steps(plans[0], schedule)
    assert first.end_seconds.tolist() == again.end_seconds.tolist()
    assert first.peak_bytes == again.peak_bytes


def test_what_ends_while_the_pipeline_runs_empty_does_not_count() -> None:
    """The last four steps, after which none is let in, end a tenth of a second apart."""
    schedule = StepSchedule(steps=20, in_flight=4)
    ends = np.concatenate([np.arange(1, 17) * 2.0, 32 + np.arange(1, 5) * 0.1])
    found = StepsEvaluation(schedule, np.maximum(ends - 8, 0), ends, 33.0, (0.0,), (0,))
    assert found.period_seconds == 2
    assert found.latency_seconds == 8


def test_transfers_of_a_slow_step_keep_their_place_while_later_steps_send() -> None:
    """What a step received at its release is held to its end, and the next steps send meanwhile.

    Both steps that are on the way send `a` at once, so that the second one's is older than the
    first one's `c`, and is still there when the third step sends.
    """
    graph = graph_of(
        op("a", 0, output_bytes=5, kind=OpKind.INPUT),
        op("c", 1, output_bytes=9),
        op("b", 10, ("a", "c")),
    )
    cluster, schedule = toy_cluster(2, bytes_per_second=1e3), StepSchedule(6, 2)
    simulator, plan = Simulator.of(graph, cluster), Plan.of(np.array([0, 0, 1]))
    expected = simulate_reference(
        graph, cluster, simulator.seconds, plan.devices, plan.ranks, schedule=schedule
    )
    trace = simulator.trace_steps(plan, schedule)
    assert trace.evaluation.peak_bytes == expected.peak_bytes == (19, 28)
    assert trace.memory_timeline(1)[1][-1] == 0
    assert trace.evaluation.end_seconds.tolist() == list(expected.ended.values())
