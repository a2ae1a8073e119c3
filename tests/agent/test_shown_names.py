"""Names that a model brings along reach neither a terminal nor a page but as text."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import onnx
import pytest
from graph_samples import graph_of, op
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from onnx import helper
from onnx_toys import toy_model

from agent.cli.app import run
from agent.cli.output import print_lines, print_table, print_text
from envs.instance import Instance
from envs.rendering import gantt
from graphs.graph_file import write_graph
from graphs.visible_text import visible, visible_in_picture
from placement.problem import Problem
from simulator.cluster_file import parse_cluster
from simulator.clusters.presets import preset
from simulator.errors import ClusterError

HOSTILE = (
    "[/red]closed",
    "[bold red]marked[/]",
    ":bomb:",
    "\x1b[2J\x1b[31mpainted",
    "a\nplan by nobody: step 1 us",
    "turned \u202e\u2066",
    "\x9b31m\x07\r",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>\"'&",
    "<!--",
    "\u2028\u200b",
    "$\\frac$",
    "tail\\",
)
TEXTS = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30),
)


def model_with(folder: Path, names: list[str]) -> Path:
    """A chain of ops of these names and types, in a graph that is called like the first."""
    records = [
        replace(op(name, 1e12, (names[at - 1],) if at else (), 1000), op_type=name)
        for at, name in enumerate(names)
    ]
    path = folder / "chain.gwgraph"
    write_graph(replace(graph_of(*records), name=names[0]), path)
    return path


def everything_shown(model: Path, names: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What the verbs that read a model print, all together; none of them may fail."""
    out = model.parent / "out"
    flags = [str(model), "--cluster", "2xv100-pcie"]
    plan = ["--plan", str(out / "plan.json")]
    commands = [
        ["graphs", "show", str(model)],
        ["place", *flags, "--placer", "heft", "--out", str(out)],
        ["place", *flags, "--objective", "throughput", "--budget", "0.1"],
        ["compare", *flags, "--placer", "single", "--placer", "heft"],
        ["simulate", *flags, *plan],
        ["explain", *flags, *plan],
        *(["explain", *flags, *plan, "--op", name] for name in names[:2] if name[0] != "-"),
        ["report", *flags, *plan, "--out", str(out / "page.html")],
        ["sweep-clusters", str(model), "--cluster", "2xv100-pcie", "4xv100-pcie", "--placer",
         "heft", "--out", str(out / "sweep.html")],
        ["graphs", "convert", str(model), "--out", str(out / "again.gwgraph")],
    ]  # fmt: skip
    capsys.readouterr()
    for words in commands:
        code = run(words)
        assert code in (0, 3), (words, capsys.readouterr().err)
    shown = capsys.readouterr()
    return shown.out + shown.err


