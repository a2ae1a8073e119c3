"""Every verb that makes or judges a plan says what the import did not know."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from graph_samples import graph_of, op

from agent.cli.app import run
from graphs.graph_file import write_graph
from graphs.import_report import ImportReport

LINE = (
    "import: 4 TFLOP, 0 MB of parameters; assumed batch=1 (set with --dim); 1 of 8 kernels "
    "have no cost formula; 2 ops hide their work; 3 loops, branches or modules are one op each "
    "(`graphwright graphs show` says which)"
)


def written(folder: Path, report: ImportReport) -> Path:
    records = [
        op(f"{chain}{step}", 5e11, (f"{chain}{step - 1}",) if step else (), 1000)
        for chain in "ab"
        for step in range(4)
    ]
    path = folder / "models" / "chains.gwgraph"
    path.parent.mkdir(exist_ok=True)
    write_graph(replace(graph_of(*records), report=report), path)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    report = ImportReport(
        assumed_dims={"batch": 1},
        estimated_ops={"Odd": 1},
        opaque_ops={"XlaCallModule": 2},
        composite_ops={"Loop": 3},
    )
    return written(tmp_path, report)


@pytest.fixture
def planned(model: Path) -> Path:
    target = ("-c", "2xv100-pcie", "--placer", "eft", "--out", str(model.parents[1] / "out"))
    assert run(["place", str(model), *target]) == 0
    return model.parents[1] / "out" / "plan.json"


def test_verbs_say_it_in_one_line(
    model: Path, planned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = ("-c", "2xv100-pcie")
    for words in (
        ("place", str(model), *cluster, "--placer", "eft"),
        ("compare", str(model), *cluster, "--placer", "eft"),
        ("simulate", str(model), "--plan", str(planned)),
        ("sweep-clusters", str(model), "--cluster", "2xv100-pcie", "--placer", "eft"),
        ("compare", "--suite", str(model.parent), *cluster, "--placer", "eft"),
    ):
        capsys.readouterr()
        assert run(list(words)) == 0, words
        assert LINE in capsys.readouterr().out, words
        assert run([*words, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        gaps = found["import"] if "import" in found else found["imports"][str(model)]
        assert gaps["assumed_dims"] == {"batch": 1}, words
        assert (gaps["estimated_ops"], gaps["opaque_ops"], gaps["complete"]) == (1, 2, False)
        assert gaps["estimated_share"] == 3 / 8


def test_training_says_it_before_it_begins(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(model.parents[1] / "run")
    small = ("--suite", str(model.parent), "--clusters", "2xv100-pcie", "--rounds", "1")
    quick = ("--validation-suite", str(model.parent), "--track", "none", "--out", out)
    assert run(["train", *small, *quick, "--graphs-per-batch", "1"]) == 0
    assert f"{model.name}: {LINE}" in capsys.readouterr().out


def test_a_complete_import_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = written(tmp_path, ImportReport())
    assert run(["place", str(model), "-c", "2xv100-pcie", "--placer", "eft"]) == 0
    assert "0 MB of parameters; nothing was guessed\n" in capsys.readouterr().out


def test_too_much_unknown_is_refused_unless_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = written(tmp_path, ImportReport(unknown_shapes=("a1", "b2")))
    words = ["place", str(model), "-c", "2xv100-pcie", "--placer", "eft"]
    assert run(words) == 2
    told = capsys.readouterr().err
    assert "2 of 8 tensors have no known shape (25%; at most 10% are let through)" in told
    assert "--allow-unknown" in told
    assert run([*words, "--allow-unknown"]) == 0
    assert "2 of 8 tensors have no known shape (25.0%;" in capsys.readouterr().out
    few = written(tmp_path, ImportReport(unknown_shapes=()))
    assert run(["place", str(few), "-c", "2xv100-pcie", "--placer", "eft"]) == 0


def test_help_has_no_flags_that_nobody_needs(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("place", "evaluate", "train"):
        assert run([verb, "--help"]) == 0
        assert "--empty-" not in capsys.readouterr().out, verb
