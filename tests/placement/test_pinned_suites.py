"""Suites from files, and suites whose graphs and clusters are pinned by digests."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from graph_samples import graph_of, op

from agent.cli.app import run
from agent.evaluation.runs import files_digest
from envs import GraphEnv
from graphs.errors import GraphwrightError, ModelError
from graphs.graph_file import write_graph
from graphs.real_graphs import real_graphs
from placement.suites import (
    SUITES,
    Headroom,
    Pair,
    Suite,
    get_suite,
    of_families,
    pair,
    pin_suite,
    pinned_names,
    read_suite,
    suite_text,
)
from placement.suites.results import SuiteRow
from simulator.cluster_file import dump_cluster, load_cluster
from simulator.errors import ClusterError

TIGHT = "2xv100-pcie@tight:1.3"


@pytest.fixture
def pinned(tmp_path: Path) -> Path:
    """A pinned suite: a generated graph in tight memory, a model and a cluster by file."""
    write_graph(graph_of(op("a", 1e9), op("b", 1e9, ("a",), 100)), tmp_path / "mine.gwgraph")
    cluster = tmp_path / "two.yaml"
    cluster.write_text(dump_cluster(load_cluster("2xv100-pcie")), encoding="utf-8")
    pairs = (
        Pair("layered:3:300", TIGHT, Headroom.TIGHT_MEMORY),
        Pair(str(tmp_path / "mine.gwgraph"), str(cluster), Headroom.SLOW_LINKS),
        Pair("real/squeezenet1-1-train", "1xv100-pcie", Headroom.NONE),
    )
    suite = pin_suite(Suite("small", "three pairs", pairs), "7")
    path = tmp_path / "small.json"
    path.write_text(suite_text(suite, tmp_path), encoding="utf-8")
    return path


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a pinned suite's file by hand."""
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    document.pop("digest")
    path.write_text(json.dumps(document), encoding="utf-8")


def refuse(*_: object) -> None:
    raise AssertionError("the portfolio was run")