@example(names=list(HOSTILE))
@given(names=st.lists(TEXTS, min_size=2, max_size=5, unique=True))
@settings(max_examples=1, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_that_a_name_holds_works_on_a_terminal_or_a_page(
    names: list[str],
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path_factory.mktemp("named")
    shown = everything_shown(model_with(folder, names), names, capsys)
    assert all(line.isprintable() for line in shown.split("\n")), repr(shown)
    for page in ("report.html", "page.html", "sweep.html"):
        check_page((folder / "out" / page).read_text(encoding="utf-8"))


def test_what_learns_and_what_is_exported_shows_names_as_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table of models in files that are called so, a policy that learns on one, and parts."""
    models = tmp_path / "models"
    models.mkdir()
    names = [name for name in HOSTILE if "/" not in name]
    for name in (names[0], names[2]):
        model_with(tmp_path, names).rename(models / f"{name}.gwgraph")
    model = str(models / f"{names[2]}.gwgraph")
    relus = [
        helper.make_node("Relu", [before], [name], name)
        for before, name in zip(["x", *names[:-1]], names, strict=True)
    ]
    onnx.save(toy_model(relus, {"x": [2]}, [names[-1]]), tmp_path / "chain.onnx")
    foreign, target = str(tmp_path / "chain.onnx"), ["--cluster", "2xv100-pcie"]
    out = str(tmp_path / "out")
    commands = [
        ["evaluate", "--graphs", str(models), "--clusters", "2xv100-pcie", "--only", "single",
         "heft", "--seeds", "0", "--budget", "0.1", "--out", str(tmp_path / "table")],
        ["finetune", model, *target, "--updates", "1", "--budget", "0.2", "--out",
         str(tmp_path / "tuned"), "--track", "none"],
        ["place", foreign, *target, "--placer", "round-robin", "--out", out],
        ["export", foreign, *target, "--plan", f"{out}/plan.json", "--out",
         str(tmp_path / "parts")],
    ]  # fmt: skip
    for words in commands:
        assert run(words) == 0, (words, capsys.readouterr().err)
    shown = capsys.readouterr()
    assert visible(names[0]) in shown.out
    assert all(line.isprintable() for line in (shown.out + shown.err).split("\n")), repr(shown)


class _Elements(HTMLParser):
    """Collects what a browser would make of a page: elements, attributes, text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: dict[str, int] = {}
        self.handlers: list[str] = []
        self.texts: list[str] = []
        self.comments = 0
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] = self.elements.get(tag, 0) + 1
        self.handlers.extend(key for key, _ in attrs if key.startswith("on") or key == "src")
        self._inside = tag

    def handle_comment(self, data: str) -> None:
        self.comments += 1

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.texts.append(data)


def check_page(page: str) -> None:
    """Three scripts, no handler, no picture from elsewhere, and text that can be seen."""
    found = _Elements()
    found.feed(page)
    assert found.elements["script"] == 3
    assert "img" not in found.elements
    assert found.handlers == []
    assert found.comments == 0
    for text in found.texts:
        assert all(line.isprintable() for line in text.split("\n")), repr(text)
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    for text in strings_in(json.loads(data)):
        assert text.isprintable(), repr(text)


def strings_in(value: object) -> list[str]:
    """All texts of a document."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for item in value.values() for text in strings_in(item)]
    if isinstance(value, list):
        return [text for item in value for text in strings_in(item)]
    return []


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_shown_whole_and_as_they_are(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = model_with(tmp_path, [name, "reader"])
    flags = [str(model), "--cluster", "2xv100-pcie"]
    assert run(["place", *flags, "--placer", "single", "--out", str(tmp_path / "out")]) == 0
    assert visible(name) in capsys.readouterr().out
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    found = _Elements()
    found.feed(page)
    assert any(visible(name) in text for text in found.texts)


@pytest.mark.parametrize("name", HOSTILE)
def test_mistakes_quote_names_without_their_effects(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(model_with(tmp_path, ["a", "b"]))
    for words in (
        ["graphs", "show", str(tmp_path / f"{name.replace('/', '')}.onnx")],
        ["place", model, "--cluster", name],
        ["place", model, "--cluster", "2xv100-pcie", "--placer", name],
        ["place", model, "--cluster", "2xv100-pcie", f"--{name}"],
        ["place", model, "--cluster", "2xv100-pcie", "--pin", f"{name}=nowhere"],
        ["simulate", model, "--cluster", "2xv100-pcie", "--plan", str(tmp_path / f"{name}.json")],
        ["export", model, "--plan", str(tmp_path / f"{name}.json"), "--out", str(tmp_path / "x")],
        ["measure", model, "--cluster", "2xv100-pcie", "--compare", "single", "--runtime", name],
        ["measure", model, "--cluster", name, "--compare", "single"],
        ["evaluate", "--suite", name, "--out", str(tmp_path / "table")],
        ["evaluate", "--suite", "validation", "--only", name, "--out", str(tmp_path / "table")],
        ["finetune", model, "--cluster", name],
        ["finetune", model, "--cluster", "2xv100-pcie", "--policy", name],
        [name],
    ):
        assert run(words) == 2, words
        error = capsys.readouterr().err
        assert all(line.isprintable() for line in error.split("\n")), repr(error)
        first, *further = error.rstrip("\n").split("\n")
        assert first.startswith("graphwright: ")
        assert all(line.startswith("  ") for line in further)


@given(text=st.text())
def test_all_text_becomes_visible_and_visible_text_stays(text: str) -> None:
    shown = visible(text)
    assert shown.isprintable()
    assert visible(shown) == shown
    if text.isprintable():
        assert shown == text
    else:
        assert "\\" in shown


def test_tables_and_lines_show_text_alone(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("[/title]", ["[b]one", "two\n"], [[name, name] for name in HOSTILE], left=2)
    print_text("one\nline")
    print_lines("two\nlines\x1b")
    print_text("\ud800")
    shown = capsys.readouterr().out
    assert all(line.isprintable() for line in shown.split("\n"))
    assert all(visible(name) in shown for name in HOSTILE)
    assert "[/title]" in shown
    assert "[b]one" in shown
    assert shown.endswith("one\\nline\ntwo\nlines\\x1b\n\\ud800\n")


def test_a_cluster_has_names_that_can_be_shown() -> None:
    for text in (
        'devices: [{name: "gpu\\x1b[2J", like: a100}]',
        'name: "a\\nb"\ndevices: [{name: gpu, like: a100}]',
        'devices: [{name: gpu, like: a100, kind: "\\u202e"}]',
    ):
        with pytest.raises(ClusterError, match="cannot be shown"):
            parse_cluster(text, "text")


def test_pictures_take_no_name_for_a_formula() -> None:
    assert visible_in_picture("$\\frac$\n") == "\\$\\frac\\$\\n"
    devices = preset("2xv100-pcie")
    named = replace(devices.devices[0], name="$\\frac$")
    links = tuple(
        replace(
            link,
            source=link.source.replace(devices.devices[0].name, named.name),
            target=link.target.replace(devices.devices[0].name, named.name),
        )
        for link in devices.links
    )
    cluster = replace(devices, devices=(named, *devices.devices[1:]), links=links)
    instance = Instance("$\\frac$", Problem(graph_of(op("a", 1.0)), cluster))
    assert gantt(instance, None).shape[2] == 3
