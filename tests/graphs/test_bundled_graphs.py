"""The graphs that ship: all workloads and torch models, as their builders make them."""

import math
import re
import subprocess
import sys
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from spread_plans import spread

from graphs.bundled_graphs import bundled_names, load_bundled
from graphs.kinds import Phase
from graphs.workloads.registry import WORKLOADS, build
from simulator import Simulator
from simulator.clusters.presets import PRESET_NAMES, preset
from simulator.evaluation import OutOfMemory

FOLDER = Path(str(files("graphs") / "bundled"))
LISTED = dict(
    re.findall(r"^\| (\S+) \|.*\| `(\w{16})` \|", (FOLDER / "README.md").read_text(), re.M)
)


TRAINING = sorted({*WORKLOADS, *(name for name in LISTED if name.endswith("-train"))})


def test_every_workload_is_bundled_and_listed() -> None:
    assert set(bundled_names()) == set(LISTED)
    assert set(WORKLOADS) < set(LISTED)
    assert sum(path.stat().st_size for path in FOLDER.glob("*.gwgraph")) < 6e6


def test_every_torch_model_has_a_training_step() -> None:
    forward = set(LISTED) - set(TRAINING)
    assert {f"{name}-train" for name in forward} <= set(TRAINING) - set(WORKLOADS)
    for name in forward:
        inference, step = load_bundled(name), load_bundled(f"{name}-train")
        assert not inference.report.estimated_ops
        assert not step.report.estimated_ops
        # Weights, and the optimizer's two moments of each.
        assert step.resident_bytes.sum() > 2.9 * inference.resident_bytes.sum()


@pytest.mark.parametrize("name", bundled_names())
def test_a_bundled_graph_loads_as_listed(name: str) -> None:
    graph = load_bundled(name)
    assert graph.digest == LISTED[name]
    assert set(np.unique(graph.phases)) == (set(Phase) if name in TRAINING else {Phase.FORWARD})


@pytest.mark.parametrize("name", bundled_names())
def test_every_bundled_graph_runs_or_tells_what_does_not_fit_on_every_preset(name: str) -> None:
    graph = load_bundled(name)
    for cluster in map(preset, PRESET_NAMES):
        evaluation = Simulator.of(graph, cluster).evaluate(spread(graph, cluster.device_count))
        assert math.isfinite(evaluation.makespan_seconds)
        assert evaluation.makespan_seconds > 0
        assert evaluation.feasible or isinstance(evaluation.failure, OutOfMemory)


def test_a_rebuilt_workload_equals_its_bundled_copy() -> None:
    assert build("transformer-xl-2") == load_bundled("transformer-xl-2")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(WORKLOADS) - {"transformer-xl-2"}))
def test_every_rebuilt_workload_equals_its_bundled_copy(name: str) -> None:
    assert build(name) == load_bundled(name)


@pytest.mark.slow
def test_rebuilt_torch_models_equal_their_bundled_copies() -> None:
    """Only with the versions of torch and onnxscript that the list names."""
    listed = (FOLDER / "README.md").read_text()
    installed = [f"{name} {version(name).partition('+')[0]}" for name in ("torch", "onnxscript")]
    if any(package not in listed for package in installed):
        pytest.skip("other versions write other names")
    script = Path(__file__).resolve().parents[2] / "benchmarks" / "data" / "bundle_graphs.py"
    names = ["bert-base", "swin-t", "unet", "gpt2-train", "vit-b16-train", "whisper-base-train"]
    subprocess.run([sys.executable, str(script), "--check", *names], check=True, timeout=3600)
