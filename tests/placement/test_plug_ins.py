"""Placers and suites of other distributions: a tiny one is put on the path, as pip would do it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.cli.app import run
from agent.cli.verbs import doctor
from agent.evaluation.columns import column_names, column_of
from envs import GraphEnv
from graphs.errors import GraphwrightError
from placement.placers.registry import PLACERS, get_placer
from placement.suites import SUITES, get_suite

MODULE = '''
import numpy as np

import simulator
from placement import Candidate, Placed
from placement.suites import Headroom, Pair, Suite


def backwards(problem, budget, seed, on_progress):
    """The last device takes everything."""
    last = np.full(problem.graph.op_count, problem.cluster.device_count - 1, np.int32)
    plan = simulator.Plan.of(last)
    return Placed(Candidate(plan, problem.evaluate(plan), "backwards"))


def two():
    return Suite("two", "two pairs", (
        Pair("layered:1:300", "2xv100-pcie", Headroom.SLOW_LINKS),
        Pair("layered:2:300", "1xv100-pcie", Headroom.NONE),
    ))


ONE = Suite("one", "one pair", two().pairs[:1])
NUMBER = 7


def fails():
    raise OSError("the disk is full")
'''
ENTRY_POINTS = """
[graphwright.placers]
backwards = tiny_module:backwards
heft = tiny_module:backwards
lost = tiny_module:nothing_here
number = tiny_module:NUMBER
missing = no_such_module:place

[graphwright.suites]
two = tiny_module:two
one = tiny_module:ONE
train = tiny_module:two
number = tiny_module:NUMBER
fails = tiny_module:fails
"""

Install = Callable[[str, str], Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a distribution with these entry points on the path."""

    def put(name: str, points: str) -> Path:
        folder = tmp_path / name
        about = folder / f"{name}-1.2.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (about / "entry_points.txt").write_text(points)
        (folder / "tiny_module.py").write_text(MODULE)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.delitem(sys.modules, "tiny_module", raising=False)
        return folder

    return put


@pytest.fixture
def tiny(install: Install) -> Path:
    return install("tiny", ENTRY_POINTS)


def test_nothing_is_added_where_nothing_is_installed() -> None:
    assert "backwards" not in PLACERS
    with pytest.raises(GraphwrightError, match="unknown placer 'backwards'"):
        get_placer("backwards")
    with pytest.raises(GraphwrightError, match="no suite 'two'"):
        get_suite("two")


def test_they_are_listed_and_not_imported(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(PLACERS)[-4:] == ["backwards", "lost", "missing", "number"]
    assert len(PLACERS) == len(set(PLACERS))
    assert "backwards" in column_names()
    assert run(["suites", "list", "--json"]) == 0
    added = json.loads(capsys.readouterr().out)["added"]
    assert {"name": "two", "distribution": "tiny 1.2"} in added
    with pytest.raises(GraphwrightError, match=r"there are .*search.*backwards"):
        get_placer("nobody")
    assert "tiny_module" not in sys.modules


def test_a_placer_is_used_like_any_other(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert column_of("backwards").about == "The last device takes everything"
    env = GraphEnv(model="layered:1:300", cluster="2xv100-pcie", start="backwards")
    observation, _ = env.reset(seed=0)
    assert set(observation["previous"][:, 0].tolist()) == {1}
    tokens = ["--suite", "two", "--budget", "0.05", "--json"]
    assert run(["compare", *tokens, "--placer", "backwards", "--placer", "single"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [set(row["makespan_seconds"]) for row in rows] == [{"backwards", "single"}] * 2
    assert run(["evaluate", *tokens, "--seeds", "0", "--only", "backwards"]) == 0
    assert json.loads(capsys.readouterr().out)["suite"] == "two"


def test_suites_are_objects_or_functions(tiny: Path) -> None:
    assert len(get_suite("two").pairs) == 2
    assert get_suite("one").pairs == get_suite("two").pairs[:1]


def test_names_that_are_taken_stay_ours(tiny: Path) -> None:
    assert get_placer("heft").__module__ != "tiny_module"
    assert get_suite("train") is SUITES["train"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("lost", "cannot be imported: AttributeError"),
        ("missing", "cannot be imported: ModuleNotFoundError.*no_such_module"),
        ("number", "of type int; a placer is a function"),
    ],
)
def test_a_broken_placer_names_its_distribution(tiny: Path, name: str, why: str) -> None:
    with pytest.raises(
        GraphwrightError, match=f"placer '{name}' of the distribution tiny 1.2.*{why}"
    ):
        get_placer(name)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("number", "gives int; a suite is"),
        ("fails", "fails when it is called: OSError: the disk is full"),
    ],
)
def test_a_broken_suite_names_its_distribution(
    tiny: Path, name: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(
        GraphwrightError, match=f"suite '{name}' of the distribution tiny 1.2.*{why}"
    ):
        get_suite(name)
    assert run(["suites", "show", name, "--json"]) == 2
    assert "uninstall tiny" in json.loads(capsys.readouterr().out)["error"]


def test_two_distributions_with_one_name_are_told(tiny: Path, install: Install) -> None:
    install("other", "[graphwright.placers]\nbackwards = tiny_module:two\n")
    with pytest.raises(GraphwrightError, match=r"'backwards' is added by .*tiny 1.2"):
        get_placer("backwards")
    assert get_placer("heft")


def test_the_doctor_imports_them_all(tiny: Path) -> None:
    found = {label: (fine, detail) for label, fine, detail in doctor._plug_ins()}
    assert found["placers: backwards"] == (True, "tiny 1.2, tiny_module:backwards")
    assert found["suites: two"][0]
    assert {label for label, (fine, _) in found.items() if not fine} == {
        "placers: lost", "placers: missing", "placers: number", "placers: heft",
        "suites: number", "suites: fails", "suites: train",
    }  # fmt: skip
