"""No command imports a framework that it has no use for; a clock would say so too late."""

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from planted_files import ROOT

from graphs.bundled_graphs import load_bundled
from graphs.graph_file import write_graph

#: Takes CPU seconds, or a part of one, to import; whoever needs one imports it then.
HEAVY = (
    "torch", "torch._dynamo", "torch_geometric", "tensorflow", "keras", "onnx", "onnxruntime",
    "pandas", "matplotlib", "wandb", "tensorboard", "ray", "networkx", "sympy", "vl_convert",
    "IPython", "stable_baselines3", "mkdocs",
)  # fmt: skip

#: Commands one after the other in one process, and what is there after each.
_SCRIPT = """
import contextlib, io, json, sys
from agent.cli.app import run
heavy, commands = json.loads(sys.argv[1])
for words in commands:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        code = run(words)
    assert code == 0, (words, shown.getvalue())
    print(json.dumps([name for name in heavy if name in sys.modules]))
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved graph, an ONNX model, and a plan of the graph."""
    folder = tmp_path_factory.mktemp("start")
    write_graph(load_bundled("rnnlm-2"), folder / "saved.gwgraph")
    value = helper.make_tensor_value_info
    node = helper.make_node("Relu", ["x"], ["y"], "relu")
    graph = helper.make_graph(
        [node], "g", [value("x", TensorProto.FLOAT, [2])], [value("y", TensorProto.FLOAT, [2])]
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "a.onnx")
    return folder


def imported(*commands: list[str]) -> list[list[str]]:
    """Which of the heavy libraries are there after each command."""
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, json.dumps([HEAVY, commands])],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.strip().split("\n")]


def test_commands_without_networks_import_no_framework(saved: Path) -> None:
    """The policy that comes with the package guides a search: that takes none either."""
    graph, out = str(saved / "saved.gwgraph"), str(saved / "out")
    target = ["-c", "2xv100-pcie"]
    short = [*target, "--budget", "0.2s"]
    plan = ["--plan", f"{out}/plan.json"]
    commands = [
        ["clusters", "list"],
        ["graphs", "list"],
        ["suites", "list"],
        ["place", graph, *target, "--placer", "heft"],
        ["place", graph, *short, "--placer", "search"],
        ["place", graph, *short, "--placer", "policy"],
        ["place", graph, *short, "--placer", "one-shot-untaught"],
        ["place", str(saved / "a.onnx"), *short],
        ["compare", graph, *short],
        [
            "evaluate", "--suite", "test-families", "--limit", "1", "--only", "single",
            "one-shot-untaught", "--seeds", "0", "--budget", "0.2s", "--out", str(saved / "table"),
        ],
    ]  # fmt: skip
    assert dict(zip(map(" ".join, commands), imported(*commands), strict=True)) == {
        " ".join(words): [] for words in commands
    }
    # A page's charts are drawn by a script, for which a library is needed the first time.
    found = imported(
        ["place", graph, *target, "--placer", "heft", "--out", out],
        ["simulate", graph, *plan],
        ["explain", graph, *plan],
        ["report", graph, *plan, "--out", f"{out}/again.html"],
    )
    assert {name for names in found for name in names} <= {"vl_convert"}


def test_an_onnx_model_takes_onnx_alone(saved: Path) -> None:
    words = ["place", str(saved / "a.onnx"), "-c", "2xv100-pcie", "--placer", "heft", "--trust"]
    assert imported(words) == [["onnx"]]


def test_training_takes_torch_alone() -> None:
    """torch-geometric brings torch's compiler, and that brings sympy."""
    code = (
        "import sys, json, agent.cli.verbs.train, agent.cli.verbs.train_one_shot\n"
        "import agent.training.loop, agent.decoding.training, agent.placing.finetuning\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    taken = {"torch", "torch._dynamo", "torch_geometric", "sympy"}
    assert set(json.loads(done.stdout)) <= taken
