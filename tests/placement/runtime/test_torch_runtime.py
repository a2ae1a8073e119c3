"""Stand-ins: sizes by hand, kernels, and plans of graphs without kernels run on cores."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from device_models import core_cluster
from graph_samples import graph_of, op, random_graph
from hypothesis import given
from hypothesis import strategies as st

from agent.cli.app import run as command
from graphs.catalogue import resolve
from graphs.graph import Graph
from graphs.graph_file import write_graph
from placement.problem import Problem
from placement.runtime.errors import RuntimeRefusal
from placement.runtime.measurement import Clock
from placement.runtime.programs.program_runtime import ProgramRuntime
from placement.runtime.samples import Sampling
from placement.runtime.stand_ins.kernels import compiled_group, group_function, kernel
from placement.runtime.stand_ins.runtime import open_stand_ins, torch_devices
from placement.runtime.stand_ins.segments import TorchOp, TorchSegment, as_group, group_sizes
from placement.runtime.stand_ins.stand_ins import KernelForm, StandIn, stand_in
from simulator.cluster_file import dump_cluster
from simulator.clusters.presets import preset
from simulator.fusion import xla_like_groups
from simulator.plan import Plan

BRIEF = Sampling(rounds=1, iterations=1, warm_up=0, clock=Clock.VIRTUAL, timeout_seconds=20.0)
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs g++")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def net() -> Graph:
    """A small convolutional net's training step."""
    return resolve("convnet:1:120")


@pytest.fixture(scope="module")
def runtime(net: Graph) -> Iterator[ProgramRuntime]:
    with open_stand_ins(Path(net.name), net, core_cluster(), sampling=BRIEF) as device:
        yield device


def noise() -> torch.Tensor:
    values = torch.rand(1 << 14, generator=torch.Generator().manual_seed(0))
    return values.mul_(2).sub_(1)


def random_plan(graph: Graph, seed: int) -> Plan:
    problem = Problem(graph, core_cluster())
    random = np.random.default_rng(seed)
    devices = random.integers(0, 2, problem.unit_count).astype(np.int32)[problem.unit_of]
    return Plan.of(devices, random.random(graph.op_count))


# Sizes and kernels


def test_a_product_has_the_flops_of_its_op() -> None:
    # 6 x 4 outputs, 2 * 24 * 5 flops: a product over 5.
    graph = graph_of(
        op("a", 1, output_bytes=4 * 30),
        op("b", 2 * 24 * 5, ("a",), output_bytes=4 * 24, output_shape=(6, 4)),
    )
    found = stand_in(graph, 1, (0,), (1,))
    assert found == StandIn(KernelForm.CONTRACT, (30,), (24,), rows=6, depth=5, columns=4)
    assert found.constants == 20


def test_a_product_is_what_numpy_says() -> None:
    numbers = noise()
    spec = StandIn(KernelForm.CONTRACT, (30,), (24,), rows=6, depth=5, columns=4)
    given_values = torch.arange(30.0)
    left = np.arange(30.0).reshape(6, 5)
    right = numbers[:20].numpy().reshape(5, 4)
    (found,) = kernel(spec, numbers)([given_values])
    wanted = 0.1 * right[0] + (3 / 5) ** 0.5 * (left @ right)
    assert np.allclose(found.numpy().reshape(6, 4), wanted, atol=1e-5)
    # Windows of a shorter input overlap: five rows of six numbers out of ten.
    windows = StandIn(KernelForm.CONTRACT, (10,), (20,), rows=5, depth=6, columns=4)
    (found,) = kernel(windows, numbers)([torch.arange(10.0)])
    left = np.stack([np.arange(i, i + 6.0) for i in range(5)])
    right = numbers[:24].numpy().reshape(6, 4)
    wanted = 0.1 * right[0] + (3 / 6) ** 0.5 * (left @ right)
    assert np.allclose(found.numpy().reshape(5, 4), wanted, atol=1e-5)


