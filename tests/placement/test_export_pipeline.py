"""Torch models in stages: the schedule that is chosen, and the script on two processes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported_models import request_for
from pipeline_runs import (
    MICRO_BATCHES,
    SAMPLES,
    TOKENS,
    chain,
    cross,
    inputs_of,
    run_stages,
    write_chain,
)

from graphs import load
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


def staged(graph: Graph, *firsts: str) -> Plan:
    """The next device from each of these ops on."""
    devices = np.cumsum([name.startswith(firsts) for name in graph.op_names])
    first = {index: min(index, len(firsts)) for index in range(int(devices[-1]) + 1)}
    return Plan.of(np.array([first[int(device)] for device in devices]))


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
    results = run_stages(
        exported.files[1], "--inputs", str(tmp_path / "inputs.pt"),
        "--outputs", str(tmp_path / "outputs.pt"), "--check",
    )  # fmt: skip
    assert [status for status, _ in results] == [0, 0], results
    assert "stage 1: equal (output)" in results[1][1]
    outputs = torch.load(tmp_path / "outputs.pt")
    assert set(outputs) == {"logits", "last"}
    torch.testing.assert_close(outputs, chain()(*whole))


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


def test_too_few_processes_are_refused(program: Path, tmp_path: Path) -> None:
    script = export_pipeline(halves(program, tmp_path)).files[1]
    ((status, output),) = run_stages(script, processes=1)
    assert status == 2
    assert (
        "2 stages need as many processes, not 1: start it by torchrun --nproc-per-node 2" in output
    )