def test_a_pinned_suite_has_bytes_and_runs_no_placer(
    pinned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tight = Pair("layered:3:300", TIGHT, Headroom.TIGHT_MEMORY).cluster()
    monkeypatch.setattr(pair, "tighten_memory", refuse)
    pair._tight_cluster.cache_clear()
    suite = get_suite(str(pinned))
    assert suite.label == "small@7"
    assert suite.pairs[0].cluster() == tight
    assert suite.pairs[0].cluster().name == tight.name
    memory = json.loads(pinned.read_text(encoding="utf-8"))["pairs"][0]["memory_bytes"]
    assert memory == tight.memory_bytes.tolist()
    assert [item.problem().graph.op_count > 0 for item in suite.pairs] == [True] * 3


def test_files_are_named_from_the_suites_folder(pinned: Path, tmp_path: Path) -> None:
    written = json.loads(pinned.read_text(encoding="utf-8"))["pairs"][1]
    assert (written["graph"], written["cluster"]) == ("mine.gwgraph", "two.yaml")
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    assert read_suite(moved / pinned.name).pairs[1].problem().graph.op_count == 2


def test_another_graph_is_refused(pinned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_graph(graph_of(op("a", 2e9)), pinned.parent / "mine.gwgraph")
    pair._graph.cache_clear()
    suite = get_suite(str(pinned))
    with pytest.raises(ModelError, match=r"small@7: graph .*mine.gwgraph has digest .* pinned is"):
        suite.pairs[1].graph()
    out = str(pinned.parent / "run")
    for tokens in (
        ["compare", "--placer", "single"],
        ["evaluate", "--only", "single"],
        ["train", "--rounds", "1", "--out", out],
        ["train", "--rounds", "1", "--out", out, "--suite", "real-test", "--validation-suite"],
    ):
        last = [] if tokens[-1].endswith("suite") else ["--suite"]
        assert run([*tokens, *last, str(pinned), "--json"]) == 2
        assert "pinned is" in json.loads(capsys.readouterr().out)["error"]
    assert not Path(out).exists()


def test_an_environment_draws_from_a_pinned_suite(pinned: Path) -> None:
    env = GraphEnv(suite=str(pinned))
    observation, info = env.reset(options={"pair": 1})
    assert len(observation["kinds"]) == 2
    assert info["instance"].startswith(str(pinned.parent))


def test_another_cluster_is_refused_when_the_file_is_read(pinned: Path) -> None:
    path = pinned.parent / "two.yaml"
    path.write_text(dump_cluster(load_cluster("2xp100-pcie")), encoding="utf-8")
    with pytest.raises(ClusterError, match=r"small@7: cluster .*two.yaml"):
        read_suite(pinned)


def test_a_link_that_has_changed_is_refused_in_tight_memory(pinned: Path) -> None:
    edit(pinned, lambda document: document["pairs"][0].update(cluster="2xv100-nvlink@tight:1.3"))
    with pytest.raises(ClusterError, match="a device or a link has other figures"):
        read_suite(pinned)


def test_a_real_graph_is_held_against_the_manifest(pinned: Path) -> None:
    edit(pinned, lambda document: document["pairs"][2].update(graph_digest="0" * 16))
    with pytest.raises(ModelError, match="real/squeezenet1-1-train has digest"):
        read_suite(pinned)


def test_an_edited_file_is_told_by_its_digest(pinned: Path) -> None:
    text = pinned.read_text(encoding="utf-8")
    digest = read_suite(pinned).pairs[0].pin.graph_digest  # type: ignore[union-attr]
    pinned.write_text(text.replace(digest, "0" * 16), encoding="utf-8")
    with pytest.raises(GraphwrightError, match="changed by hand, or cut off"):
        read_suite(pinned)


def test_rows_and_resumed_runs_tell_pinned_pairs_apart(pinned: Path) -> None:
    item = read_suite(pinned).pairs[0]
    free = Pair(item.graph_ref, item.cluster_ref, item.headroom)
    assert files_digest(free) == "" != files_digest(item)
    row = SuiteRow(item, "d", 7, 2, {"a": 1.0}, {"a": 2.0}, 0.5, 3.0, 4, "roofline")
    assert SuiteRow.from_dict(json.loads(json.dumps(row.as_dict()))) == row


def test_the_verb_pins_and_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, out = tmp_path / "plain.yaml", tmp_path / "out.json"
    plain.write_text("- [rnnlm-2, 2xv100-pcie]\n- {graph: layered:3:300, cluster: 1xv100-pcie}\n")
    tokens = ["suites", "pin", str(plain), "--out", str(out), "--version", "2026.1"]
    assert run([*tokens, "--families", "layered", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["suite"], made["pairs"]) == ("plain@2026.1", 1)
    assert run(["suites", "show", str(out), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["digest"] == made["digest"]
    assert (
        shown["pairs"][0]["graph_digest"]
        == Pair("layered:3:300", "1xv100-pcie", Headroom.NONE).graph().digest
    )
    assert run(["suites", "show", str(out)]) == 0
    assert f"pinned, digest {made['digest']}" in capsys.readouterr().out
    for wrong in (tokens, [*tokens[:4], "out.yaml"], [*tokens[:4], str(tmp_path / "a/b.json")]):
        assert run([*wrong, "--json"]) == 2
        capsys.readouterr()


@pytest.mark.parametrize("version", ["", "a/b", "1 2"])
def test_a_version_that_is_none_is_refused(version: str) -> None:
    with pytest.raises(GraphwrightError, match="letters, digits"):
        pin_suite(SUITES["paper"], version)


def test_a_plain_list_is_a_suite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in (
        ("a.yaml", "- [rnnlm-2, 2xv100-pcie]\n- {graph: gpt2, cluster: 4xv100-nvlink@tight:1.5}\n"),
        ("a.json", '[["rnnlm-2", "2xv100-pcie"], ["gpt2", "4xv100-nvlink@tight:1.5"]]'),
    ):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        suite = get_suite(str(path))
        assert (suite.label, suite.digest) == ("a", "")
        assert suite.pairs == (
            Pair("rnnlm-2", "2xv100-pcie", Headroom.SLOW_LINKS),
            Pair("gpt2", "4xv100-nvlink@tight:1.5", Headroom.TIGHT_MEMORY),
        )
        tokens = ["compare", "--suite", str(path), "--placer", "single", "--budget", "0.05"]
        assert run([*tokens, "--families", "rnnlm-2", "--json"]) == 0
        (row,) = json.loads(capsys.readouterr().out)["rows"]
        assert row["graph"] == "rnnlm-2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- [rnnlm-2]", "pair 1.*graph and cluster"),
        ("- {graph: gpt2, cluster: 2xv100-pcie, colour: red}", "unknown key colour"),
        ("- {graph: gpt2, cluster: 2xv100-pcie, headroom: much}", "headroom 'much'.*slow-links"),
        ("- {graph: gpt2, cluster: 2xv100-pcie@tight:9000}", "factor from 1 to 10"),
        ("- {graph: gpt2, cluster: 2xv100-pcie, graph_digest: abc}", "without a version"),
        ("version: 1\npairs: [[gpt2, 2xv100-pcie]]", "no digests in a suite with a version"),
        ("format: 9\npairs: [[gpt2, 2xv100-pcie]]", "format 9"),
        ("pairs: []", "no pairs"),
        ("gpt2", "not a suite"),
        ("- [gpt2, 2xv100-pcie", "YAML or JSON"),
    ],
)
def test_mistakes_in_a_file_are_told(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(GraphwrightError, match=message):
        get_suite(str(path))


def test_a_file_that_is_missing_is_told() -> None:
    with pytest.raises(GraphwrightError, match="no such file"):
        get_suite("nowhere/suite.json")


def test_families_are_those_of_generators_and_architectures() -> None:
    assert {item.family for item in SUITES["train"].pairs} >= {"rnnlm", "convnet"}
    real = SUITES["real-test"].pairs[0]
    expected = real_graphs()[real.graph_ref.removeprefix("real/")].family
    assert real.family == expected
    part = of_families(SUITES["real-test"], (expected,))
    assert 0 < len(part.pairs) < 40
    assert {item.family for item in part.pairs} == {expected}
    assert of_families(SUITES["paper"], ()) is SUITES["paper"]
    with pytest.raises(GraphwrightError, match=r"family 'wavnet'; it has .*moe"):
        of_families(SUITES["test-families"], ("moe", "wavnet"))


def test_families_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["suites", "show", "test-families", "--families", "moe", "cells", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["pairs"]
    assert {row["graph"].partition(":")[0] for row in rows} == {"moe", "cells"}
    assert run(["compare", "rnnlm-2", "--families", "rnnlm", "-c", "2xv100-pcie", "--json"]) == 2
    assert "--suite" in json.loads(capsys.readouterr().out)["error"]
    assert run(["evaluate", "--suite", "paper", "--families", "moe", "--json"]) == 2
    assert "no graph of family 'moe'" in json.loads(capsys.readouterr().out)["error"]


@pytest.mark.slow
def test_the_shipped_ones_are_the_suites_of_today() -> None:
    """The references of each; that a sample of pairs still has the pinned digests."""
    for name in pinned_names():
        suite = get_suite(name)
        today = SUITES[suite.name].pairs
        assert suite.label == name
        assert [(p.graph_ref, p.cluster_ref, p.headroom) for p in suite.pairs] == [
            (p.graph_ref, p.cluster_ref, p.headroom) for p in today
        ]
        for item in suite.pairs[:: max(len(suite.pairs) // 4, 1)]:
            item.graph()
            item.cluster()


@pytest.mark.slow
@pytest.mark.parametrize("name", pinned_names())
def test_pinning_the_suite_again_comes_to_the_same(name: str) -> None:
    suite = get_suite(name)
    assert pin_suite(SUITES[suite.name], suite.version).digest == suite.digest


@pytest.mark.parametrize("name", ["halves.yaml", "halves.json"])
@pytest.mark.parametrize("field", ["name", "description", "graph_digest"])
def test_halves_of_characters_are_refused(pinned: Path, name: str, field: str) -> None:
    """JSON and YAML can escape them; nothing can write or digest them."""
    document = json.loads(pinned.read_text(encoding="utf-8"))
    where = document["pairs"][0] if field == "graph_digest" else document
    where[field] += "\ud800"
    path = pinned.parent / name
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(GraphwrightError, match="not a suite's YAML or JSON"):
        read_suite(path)
