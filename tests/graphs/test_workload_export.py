"""Workloads as TensorFlow files: read back they are the same step, and TensorFlow loads them."""

import json
from pathlib import Path

import pytest
import tensorflow as tf

from agent.cli.app import run
from graphs import ModelError, load
from graphs.workloads import registry
from graphs.workloads.export import SIGNATURE, write_graph_def, write_saved_model
from graphs.workloads.registry import graph_of_workload
from graphs.workloads.rnnlm import RnnlmConfig, rnnlm
from graphs.workloads.training import Workload


@pytest.fixture(scope="module")
def workload() -> Workload:
    return rnnlm(RnnlmConfig(2, hidden=16, steps=4, batch=2, vocabulary=50))


def test_both_forms_import_as_the_workload_does(workload: Workload, tmp_path: Path) -> None:
    before = workload.node_count
    write_graph_def(workload, tmp_path / "small.pb")
    write_saved_model(workload, tmp_path / "small")
    digest = graph_of_workload("small", workload).digest
    assert load(tmp_path / "small.pb").digest == digest
    assert load(tmp_path / "small").digest == digest
    assert workload.node_count == before


def test_a_saved_model_initialises_itself_and_runs_a_step(
    workload: Workload, tmp_path: Path
) -> None:
    write_saved_model(workload, tmp_path)
    tf1 = tf.compat.v1
    with tf1.Session(graph=tf.Graph()) as session:
        meta = tf1.saved_model.load(session, ["train"], str(tmp_path))
        signature = meta.signature_def[SIGNATURE]
        fed = {info.name: [[1] * 4] * 2 for info in signature.inputs.values()}
        loss = next(info.name for info in signature.outputs.values() if ":" in info.name)
        results = [info.name for info in signature.outputs.values()]
        first = session.run(loss, fed)
        for _ in range(20):
            session.run(results, fed)
        assert session.run(loss, fed) < first


def test_build_writes_what_the_ending_says(
    workload: Workload,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(registry, "build_workload", lambda name: workload)
    digests = set()
    for out in ("step.pb", "step", "step.gwgraph"):
        assert run(["graphs", "build", "small", "--out", str(tmp_path / out), "--json"]) == 0
        digests.add(json.loads(capsys.readouterr().out)["digest"])
        assert load(tmp_path / out).digest in digests
    assert len(digests) == 1
    assert (tmp_path / "step" / "saved_model.pb").is_file()
    assert run(["graphs", "build", "layered:3:500", "--out", str(tmp_path / "g.pb"), "--json"]) == 2
    assert "no TensorFlow model" in json.loads(capsys.readouterr().out)["error"]


def test_a_path_that_cannot_be_written_is_named(workload: Workload, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="file"):
        write_saved_model(workload, tmp_path / "file")
    with pytest.raises(ModelError, match=r"x\.pb"):
        write_graph_def(workload, tmp_path / "file" / "x.pb")
