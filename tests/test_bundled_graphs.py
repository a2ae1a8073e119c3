"""The graphs that ship: all workloads, as their builders make them."""

import re
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from spread_plans import spread

from graphs.catalogue import bundled_names, load_bundled
from graphs.kinds import Phase
from graphs.workloads.registry import WORKLOADS, build
from simulator import Simulator
from simulator.presets import PRESET_NAMES, preset

FOLDER = Path(str(files("graphs") / "bundled"))
LISTED = dict(
    re.findall(r"^\| (\S+) \|.*\| `(\w{16})` \|", (FOLDER / "README.md").read_text(), re.M)
)


def test_every_workload_is_bundled_and_listed() -> None:
    assert set(bundled_names()) == set(WORKLOADS) == set(LISTED)
    assert sum(path.stat().st_size for path in FOLDER.glob("*.gwgraph")) < 6e6


@pytest.mark.parametrize("name", bundled_names())
def test_a_bundled_graph_loads_and_simulates(name: str) -> None:
    graph = load_bundled(name)
    assert graph.digest == LISTED[name]
    assert set(np.unique(graph.phases)) == set(Phase)
    presets = PRESET_NAMES if graph.op_count < 5_000 else PRESET_NAMES[4:5]
    for cluster in map(preset, presets):
        plan = spread(graph, cluster.device_count)
        evaluation = Simulator.of(graph, cluster).evaluate(plan)
        assert evaluation.makespan_seconds > 0


def test_a_rebuilt_workload_equals_its_bundled_copy() -> None:
    assert build("transformer-xl-2") == load_bundled("transformer-xl-2")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(WORKLOADS) - {"transformer-xl-2"}))
def test_every_rebuilt_workload_equals_its_bundled_copy(name: str) -> None:
    assert build(name) == load_bundled(name)
