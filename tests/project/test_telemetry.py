"""No library tells its maker what graphwright is used for."""

import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from planted_files import ROOT

from graphs.telemetry import REPORTS_OFF, turn_reports_off

RUNS_A_MODEL = (
    "import onnxruntime\n"
    "session = onnxruntime.InferenceSession('a.onnx', providers=['CPUExecutionProvider'])\n"
    "session.run(None, {'x': [1.0, 2.0]})"
)


def outcome(folder: Path, script: str, **variables: str) -> list[str]:
    """Files that a script leaves in a home folder of its own; nobody tells it that it is tested."""
    home = folder / "home"
    home.mkdir()
    value = helper.make_tensor_value_info
    node = helper.make_node("Add", ["x", "x"], ["y"])
    graph = helper.make_graph(
        [node], "g", [value("x", TensorProto.FLOAT, [2])], [value("y", TensorProto.FLOAT, [2])]
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "a.onnx")
    said = ("CI", "GITHUB_ACTIONS", "PYTEST_CURRENT_TEST", *REPORTS_OFF)
    environment = {name: text for name, text in os.environ.items() if name not in said}
    environment |= {"HOME": str(home), "TMPDIR": str(home), "PYTHONPATH": str(ROOT), **variables}
    subprocess.run([sys.executable, "-P", "-c", script], cwd=folder, env=environment, check=True)
    return sorted(path.name for path in home.rglob("*") if path.is_file())


def test_onnxruntime_keeps_no_identifier_of_the_machine(tmp_path: Path) -> None:
    assert outcome(tmp_path, f"import graphs\n{RUNS_A_MODEL}") == []


def test_an_exported_runner_has_it_turned_off(tmp_path: Path) -> None:
    runner = ROOT / "placement/export/split_runner.py"
    script = f"import runpy; runpy.run_path({str(runner)!r})\n{RUNS_A_MODEL}"
    assert outcome(tmp_path, script) == []


def test_who_wants_to_report_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    turn_reports_off()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
