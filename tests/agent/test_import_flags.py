"""Commands read models of unknown origin in another process, unless they are told to trust."""

import json
from pathlib import Path
from typing import Any, NoReturn

import pytest
from onnx_toys import node, toy_model

from agent.cli.app import run
from graphs.errors import ModelError
from graphs.import_limits import ImportLimits

ASKED: list[ImportLimits] = []


def _asks(*arguments: Any) -> NoReturn:
    ASKED.append(arguments[-1])
    raise ModelError("another process was asked")


def _reads(*_: Any) -> NoReturn:
    raise ModelError("read in this process")


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "toy.onnx"
    made = toy_model([node("Relu", ["x"], ["y"], "relu")], {"x": ["batch", 4]}, ["y"])
    path.write_bytes(made.SerializeToString())
    return str(path)


def _commands(model: str, folder: Path) -> list[list[str]]:
    cluster = ["--cluster", "2xv100-pcie"]
    return [
        ["graphs", "show", model],
        ["graphs", "convert", model, "--out", str(folder / "toy.gwgraph")],
        ["place", model, *cluster, "--placer", "single"],
        ["compare", model, *cluster, "--placer", "single"],
        ["simulate", model, *cluster, "--plan", str(folder / "plan.json")],
        ["explain", model, *cluster, "--plan", str(folder / "plan.json")],
        [
            "report",
            model,
            *cluster,
            "--plan",
            str(folder / "plan.json"),
            "--out",
            str(folder / "r"),
        ],
        [
            "export",
            model,
            *cluster,
            "--plan",
            str(folder / "plan.json"),
            "--out",
            str(folder / "e"),
        ],
        ["measure", model, *cluster, "--plan", str(folder / "plan.json")],
        ["sweep-clusters", model, "--device", "v100", "--count", "1", "--placer", "single"],
        ["calibrate", model, "--out", str(folder / "c")],
        ["finetune", model, *cluster, "--budget", "1s"],
    ]


@pytest.mark.parametrize("number", range(12))
def test_every_verb_reads_models_in_another_process(
    number: int, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("graphs.import_child.import_in_child", _asks)
    ASKED.clear()
    command = _commands(model, tmp_path)[number]
    assert run([*command, "--import-memory", "3GiB", "--import-time", "7s"]) == 2
    assert "another process was asked" in capsys.readouterr().err
    assert [ImportLimits(3 << 30, 7.0)] == ASKED
    monkeypatch.setattr("graphs.formats.run_importer", _reads)
    assert run([*command, "--trust"]) == 2
    assert "read in this process" in capsys.readouterr().err
    assert len(ASKED) == 1


def test_trust_makes_no_difference_to_what_is_read(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = []
    for flags in ([], ["--trust"]):
        assert run(["graphs", "show", model, "--json", *flags]) == 0
        shown.append(json.loads(capsys.readouterr().out))
    assert shown[0] == shown[1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--import-memory", "0"], "must be above zero"),
        (["--import-memory", "much"], "--import-memory: cannot read 'much'"),
        (["--import-time", "0s"], "--import-time 0s: a budget must be above zero"),
        (["--import-memory", "1MiB"], "takes more than 1 MiB of memory, and was ended"),
        (["--import-time", "1us"], "takes longer than 1e-06 s, and was ended"),
    ],
)
def test_limits_are_heeded(
    flags: list[str], message: str, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["graphs", "show", model, *flags]) == 2
    assert message in capsys.readouterr().err


def test_a_model_that_breaks_tensorflow_is_a_mistake_of_the_users(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """More batch dimensions than there are makes a rank of -2, which TensorFlow dies of."""
    import tensorflow as tf

    definition = tf.compat.v1.GraphDef()
    for name, kind in (("table", 3), ("at", 3), ("axis", 3)):
        holder = definition.node.add(name=name, op="Placeholder")
        holder.attr["dtype"].type = kind
    definition.node[1].attr["shape"].shape.dim.add(size=2)
    definition.node[2].attr["shape"].shape.SetInParent()
    definition.node[0].attr["shape"].shape.dim.add(size=2)
    gather = definition.node.add(name="gather", op="GatherV2", input=["table", "at", "axis"])
    gather.attr["batch_dims"].i = 3
    for key in ("Tparams", "Tindices", "Taxis"):
        gather.attr[key].type = 3
    path = tmp_path / "gather.pb"
    path.write_bytes(definition.SerializeToString())
    assert run(["graphs", "show", str(path)]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(
        f"graphwright: {path}: the process that read it was ended by SIGABRT"
    )
    assert shown.err.count("\n") == 1
