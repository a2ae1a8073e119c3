"""Rows of CONTRIBUTING that change an enumeration: done in a copy of the packages, as they say."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("graphs", "simulator", "placement", "envs", "agent")

pytestmark = pytest.mark.slow  # the copy compiles its kernels anew


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy with one more op kind, one more column and one more task."""
    folder = tmp_path_factory.mktemp("copy")
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, folder / package, ignore=shutil.ignore_patterns("*.pyc", "*.nb*")
        )
    for file, old, new in (
        # an op kind
        ("graphs/kinds.py", "    CUSTOM = 41\n", "    CUSTOM = 41\n    TOY = 42\n"),
        # a column of the observation
        ("envs/features/static_features.py", '"memory_share", "parallelism")',
         '"memory_share", "parallelism", "toy")'),
        ("envs/features/static_features.py", "            np.log10(work / bound),\n",
         "            np.log10(work / bound),\n            0.5,\n"),
        # a task: priorities reversed where its level is odd
        ("envs/tasks.py", '    FUSION = "fusion"\n', '    FUSION = "fusion"\n    TOY = "toy"\n'),
        ("envs/tasks.py", "    Task.FUSION: FUSED_LEVEL,\n",
         "    Task.FUSION: FUSED_LEVEL,\n    Task.TOY: 0,\n"),
        ("envs/decision.py", '    Task.FUSION: "fusion",\n',
         '    Task.FUSION: "fusion",\n    Task.TOY: "toy",\n'),
        ("envs/decision.py", "    fusion: Int32[np.ndarray, \" ops\"] | None = None\n",
         "    fusion: Int32[np.ndarray, \" ops\"] | None = None\n    toy: object = None\n"),
        ("envs/decision.py", "    return Plan.of(devices, priorities, fusion)\n",
         "    if decision.toy is not None:\n"
         "        priorities = np.where(decision.toy % 2, -priorities, priorities)\n"
         "    return Plan.of(devices, priorities, fusion)\n"),
    ):  # fmt: skip
        path = folder / file
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{file}: {old!r}"
        path.write_text(text.replace(old, new), encoding="utf-8")
    return folder


def run(copy: Path, code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command,
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=3600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_an_op_kind(copy: Path) -> None:
    """Ops of the kind are simulated; fusion leaves it alone; a fresh policy has a row for it."""
    code = """
from dataclasses import replace
import numpy as np
from agent.config import AgentConfig
from agent.policy.network import Policy
from graphs.bundled_graphs import load_bundled
from graphs.kinds import OpKind
from placement import place
from simulator import preset
graph = load_bundled("gpt2")
kinds = np.where(graph.kinds == OpKind.MATMUL, OpKind.TOY, graph.kinds)
graph = replace(graph, kinds=kinds.astype(graph.kinds.dtype))
print(place(graph, preset("2xv100-pcie"), "single").feasible)
from agent.runs.checkpoint import _with_new_kinds
import torch
rows = torch.arange(42.0)[:, None]
print(_with_new_kinds({"encoder.kind.weight": rows})["encoder.kind.weight"][-1].item())
print(len(Policy(AgentConfig().policy).state_dict()["encoder.kind.weight"]))
"""
    assert run(copy, code).split() == ["True", "41.0", "43"]


def test_a_column_of_the_observation(copy: Path) -> None:
    code = """
from envs import Instance, observe
from envs.features.observation import GRAPH_COLUMNS
from graphs.bundled_graphs import load_bundled
from placement import Problem
from simulator import preset
instance = Instance("a", Problem(load_bundled("gpt2"), preset("2xv100-pcie")))
print(observe(instance).graph[GRAPH_COLUMNS.index("toy")])
"""
    assert run(copy, code).split() == ["0.5"]


def test_a_task(copy: Path) -> None:
    """It is decided beside placement, seen in the next step, and changes the plan."""
    code = """
import numpy as np
from envs import GraphEnv, Task
from graphs.bundled_graphs import load_bundled
from simulator import preset
graph, cluster = load_bundled("gpt2"), preset("2xv100-pcie")
env = GraphEnv(tasks=(Task.PLACEMENT, Task.TOY), steps=2, graph=graph, cluster=cluster)
env.reset(seed=0)
zeros = np.zeros((370, 2), np.int32)
_, _, _, _, plain = env.step(zeros)
seen, _, _, _, info = env.step(zeros + [0, 1])
print(seen["previous"].shape[1], set(seen["previous"][:, 3].tolist()))
print(np.array_equal(info["plan"].priorities, -plain["plan"].priorities))
"""
    assert run(copy, code).split() == ["4", "{1}", "True"]
