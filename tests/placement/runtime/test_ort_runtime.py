"""Plans run on cores: outputs as onnxruntime alone gives them, and nothing survives a failure."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from device_models import core_cluster, crossing, write_model
from onnx import TensorProto, helper

import graphs
from placement.runtime.errors import RuntimeRefusal
from placement.runtime.measurement import Clock
from placement.runtime.ort.runtime import open_ort
from placement.runtime.programs.difference import difference
from placement.runtime.programs.program_runtime import ProgramRuntime
from placement.runtime.samples import Sampling
from simulator.clusters.cluster import Cluster
from simulator.clusters.presets import preset
from simulator.evaluation import Evaluator
from simulator.fusion import xla_like_groups
from simulator.plan import Plan

QUICK = Sampling(rounds=2, iterations=2, clock=Clock.VIRTUAL, timeout_seconds=20.0)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return crossing(tmp_path_factory.mktemp("models") / "crossing.onnx")


@pytest.fixture(scope="module")
def runtime(path: Path) -> Iterator[ProgramRuntime]:
    graph = graphs.load(path, {"batch": 8})
    with open_ort(path, graph, core_cluster(), dims={"batch": 8}, sampling=QUICK) as device:
        yield device


def random_plan(runtime: ProgramRuntime, seed: int) -> Plan:
    random = np.random.default_rng(seed)
    count = runtime.graph.op_count
    return Plan.of(random.integers(0, runtime.cluster.device_count, count), random.random(count))


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/status")
    return not (status.exists() and "State:\tZ" in status.read_text())


def test_random_plans_give_the_original_outputs(runtime: ProgramRuntime) -> None:
    assert isinstance(runtime, Evaluator)
    plans = [random_plan(runtime, seed) for seed in range(3)]
    for plan, found in zip(plans, runtime.measure(plans), strict=True):
        assert found.failure is None
        assert found.checked
        assert found.ok
        assert len(found.samples) == QUICK.rounds * QUICK.iterations
        program = runtime.program(plan)
        assert [len(s) for s in found.step_seconds] == [len(s) for s in program.steps]
    assert runtime.evaluate(plans[0]).source == "measured"


def test_fused_groups_run_as_one_session_and_give_the_original_outputs(
    runtime: ProgramRuntime,
) -> None:
    devices = np.zeros(runtime.graph.op_count, np.int32)
    plan = Plan.of(devices, fusion=xla_like_groups(runtime.graph, devices))
    assert plan.is_fused
    program = runtime.program(plan)
    assert any(getattr(step, "fused", False) for step in program.steps[0])
    found = runtime.measure([plan])[0]
    assert found.failure is None
    assert found.checked


def test_wrong_outputs_are_a_failed_measurement(
    runtime: ProgramRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoiled = {name: array + 1 for name, array in runtime._right_outputs().items()}
    monkeypatch.setattr(runtime, "_right", spoiled)
    found = runtime.measure([random_plan(runtime, 0)])[0]
    assert not found.ok
    assert "not the original's" in str(found.failure)


def test_what_differs_beyond_rounding() -> None:
    ones = np.ones(4, np.float32)
    assert difference(ones, ones * (1 + 1e-6)) is None
    assert difference(ones, ones * 1.1) == "4 of 4 values differ"
    assert difference(np.array([1, 2]), np.array([1, 3])) == "values differ"
    assert "instead of" in str(difference(ones, ones[:2]))


def test_a_killed_worker_fails_its_measurement_and_the_next_one_works(
    runtime: ProgramRuntime,
) -> None:
    plan = random_plan(runtime, 1)
    assert runtime.measure([plan])[0].ok
    victim = runtime.process_ids[0]
    before = set(runtime.process_ids)

    def strike() -> None:
        time.sleep(0.3)
        os.kill(victim, signal.SIGKILL)

    thread = threading.Thread(target=strike)
    thread.start()
    long = Sampling(rounds=4, iterations=3000, clock=Clock.VIRTUAL)
    found = runtime.measure([plan], long)[0]
    thread.join()
    assert found.failure is not None
    assert "SIGKILL" in found.failure
    assert not alive(victim)
    assert runtime.measure([plan])[0].ok
    assert set(runtime.process_ids) != before


def test_a_stopped_worker_is_a_failure_in_time(runtime: ProgramRuntime) -> None:
    plan = random_plan(runtime, 2)
    assert runtime.measure([plan])[0].ok
    victim = runtime.process_ids[1]
    os.kill(victim, signal.SIGSTOP)
    found = runtime.measure([plan], Sampling(rounds=1, timeout_seconds=1.0, load_seconds=2.0))[0]
    assert found.failure is not None
    assert not alive(victim)
    assert runtime.measure([plan])[0].ok


def test_too_little_memory_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [20000, 20000])
    nodes = [
        helper.make_node("Expand", ["x", "shape"], ["big"], "expand"),
        helper.make_node("ReduceSum", ["big"], ["out"], "sum", keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "large",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [])],
        [shape],
    )
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    path = write_model(tmp_path / "large.onnx", model)
    loaded = graphs.load(path)
    with open_ort(path, loaded, core_cluster(1, 256 << 20), sampling=QUICK) as runtime:
        found = runtime.measure([Plan.of(np.zeros(loaded.op_count, np.int32))])[0]
    assert not found.ok
    assert "emory" in str(found.failure) or "alloc" in str(found.failure)


def test_more_devices_than_cores_are_emulated_and_labelled(path: Path) -> None:
    graph = graphs.load(path, {"batch": 8})
    count = len(os.sched_getaffinity(0)) + 1
    quick = Sampling(rounds=1, iterations=1)
    with open_ort(path, graph, core_cluster(count), dims={"batch": 8}, sampling=quick) as runtime:
        found = runtime.measure([random_plan(runtime, 3)])[0]
    assert found.ok
    assert found.clock is Clock.EMULATED


def test_nothing_is_left_behind(path: Path) -> None:
    graph = graphs.load(path, {"batch": 8})
    before = open_files()
    with open_ort(path, graph, core_cluster(), dims={"batch": 8}, sampling=QUICK) as runtime:
        assert runtime.measure([random_plan(runtime, 4)])[0].ok
        workers = runtime.process_ids
        assert len(workers) == 2
    assert not any(alive(worker) for worker in workers)
    assert open_files() == before


def test_clusters_of_gpus_are_refused(path: Path) -> None:
    graph = graphs.load(path, {"batch": 8})
    cluster: Cluster = preset("2xv100-pcie")
    with pytest.raises(RuntimeRefusal, match="calibrate"):
        open_ort(path, graph, cluster, dims={"batch": 8})


@pytest.mark.parametrize(
    ("count", "every"), [(12, 4), pytest.param(100, 10, marks=pytest.mark.slow)]
)
def test_many_measurements_and_random_kills_leave_nothing(
    path: Path, count: int, every: int
) -> None:
    graph = graphs.load(path, {"batch": 8})
    random = np.random.default_rng(0)
    descriptors = open_files()
    seen: set[int] = set()
    with open_ort(path, graph, core_cluster(), dims={"batch": 8}, sampling=QUICK) as runtime:
        for number in range(count):
            plan = random_plan(runtime, number)
            if number % every == every - 1:
                victim = int(random.choice(runtime.process_ids))
                delay = float(random.uniform(0, 0.2))
                killer = threading.Timer(delay, os.kill, (victim, signal.SIGKILL))
                killer.start()
                hit = runtime.measure([plan], Sampling(rounds=2, iterations=4000))[0]
                killer.join()
                assert "SIGKILL" in str(hit.failure)
            assert runtime.measure([plan])[0].ok, number
            seen.update(runtime.process_ids)
    assert not any(alive(worker) for worker in seen)
    assert open_files() == descriptors
