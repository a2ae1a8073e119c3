"""Torch models in stages: the schedule that is chosen, and the script on two processes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported_models import request_for
from graph_samples import graph_of, op
from pipeline_runs import (
    MICRO_BATCHES,
    SAMPLES,
    TOKENS,
    WIDTH,
    chain,
    cross,
    inputs_of,
    run_stages,
    write_chain,
)
from split_runs import runner_module

from graphs import load
from graphs.errors import GraphwrightError
from graphs.graph import Graph
from graphs.importers.torch_models.exported import import_training_program
from graphs.kinds import Phase
from placement.export import ExportError, ExportRequest
from placement.export.mirrored_backward import mirrored_training
from placement.export.pipeline_stages import export_pipeline
from simulator.clusters.cluster import Cluster
from simulator.clusters.presets import preset
from simulator.plan import Plan
from simulator.simulator import Simulator
from simulator.steps import StepOrder, StepSchedule

CLUSTER = preset("2xv100")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chain(tmp_path_factory.mktemp("pipeline") / "chain.pt2")


def from_op(graph: Graph, *names: str) -> Plan:
    """A stage begins at the first op of each prefix."""
    begins = [
        next(i for i, name in enumerate(graph.op_names) if name.startswith(prefix))
        for prefix in names
    ]
    return Plan.of(np.searchsorted(np.array(begins), np.arange(graph.op_count), side="right"))


def halves(program: Path, out: Path, cluster: Cluster = CLUSTER, **options: Any) -> ExportRequest:
    plan = from_op(load(program), "layers.2.norm")
    return request_for(program, out, plan, cluster, **options)


def manifest(request: ExportRequest) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(export_pipeline(request).files[0].read_text())
    return document


def test_two_processes_give_the_outputs_of_one(program: Path, tmp_path: Path) -> None:
    exported = export_pipeline(halves(program, tmp_path / "out", micro_batches=MICRO_BATCHES))
    whole = inputs_of(MICRO_BATCHES * SAMPLES)
    torch.save(list(whole), tmp_path / "inputs.pt")
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "outputs.pt").symlink_to(tmp_path / "precious")
    results = run_stages(
        exported.files[1], "--inputs", str(tmp_path / "inputs.pt"),
        "--outputs", str(tmp_path / "outputs.pt"), "--check",
    )  # fmt: skip
    assert [status for status, _ in results] == [0, 0], results
    assert "stage 1: equal (output)" in results[1][1]
    outputs = torch.load(tmp_path / "outputs.pt")
    assert set(outputs) == {"logits", "last"}
    torch.testing.assert_close(outputs, chain()(*whole))
    assert (tmp_path / "precious").read_text() == "kept"


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["ScheduleGPipe", "Schedule1F1B"])
def test_two_processes_give_the_gradients_of_one(
    program: Path, tmp_path: Path, schedule: str
) -> None:
    request = halves(program, tmp_path / "out", micro_batches=MICRO_BATCHES, train="sgd")
    whole = inputs_of(MICRO_BATCHES * SAMPLES)
    labels = whole[0].flip(1).contiguous()
    torch.save(dict(zip(("tokens", "scale"), whole, strict=True)), tmp_path / "inputs.pt")
    torch.save(labels, tmp_path / "labels.pt")
    results = run_stages(
        export_pipeline(request).files[1], "--schedule", schedule,
        "--inputs", str(tmp_path / "inputs.pt"), "--targets", str(tmp_path / "labels.pt"),
        "--loss", "pipeline_runs:cross", "--optimizer", "pipeline_runs:unit_descent",
        "--save", str(tmp_path / "trained"), "--check",
    )  # fmt: skip
    assert [status for status, _ in results] == [0, 0], results
    model = chain()
    loss = cross(model(*whole), labels)
    loss.backward()  # type: ignore[no-untyped-call]
    assert f"step 0: loss {loss:.4f}"[:-1] in results[1][1]
    before = dict(model.named_parameters(remove_duplicate=False))
    seen = set()
    for stage in range(2):
        for name, after in torch.load(tmp_path / "trained" / f"stage{stage}.pt").items():
            seen.add(name)
            gradient = before[name].grad
            torch.testing.assert_close(before[name].detach() - after, gradient)
    assert seen == set(before)


def test_too_few_processes_are_refused(
    program: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script = export_pipeline(halves(program, tmp_path)).files[1]
    runner = runner_module(script)
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setattr("sys.argv", [str(script)])
    assert runner.main() == 2
    assert "2 stages need as many processes, not 1: start it by torchrun --nproc-per-node 2" in (
        capsys.readouterr().err
    )


def test_the_faster_schedule_that_fits_is_chosen(program: Path, tmp_path: Path) -> None:
    request = halves(program, tmp_path, train="adam", micro_batches=6)
    document = manifest(request)
    graph, op_of = mirrored_training(request.graph, "adam")
    plan = Plan.of(request.plan.devices[op_of])
    runs = {
        "ScheduleGPipe": StepOrder.GPIPE,
        "Schedule1F1B": StepOrder.ONE_F_ONE_B,
    }
    simulator = Simulator.of(graph, CLUSTER)
    found = {
        name: simulator.evaluate_steps(plan, StepSchedule(6, 6, order))
        for name, order in runs.items()
    }
    least = min(found[name].makespan_seconds for name in found)
    best = min(
        (name for name in found if found[name].makespan_seconds <= 1.01 * least),
        key=lambda name: max(found[name].peak_bytes),
    )
    assert document["schedule"] == best
    assert document["n_microbatches"] == 6
    assert document["predicted"]["seconds"] == pytest.approx(found[best].makespan_seconds)
    assert [stage["peak_bytes"] for stage in document["stages"]] == list(found[best].peak_bytes)
    gpipe, one = (max(found[name].peak_bytes) for name in runs)
    assert one < gpipe  # it holds as many micro-batches as there are stages, not all
    between = with_memory((gpipe + one) // 2)
    squeezed = manifest(halves(program, tmp_path, between, train="adam", micro_batches=6))
    assert squeezed["schedule"] == "Schedule1F1B"
    assert not squeezed["predicted"]["schedules"]["ScheduleGPipe"]["fits"]


def test_what_does_not_fit_says_how_many_do(program: Path, tmp_path: Path) -> None:
    peak = max(stage["peak_bytes"] for stage in manifest(
        halves(program, tmp_path, train="adam", micro_batches=1))["stages"])  # fmt: skip
    with pytest.raises(ExportError, match=r"8 micro-batches do not fit: v100.*; 1 fit: give"):
        export_pipeline(halves(program, tmp_path, with_memory(peak + 8), train="adam"))
    with pytest.raises(ExportError, match="not even one fits"):
        export_pipeline(halves(program, tmp_path, with_memory(peak - 8), train="adam"))
    assert manifest(
        halves(program, tmp_path, with_memory(peak), train="adam", micro_batches=1)
    )["schedule"] == "ScheduleGPipe"  # fmt: skip


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, 8),
        ({"micro_batches": 5}, 5),
        ({"batch": 12}, 6),
        ({"batch": 12, "micro_batches": 6}, 6),
    ],
)
def test_micro_batches_are_of_the_planned_size(
    program: Path, tmp_path: Path, options: dict[str, Any], count: int
) -> None:
    document = manifest(halves(program, tmp_path, **options))
    assert document["n_microbatches"] == count
    assert document["schedule"] == "ScheduleGPipe"
    assert not document["training"]
    assert document["inputs"] == [
        {"name": "tokens", "shape": [SAMPLES, 3], "dtype": "int64"},
        {"name": "scale", "shape": [SAMPLES, 1, 1], "dtype": "float32"},
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"batch": 48, "micro_batches": 7},
            "48 samples do not divide into 7 micro-batches: take 6 or 8",
        ),
        ({"batch": 12, "micro_batches": 4}, "micro-batch of 2 samples.*take --micro-batches 6"),
        ({"batch": 7}, "micro-batch of 2 samples, which 7 samples are no multiple of"),
        ({"micro_batches": 0}, "at least one"),
        ({"train": "lamb"}, "no optimizer 'lamb'; there are sgd, momentum, adam"),
    ],
)
def test_bad_mini_batches_are_refused(
    program: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(GraphwrightError, match=message):
        export_pipeline(halves(program, tmp_path, **options))
    assert not list(tmp_path.iterdir())


def test_a_cut_inside_a_module_moves_to_the_nearest_one(program: Path, tmp_path: Path) -> None:
    request = request_for(program, tmp_path, from_op(load(program), "layers.1/relu"), CLUSTER)
    exported = export_pipeline(request)
    document = json.loads(exported.files[0].read_text())
    assert list(document["split_spec"]) == ["layers.1.down"]
    assert any(
        "'layers.1/relu" in note and "'layers.1.down'" in note and "%" in note
        for note in exported.notes
    )
    on_border = from_op(load(program), "layers.1.down")
    plain = export_pipeline(request_for(program, tmp_path, on_border, CLUSTER))
    assert not any("differ" in note for note in plain.notes)
    assert json.loads(plain.files[0].read_text())["predicted"] == document["predicted"]


class Lump(torch.nn.Module):
    """Two large products in one module, and a small one."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(2048, 2048))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(torch.relu(x @ self.weight) @ self.weight)


