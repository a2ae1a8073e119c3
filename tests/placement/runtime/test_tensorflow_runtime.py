"""Plans of a training step on TensorFlow servers: everything runs, where it should, same loss."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from device_models import core_cluster
from tensorflow_samples import training_graph

import graphs
from graphs.workloads.export import write_graph_def
from graphs.workloads.training import Workload
from placement.problem import Problem
from placement.runtime.errors import RuntimeRefusal
from placement.runtime.samples import Sampling
from placement.runtime.tensorflow_servers.messages import TracedStep
from placement.runtime.tensorflow_servers.runtime import (
    TensorFlowRuntime,
    different,
    find_misplaced,
    open_tensorflow,
)
from simulator.fusion import xla_like_groups
from simulator.plan import Plan

QUICK = Sampling(rounds=1, iterations=2, timeout_seconds=30.0)
TWO = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")


def write_step(folder: Path) -> Path:
    graph, train_op = training_graph()
    path = folder / "train.pb"
    write_graph_def(Workload("train", graph, (train_op, "loss"), 0), path)
    return path


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TensorFlowRuntime]:
    path = write_step(tmp_path_factory.mktemp("tensorflow"))
    graph = graphs.load(path)
    with open_tensorflow(path, graph, core_cluster(), sampling=QUICK) as device:
        yield device


def random_plan(runtime: TensorFlowRuntime, seed: int) -> Plan:
    problem = Problem(runtime.graph, runtime.cluster)
    random = np.random.default_rng(seed)
    devices = random.integers(0, 2, problem.unit_count)[problem.unit_of]
    return Plan.of(devices, random.random(runtime.graph.op_count))


@pytest.mark.slow
@TWO
def test_training_steps_run_as_planned_and_give_the_same_loss(runtime: TensorFlowRuntime) -> None:
    for found in runtime.measure([random_plan(runtime, seed) for seed in (0, 1)]):
        assert found.failure is None
        assert found.ok
    assert runtime._reference is not None
    assert np.isfinite(runtime._reference.results["loss"])


def test_ops_that_did_not_run_or_ran_elsewhere_are_noticed() -> None:
    expected = {"a": "cpu:0", "b": "cpu:1"}
    assert find_misplaced(expected, {"a": "cpu:0", "b": "cpu:1", "send": "cpu:0"}) is None
    assert "did not run" in str(find_misplaced(expected, {"a": "cpu:0"}))
    assert "'b' on cpu:0" in str(find_misplaced(expected, {"a": "cpu:0", "b": "cpu:0"}))
    right = TracedStep({}, {}, {"loss": np.array(1.0, np.float32)})
    assert different(right, right) is None
    assert "'loss'" in str(
        different(TracedStep({}, {}, {"loss": np.array(1.1, np.float32)}), right)
    )
    assert "'loss'" in str(different(TracedStep({}, {}, {}), right))


def test_clusters_that_tensorflow_cannot_be_are_refused(tmp_path: Path) -> None:
    path = write_step(tmp_path)
    graph = graphs.load(path)
    with pytest.raises(RuntimeRefusal, match="--runtime ort"):
        open_tensorflow(path, graph, core_cluster(len(os.sched_getaffinity(0)) + 1))


@TWO
@pytest.mark.slow
def test_fusion_groups_are_compiled(runtime: TensorFlowRuntime) -> None:
    devices = np.zeros(runtime.graph.op_count, np.int32)
    fused = Plan.of(devices, fusion=xla_like_groups(runtime.graph, devices))
    found = runtime.measure([fused])[0]
    assert found.failure is None


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def listening(ports: set[int]) -> set[int]:
    """Those of the ports on which somebody still listens."""
    rows: list[list[str]] = []
    for table in ("tcp", "tcp6"):
        lines = Path("/proc/net", table).read_text(encoding="utf-8").splitlines()[1:]
        rows += [line.split() for line in lines]
    return ports & {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A"}


def alive(process: int) -> bool:
    status = Path(f"/proc/{process}/status")
    return status.exists() and "State:\tZ" not in status.read_text(encoding="utf-8")


@TWO
@pytest.mark.parametrize("count", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_many_plans_leave_no_process_port_or_file(tmp_path: Path, count: int) -> None:
    path = write_step(tmp_path)
    graph = graphs.load(path)
    before = open_files()
    with open_tensorflow(path, graph, core_cluster(), sampling=QUICK) as runtime:
        seen, ports = set[int](), set[int]()
        for number in range(count):
            assert runtime.measure([random_plan(runtime, number)])[0].ok, number
            seen.update(runtime.process_ids)
            ports.update(int(address.rpartition(":")[2]) for address in runtime._addresses)
        assert len(seen) == 3, "servers and client live on from one plan to the next"
        assert listening(ports) == ports
    assert not any(alive(process) for process in seen)
    assert not listening(ports)
    assert open_files() == before


@TWO
@pytest.mark.parametrize("count", [1, pytest.param(9, marks=pytest.mark.slow)])
def test_random_kills_of_any_process_fail_one_measurement_each(
    runtime: TensorFlowRuntime, count: int
) -> None:
    """Servers and client, at random moments."""
    random = np.random.default_rng(0)
    long = Sampling(rounds=1, iterations=1500, timeout_seconds=5.0, load_seconds=20.0)
    assert runtime.measure([random_plan(runtime, 0)])[0].ok
    for number in range(count):
        victim = runtime.process_ids[(number + 2) % 3]
        killer = threading.Timer(random.uniform(0, 0.5), os.kill, (victim, signal.SIGKILL))
        killer.start()
        hit = runtime.measure([random_plan(runtime, number)], long)[0]
        killer.join()
        assert hit.failure is not None
        assert not alive(victim)
        assert runtime.measure([random_plan(runtime, number)])[0].ok


@TWO
@pytest.mark.slow
def test_a_killed_server_fails_its_measurement_and_the_next_one_works(
    runtime: TensorFlowRuntime,
) -> None:
    plan = random_plan(runtime, 2)
    assert runtime.measure([plan])[0].ok
    os.kill(runtime.process_ids[1], signal.SIGKILL)
    short = Sampling(rounds=1, iterations=2, timeout_seconds=5.0, load_seconds=10.0)
    assert runtime.measure([plan], short)[0].failure is not None
    assert runtime.measure([plan])[0].ok
