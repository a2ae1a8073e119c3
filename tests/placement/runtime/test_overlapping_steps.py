"""Steps that overlap on real cores: outputs of each as onnxruntime alone gives them."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from device_models import core_cluster, crossing, write_model
from onnx import TensorProto, helper

import graphs
from agent.cli.app import run
from placement.plan_file import PlanDocument, write_plan
from placement.runtime.errors import RuntimeRefusal
from placement.runtime.measurement import Clock
from placement.runtime.ort.feeds import carried_state
from placement.runtime.ort.runtime import OrtSource, open_ort
from placement.runtime.pipelines.measuring import check_overlaps, measure_steps
from placement.runtime.pipelines.prediction import predict_steps, predicted_steps
from placement.runtime.programs.prediction import ProgramPredictor
from placement.runtime.programs.program_runtime import ProgramRuntime
from placement.runtime.samples import Sampling
from simulator.cluster_file import dump_cluster
from simulator.plan import Plan
from simulator.steps import StepOrder, StepSchedule

QUICK = Sampling(rounds=2, clock=Clock.VIRTUAL, timeout_seconds=20.0)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return crossing(tmp_path_factory.mktemp("models") / "crossing.onnx")


@pytest.fixture(scope="module")
def runtime(path: Path) -> Iterator[ProgramRuntime]:
    graph = graphs.load(path, {"batch": 8})
    with open_ort(path, graph, core_cluster(), dims={"batch": 8}, sampling=QUICK) as device:
        yield device


def zigzag(runtime: ProgramRuntime) -> Plan:
    """Every op on the other device: each step goes back and forth all the time."""
    return Plan.of(np.arange(runtime.graph.op_count) % runtime.cluster.device_count)


@pytest.mark.parametrize("in_flight", [1, 2, 5])
def test_outputs_of_every_step_are_the_originals_whatever_the_plan(
    runtime: ProgramRuntime, in_flight: int
) -> None:
    count = runtime.graph.op_count
    halves = (np.arange(count) >= count // 2).astype(np.int32)
    anywhere = np.random.default_rng(in_flight).integers(0, 2, count)
    plans = [zigzag(runtime), Plan.of(halves), Plan.of(anywhere), Plan.of(np.ones(count, np.int32))]
    schedule = StepSchedule(11, in_flight)
    for plan, found in zip(plans, measure_steps(runtime, plans, schedule), strict=True):
        pieces = [len(steps) for steps in runtime.program(plan).steps]
        assert [len(seconds) for seconds in found.piece_seconds] == pieces
        assert found.failure is None
        assert found.period.checked
        assert len(found.period.rounds) == QUICK.rounds
        assert 0.0 < found.period.seconds < float("inf")
        assert found.schedule is schedule


def test_outputs_of_another_step_are_a_failed_measurement(
    runtime: ProgramRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = runtime.source
    assert isinstance(source, OrtSource)
    steps = source._different_steps(3)
    names = list(steps[0][1])
    assert all(not np.array_equal(steps[0][1][name], steps[1][1][name]) for name in names)
    swapped = [(steps[0][0], steps[1][1]), (steps[1][0], steps[0][1]), steps[2]]
    monkeypatch.setattr(source, "_steps", swapped)
    found = measure_steps(runtime, [zigzag(runtime)], StepSchedule(6, 2))[0]
    assert not found.ok
    assert "it is that of another step" in str(found.failure)
    assert found.steps_per_second == 0.0


def test_more_outputs_than_can_be_kept_are_refused(
    runtime: ProgramRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two outputs of 8 x 96 numbers in single precision.
    monkeypatch.setattr("placement.runtime.ort.runtime._MOST_KEPT_BYTES", 2 * 8 * 96 * 4 * 5)
    assert measure_steps(runtime, [zigzag(runtime)], StepSchedule(5, 2))[0].ok
    with pytest.raises(RuntimeRefusal, match="at most --steps 5"):
        measure_steps(runtime, [zigzag(runtime)], StepSchedule(6, 2))
    assert measure_steps(runtime, [zigzag(runtime)], StepSchedule(5, 2))[0].ok


def test_a_killed_worker_is_one_failure_and_the_next_plan_runs(runtime: ProgramRuntime) -> None:
    plan = zigzag(runtime)
    assert measure_steps(runtime, [plan], StepSchedule(6, 2))[0].ok
    survivor, victim = runtime.process_ids
    killer = threading.Timer(0.3, os.kill, (victim, signal.SIGKILL))
    killer.start()
    found = measure_steps(
        runtime, [plan], StepSchedule(400, 3), Sampling(rounds=200, clock=Clock.VIRTUAL)
    )[0]
    killer.join()
    assert "killed by SIGKILL" in str(found.failure)
    assert runtime.process_ids == (survivor,), "its peer was told to give up, and lives on"
    assert measure_steps(runtime, [plan], StepSchedule(6, 2))[0].ok


@pytest.mark.slow
def test_more_devices_than_cores_are_emulated_and_nothing_is_left(path: Path) -> None:
    graph = graphs.load(path, {"batch": 8})
    cluster = core_cluster(len(os.sched_getaffinity(0)) + 1)
    quick = Sampling(rounds=1)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with open_ort(path, graph, cluster, dims={"batch": 8}, sampling=quick) as runtime:
        found = measure_steps(runtime, [zigzag(runtime)], StepSchedule(6, 3))[0]
        workers = runtime.process_ids
        assert len(workers) == cluster.device_count
    assert found.ok
    assert found.period.clock is Clock.EMULATED
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_too_many_steps_on_the_way_for_the_memory_are_a_failure(path: Path) -> None:
    graph = graphs.load(path, {"batch": 1000})
    cluster = core_cluster(2, 64 << 20)
    quick = Sampling(rounds=1)
    with open_ort(path, graph, cluster, dims={"batch": 1000}, sampling=quick) as runtime:
        few, many = (
            measure_steps(runtime, [zigzag(runtime)], StepSchedule(20, in_flight))[0]
            for in_flight in (1, 20)
        )
    assert few.failure is None
    assert "allocate" in str(many.failure)
    assert "20 steps were on the way, each with buffers of its own: take fewer" in str(many.failure)


def test_steps_do_not_overlap_everywhere(runtime: ProgramRuntime) -> None:
    for kind, why in (("tf", "share its variables"), ("torch", "the same numbers")):
        with pytest.raises(RuntimeRefusal, match=f"--runtime {kind}: .*{why}.* leave out --steps"):
            check_overlaps(kind)
    with pytest.raises(RuntimeRefusal, match="oldest first, not by 1f1b"):
        measure_steps(runtime, [], StepSchedule(4, 2, StepOrder.ONE_F_ONE_B))


def test_shapes_that_depend_on_inputs_are_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["places"], "places"),
        helper.make_node("ReduceSum", ["places"], ["out"], "sum", keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "sparse",
        [helper.make_tensor_value_info("x", TensorProto.BOOL, [64])],
        [helper.make_tensor_value_info("out", TensorProto.INT64, [])],
    )
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    path = write_model(tmp_path / "sparse.onnx", model)
    loaded = graphs.load(path, allow_unknown=True)
    with (
        open_ort(path, loaded, core_cluster(), sampling=QUICK) as runtime,
        pytest.raises(RuntimeRefusal, match="shape of 'places' depends on values"),
    ):
        measure_steps(runtime, [zigzag(runtime)], StepSchedule(4, 2))


def test_one_step_in_flight_is_predicted_as_steps_one_by_one(runtime: ProgramRuntime) -> None:
    simulator = runtime.simulator
    predictor = ProgramPredictor(simulator)
    count = runtime.graph.op_count
    halves = Plan.of((np.arange(count) >= count // 2).astype(np.int32))
    for plan in (zigzag(runtime), halves):
        alone = predictor.evaluate(plan).makespan_seconds
        one = predict_steps(predictor, plan, StepSchedule(8, 1)).evaluation()
        assert one.period_seconds == pytest.approx(alone)
        full = predict_steps(predictor, plan, StepSchedule(8, 4)).evaluation()
        assert full.period_seconds < 0.95 * alone
    assert predicted_steps(simulator, halves, StepSchedule(8, 4)).period_seconds > 0.0


def test_names_tell_which_inputs_carry_state() -> None:
    taken = ["ids", "past_key_values.3.value", "past_1", "h", "x"]
    made = ["logits", "present.3.value", "present_1", "hn", "xy"]
    assert carried_state(taken, made) == [
        ("past_key_values.3.value", "present.3.value"),
        ("past_1", "present_1"),
        ("h", "hn"),
    ]


def stateful(path: Path) -> Path:
    """A sum that is handed from step to step."""
    kind = TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["x", "past_0"], ["present_0"], "add"),
            helper.make_node("Relu", ["present_0"], ["y"], "relu"),
        ],
        "sum",
        [helper.make_tensor_value_info(name, kind, [4]) for name in ("x", "past_0")],
        [helper.make_tensor_value_info(name, kind, [4]) for name in ("y", "present_0")],
    )
    opsets = [helper.make_opsetid("", 17)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return write_model(path, model)


def test_measure_says_period_latency_and_what_was_predicted(
    path: Path, runtime: ProgramRuntime, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = tmp_path / "cores.yaml"
    cluster.write_text(dump_cluster(core_cluster()), encoding="utf-8")
    plan = zigzag(runtime)
    plan_file = tmp_path / "plan.json"
    write_plan(PlanDocument(plan), runtime.graph, runtime.cluster, plan_file)
    tokens = ["measure", str(path), "--cluster", str(cluster), "--dim", "batch=8"]
    tokens += ["--plan", str(plan_file), "--repeats", "2"]
    assert run([*tokens, "--steps", "8", "--in-flight", "2", "--compare", "single", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["steps"] == 8
    assert document["in_flight"] == 2
    assert document["state_between_steps"] == []
    first, single = document["plans"]
    assert first["plan"] == str(plan_file)
    assert single["plan"] == "single"
    for item in (first, single):
        low, high = item["period_interval"]
        assert low <= item["period_seconds"] <= high
        assert item["steps_per_second"] == pytest.approx(1.0 / item["period_seconds"])
        assert item["latency_seconds"] > 0.0
        assert item["outputs_checked"]
    schedule = StepSchedule(8, 2)
    guess = predicted_steps(runtime.simulator, plan, schedule)
    assert first["predicted_period_seconds"] == pytest.approx(guess.period_seconds)

    for wrong, message in (
        (["--steps", "8", "--in-flight", "9"], "at most as many as there are steps, --steps 8"),
        (["--steps", "8", "--in-flight", "0"], "--in-flight 0: at least 1"),
        (["--steps", "0"], "--steps 0: at least 1"),
        (["--in-flight", "2"], "say with --steps how many run"),
        (["--steps", "8", "--trace", str(tmp_path / "t.json")], "leave out --steps or --trace"),
        (["--steps", "8", "--runtime", "torch"], "steps do not overlap on --runtime torch"),
    ):
        assert run([*tokens, *wrong]) == 2
        assert message in capsys.readouterr().err


def test_measure_says_that_steps_with_state_are_taken_as_requests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = tmp_path / "cores.yaml"
    cluster.write_text(dump_cluster(core_cluster()), encoding="utf-8")
    model = stateful(tmp_path / "sum.onnx")
    tokens = ["measure", str(model), "--cluster", str(cluster), "--compare", "single"]
    assert run([*tokens, "--steps", "4", "--repeats", "1"]) == 0
    printed = " ".join(capsys.readouterr().out.split())  # lines break where the path is long
    assert "'present_0' would be 'past_0' of the next step" in printed
    assert "every step is a request of its own" in printed
    assert "4 steps, 3 in flight" in printed