@given(st.integers(0, 100_000))
def test_each_output_has_its_size_and_inputs_are_left_alone(seed: int) -> None:
    random = np.random.default_rng(seed)
    inputs = tuple(int(n) for n in random.integers(1, 50, random.integers(1, 4)))
    outputs = tuple(int(n) for n in random.integers(1, 50, random.integers(1, 4)))
    form = list(KernelForm)[int(random.integers(len(KernelForm)))]
    rows = int(random.integers(1, 5))
    spec = StandIn(form, inputs, outputs, rows, int(random.integers(1, 60)), 1, bool(seed % 2))
    if form is KernelForm.CONTRACT:
        spec = StandIn(form, inputs, (rows, *outputs[1:]), rows, spec.depth, 1)
    if form is KernelForm.REDUCE:
        spec = StandIn(form, inputs, (max(inputs[0] // 2, 1), *outputs[1:]))
    values = [torch.full((size,), 0.5) for size in inputs]
    found = kernel(spec, noise())(values)
    assert [tuple(each.shape) for each in found] == [(size,) for size in spec.outputs]
    assert all((value == 0.5).all() for value in values)
    assert all(torch.isfinite(each).all() for each in found)


@needs_compiler
def test_a_compiled_group_gives_what_its_ops_give() -> None:
    first = StandIn(KernelForm.MAP, (8, 4), (8,))
    second = StandIn(KernelForm.MAP, (8,), (8,), heavy=True)
    segment = TorchSegment(
        (TorchOp(first, ("x", "y"), ("u",)), TorchOp(second, ("u",), ("v",))), True, ("x", "u")
    )
    group, inputs, kept = as_group(segment)
    assert (inputs, kept) == (("x", "y"), ("v",))
    values = [torch.arange(8.0), torch.arange(4.0)]
    (plain,) = group_function(group, noise())(values)
    (compiled,) = compiled_group(group, noise(), group_sizes(segment, inputs))(values)
    mixed = np.arange(8.0) * 0.5 + np.tile(np.arange(4.0), 2) * 0.5
    assert np.allclose(plain.numpy(), np.tanh(mixed), atol=1e-6)
    assert torch.allclose(compiled, plain, atol=1e-5)


# Plans on cores


@pytest.mark.slow
def test_random_plans_give_what_one_device_gives(runtime: ProgramRuntime, net: Graph) -> None:
    plans = [Plan.of(np.zeros(net.op_count, np.int32))]
    plans += [random_plan(net, seed) for seed in range(3)]
    for plan, found in zip(plans, runtime.measure(plans), strict=True):
        assert found.failure is None
        assert found.checked
        assert found.seconds > 0
        program = runtime.program(plan)
        assert [len(s) for s in found.step_seconds] == [len(s) for s in program.steps]


@pytest.mark.slow
@needs_compiler
def test_fused_plans_give_the_same(runtime: ProgramRuntime, net: Graph) -> None:
    devices = np.zeros(net.op_count, np.int32)
    groups = xla_like_groups(net, devices)
    # Two groups are enough: each structure is compiled anew.
    groups = np.where(np.isin(groups, np.unique(groups[groups >= 0])[:2]), groups, -1)
    (found,) = runtime.measure([Plan.of(devices, fusion=groups.astype(np.int32))])
    assert found.failure is None
    assert found.checked


def test_another_result_is_a_failure(net: Graph) -> None:
    with open_stand_ins(Path(net.name), net, core_cluster(), sampling=BRIEF) as device:
        right = device._right_outputs()
        name = sorted(right)[0]
        device._right = {**right, name: right[name] + 1.0}
        (found,) = device.measure([random_plan(net, 0)])
        assert not found.ok
        assert f"output {name!r} is not the original's" in str(found.failure)


@pytest.mark.slow
def test_a_worker_that_dies_is_a_failure_and_the_next_run_works(net: Graph) -> None:
    with open_stand_ins(Path(net.name), net, core_cluster(), sampling=BRIEF) as device:
        assert device.measure([random_plan(net, 0)])[0].ok
        workers = device.process_ids
        os.kill(workers[1], signal.SIGKILL)
        (found,) = device.measure([random_plan(net, 1)])
        assert not found.ok
        assert "killed by SIGKILL" in str(found.failure)
        assert device.measure([random_plan(net, 1)])[0].ok
        workers = device.process_ids
    assert not any(Path(f"/proc/{process}").exists() for process in workers)


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 8))]
)
def test_any_graph_runs(seed: int) -> None:
    graph = random_graph(seed, 30)
    with open_stand_ins(Path(graph.name), graph, core_cluster(), sampling=BRIEF) as device:
        (found,) = device.measure([random_plan(graph, seed)])
        assert found.failure is None


def test_gpus_that_are_not_there_are_refused(net: Graph) -> None:
    assert torch_devices(core_cluster()) == ("cpu", "cpu")
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeRefusal, match="has 2 GPUs, and this machine 0"):
            torch_devices(preset("2xv100-pcie"))
    with pytest.raises(RuntimeRefusal, match="both cores and GPUs"):
        torch_devices(preset("cpu+2xv100"))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_plans_on_two_gpus_give_what_one_gives(net: Graph) -> None:
    with open_stand_ins(Path(net.name), net, preset("2xv100-pcie"), sampling=BRIEF) as device:
        for found in device.measure([random_plan(net, seed) for seed in range(3)]):
            assert found.failure is None
            assert found.checked


def test_the_command_runs_a_graph_without_kernels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cores.yaml").write_text(dump_cluster(core_cluster()))
    write_graph(random_graph(1, 30), tmp_path / "net.gwg")
    arguments = [
        "measure", str(tmp_path / "net.gwg"), "--cluster", str(tmp_path / "cores.yaml"),
        "--runtime", "torch", "--compare", "single", "human-expert", "--repeats", "1",
    ]  # fmt: skip
    assert command(arguments) == 0
    assert "outputs equal those of the same kernels on one device" in capsys.readouterr().out
    assert command([*arguments[:4], "--compare", "single"]) == 2
    assert "instead there is --runtime torch (each op a stand-in" in capsys.readouterr().err
