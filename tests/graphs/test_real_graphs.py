"""Graphs of real models: what the manifest says is so, and splits are apart."""

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from agent.cli.app import run
from graphs.catalogue import resolve
from graphs.errors import ModelError
from graphs.graph_file import SUFFIX
from graphs.import_gaps import import_gaps
from graphs.kinds import OpKind, Phase
from graphs.real_graphs import SPLITS, load_real, real_graphs

FOLDER = Path(str(files("graphs") / "real"))


def test_the_manifest_lists_the_files_that_are_there() -> None:
    assert {path.stem for path in FOLDER.glob(f"*{SUFFIX}")} == set(real_graphs())
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 6e6
    assert not list(FOLDER.glob("*.partial"))


def test_every_graph_is_as_the_manifest_says() -> None:
    for name, row in real_graphs().items():
        graph = load_real(name)
        assert (graph.digest, graph.op_count, graph.edge_count) == (row.digest, row.ops, row.edges)
        assert 150 <= graph.op_count <= 12_000
        phases = set(np.unique(graph.phases))
        assert phases == (set(Phase) if row.training else {Phase.FORWARD}), name
        gaps = import_gaps(graph)
        guesses = {
            "estimated_ops": dict(graph.report.estimated_ops),
            "composite_ops": dict(graph.report.composite_ops),
            "opaque_ops": dict(graph.report.opaque_ops),
            "assumed_dims": dict(graph.report.assumed_dims),
            "unknown_shapes": gaps.unknown_shapes,
        }
        assert {key: value for key, value in guesses.items() if value} == row.guesses, name
        assert gaps.is_complete == (not row.guesses), name


def test_no_graph_is_there_twice() -> None:
    digests = [row.digest for row in real_graphs().values()]
    assert len(set(digests)) == len(digests)


def test_families_and_their_kin_are_in_one_split() -> None:
    splits: dict[str, set[str]] = {}
    for row in real_graphs().values():
        assert row.split in SPLITS
        splits.setdefault(row.kin, set()).add(row.split)
        splits.setdefault(f"family {row.family}", set()).add(row.split)
    assert all(len(found) == 1 for found in splits.values())
    families = {row.family for row in real_graphs().values()}
    assert len(families) >= 40


def test_the_corpus_is_as_wide_as_it_says() -> None:
    known = list(real_graphs().values())
    shares = {split: sum(row.split == split for row in known) / len(known) for split in SPLITS}
    assert 0.5 < shares["train"] < 0.7
    assert 0.1 < shares["validation"] < 0.25
    assert 0.2 < shares["test"] < 0.35


def test_a_resnet_by_hand() -> None:
    """53 convolutions and as many normalisations, 49 of them followed by an activation; one
    pooling at each end, one product; 16 additions."""
    graph = load_real("resnet50")
    types = [name.removeprefix("aten.").partition(".")[0] for name in graph.op_types]
    counts = {name: types.count(name) for name in set(types)}
    assert counts["conv2d"] == 53
    assert counts["batch_norm"] == 53
    assert counts["relu_"] == 49
    assert counts["max_pool2d"] == counts["adaptive_avg_pool2d"] == counts["linear"] == 1
    assert counts["add_"] == 16
    # 4.09 billion multiply-adds an image, and 25,557,032 numbers of four bytes with 53,120 means
    # and variances.
    batch = real_graphs()["resnet50"].batch
    contractions = np.isin(graph.kinds, [OpKind.CONV, OpKind.MATMUL])
    assert graph.flops[contractions].sum() / 2 / batch == pytest.approx(4.09e9, rel=0.01)


def test_a_training_step_updates_every_parameter() -> None:
    graph = load_real("resnet50-train")
    updates = [name for name, phase in zip(graph.op_names, graph.phases, strict=True)
               if phase == Phase.UPDATE]  # fmt: skip
    # A weight for each convolution, two for each normalisation, two of the classifier.
    assert len(updates) == 53 + 2 * 53 + 2


def test_references_resolve_and_mistakes_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert resolve("real/resnet50") == load_real("resnet50")
    with pytest.raises(
        ModelError, match=r"no real graph 'real/resnet5'; close are .*resnet50"
    ) as e:
        resolve("real/resnet5")
    assert len(str(e.value)) < 400
    assert run(["graphs", "list", "--real", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["graphs"]
    assert [row["reference"] for row in rows] == [f"real/{name}" for name in real_graphs()]
    assert run(["graphs", "show", "real/resnet50", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["digest"] == real_graphs()["resnet50"].digest


def test_a_damaged_file_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import graphs.real_graphs as module

    (tmp_path / "real").mkdir()
    data = (FOLDER / f"resnet101{SUFFIX}").read_bytes()
    (tmp_path / "real" / f"resnet50{SUFFIX}").write_bytes(data)
    known = real_graphs()
    monkeypatch.setattr(module, "files", lambda package: tmp_path)
    monkeypatch.setattr(module, "real_graphs", lambda: known)
    with pytest.raises(ModelError, match=r"digest .* the manifest says"):
        load_real("resnet50")