def test_a_cut_that_would_move_far_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lump.pt2"
    model = torch.nn.Sequential(torch.nn.Linear(8, 2048), Lump(), torch.nn.Linear(2048, 8))
    torch.export.save(torch.export.export(model, (torch.randn(2048, 8),)), path)
    graph = load(path)
    second = [name for name in graph.op_names if name.startswith("1/matmul")][1]
    with pytest.raises(ExportError, match=r"middle of module '1'; .*--colocate '1\[./\]"):
        export_pipeline(request_for(path, tmp_path / "out", from_op(graph, second), CLUSTER))


def test_containers_that_are_never_called_are_no_stages(program: Path, tmp_path: Path) -> None:
    request = request_for(program, tmp_path, from_op(load(program), "layers.0.norm"), CLUSTER)
    assert list(manifest(request)["split_spec"]) == ["layers.0"]  # "layers" is a list of modules


class Step(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = chain()
        self.model.head.weight = torch.nn.Parameter(torch.randn(TOKENS, WIDTH))

    def forward(self, tokens: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return cross(self.model(tokens, scale), tokens)


def test_training_steps_are_cut_by_their_parameters(tmp_path: Path) -> None:
    from torch.export.experimental import _export_forward_backward

    program = torch.export.export(Step(), inputs_of(SAMPLES))
    path = tmp_path / "step.pt2"
    torch.export.save(program, path)
    joint = _export_forward_backward(program, joint_loss_index=0)
    graph = import_training_program(joint, "step", "sgd")
    forward = np.flatnonzero(graph.phases == Phase.FORWARD)
    norms = [op for op in forward if graph.op_types[op].startswith("aten.native_layer_norm")]
    backward = np.flatnonzero(graph.phases == Phase.BACKWARD)
    devices = np.zeros(graph.op_count, np.int32)
    devices[norms[2] : backward[len(backward) // 2]] = 1
    plan = Plan.of(devices)
    request = ExportRequest(path, graph, CLUSTER, plan, tmp_path / "out", micro_batches=4)
    document = manifest(request)
    assert list(document["split_spec"]) == ["model.layers.2.norm"]
    assert document["training"]
    assert set(document["predicted"]["schedules"]) == {"ScheduleGPipe", "Schedule1F1B"}


def test_a_mirrored_step_has_a_backward_op_for_each_trained_op() -> None:
    graph = graph_of(
        op("input", 0.0), op("first", 1e9, ("input",), 64), op("second", 2e9, ("first",), 64)
    )
    graph = replace(graph, resident_bytes=np.array([0, 100, 200]))
    step, op_of = mirrored_training(graph, "adam")
    work = dict(zip(step.op_names, step.flops.tolist(), strict=True))
    assert work["backward 1"] == 2e9
    assert work["backward 2"] == 4e9
    assert "backward 0" not in work  # nothing before it is trained
    homes = dict(zip(step.op_names, op_of.tolist(), strict=True))
    assert homes["update 2"] == homes["backward 2"] == 2
    resident = dict(zip(step.op_names, step.resident_bytes.tolist(), strict=True))
    assert resident["update 1"] == 200  # Adam's two slots
    phases = dict(zip(step.op_names, step.phases.tolist(), strict=True))
    assert (phases["second"], phases["backward 2"], phases["update 2"]) == (0, 1, 2)
    assert step.op_index["backward 2"] < step.op_index["backward 1"]
    with pytest.raises(GraphwrightError, match="no weights to train"):
        mirrored_training(graph_of(op("lone", 1.0)), "sgd")


def with_memory(size: int) -> Cluster:
    return replace(
        CLUSTER,
        devices=tuple(replace(device, memory_bytes=int(size)) for device in CLUSTER.devices),
    )
