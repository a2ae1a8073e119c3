"""The report: true to the trace, whole in one file, without faults in a real browser."""

import dataclasses
import itertools
import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vl_convert
from browser import open_page, print_page
from graph_samples import graph_of, op

from agent.cli.app import run
from graphs import Graph
from graphs.bundled_graphs import load_bundled
from graphs.graph_file import write_graph
from placement import Problem, place
from placement.place import Placement
from placement.placer import Candidate
from placement.report import ReportedPlan, report_html
from placement.report.assumptions import assumptions_section
from placement.report.blocks import Chart, Map, Section, Table, Text
from placement.report.chart_library import chart_library
from placement.report.gantt import MOST_SLICES, gantt_section
from placement.report.graph_map import map_section
from placement.report.memory import memory_section
from placement.report.plan_report import sections_of
from placement.report.steps import steps_section
from placement.report.times import times_section
from simulator.clusters.calibration import Calibration, PredictionError
from simulator.clusters.kernel_times import KernelTimes
from simulator.clusters.presets import preset
from simulator.fusion import xla_like_groups
from simulator.plan import Plan
from simulator.steps import StepSchedule
from simulator.units import format_seconds

UNITS = {"GiB": 2**30, "MiB": 2**20, "KiB": 2**10, "B": 1}


@pytest.fixture(scope="module")
def placement() -> Placement:
    return place(load_bundled("inception-v3"), preset("4xv100-pcie"), "portfolio")


@pytest.fixture(scope="module")
def page(placement: Placement) -> str:
    reported = placement.reported
    groups = xla_like_groups(placement.problem.graph, placement.plan.devices)
    fused = Plan.of(placement.plan.devices, placement.plan.priorities, groups)
    return report_html(
        dataclasses.replace(
            reported,
            plan=fused,
            trace=placement.problem.simulator.trace(fused),
            progress=((0.1, 0.2), (0.5, 0.15), (1.0, 0.13)),
        )
    )


def charts_of(page: str) -> dict[str, Any]:
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    return json.loads(data)


def with_script(page: str, script: str) -> str:
    """The page with one more script at its end; the library holds a `</body>` as well."""
    before, _, after = page.rpartition("</body>")
    return f"{before}<script>{script}</script></body>{after}"


def test_every_section_is_there(page: str) -> None:
    names = re.findall(r'<section id="(\w+)"', page)
    assert names == [
        "times", "gantt", "idle", "memory", "map", "costly", "fusion", "difference", "progress",
        "assumptions",
    ]  # fmt: skip


def test_the_browser_draws_all_of_it(page: str, tmp_path: Path) -> None:
    test = """addEventListener('load', () => setTimeout(async () => {
      const buttons = () => [...document.querySelectorAll('#map-list button')];
      const before = buttons().length;
      let opened = 0;
      while (buttons().length && opened < 9) { buttons()[0].click(); opened += 1; }
      const rows = document.querySelectorAll('#map-list tbody tr').length;
      const focus = document.activeElement.closest('#map-path') !== null;
      document.querySelector('#map-path button').click();
      document.querySelector('[data-zoom=in]').click();
      document.body.dataset.result = JSON.stringify(
        {before, opened, rows, focus, after: buttons().length});
    }, 4000));"""
    path = tmp_path / "report.html"
    path.write_text(with_script(page, test), encoding="utf-8")
    shown = open_page(path, tmp_path)
    assert shown.console == ()
    charts = set(charts_of(page)["charts"])
    drawn = re.findall(r'data-chart="([\w-]+)"[^>]*data-drawn="yes"', shown.dom)
    assert set(drawn) == charts
    assert 'id="map-chart"' in shown.dom
    (result,) = re.findall(r'data-result="([^"]*)"', shown.dom)
    found = json.loads(result.replace("&quot;", '"'))
    assert found["before"] == found["after"] > 5
    assert found["opened"] >= 2
    assert 0 < found["rows"] <= 40
    assert found["focus"] is True


def test_it_opens_on_a_phone(page: str, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    wide = """addEventListener('load', () => setTimeout(() => {
      document.body.dataset.wide = document.documentElement.scrollWidth - innerWidth;
    }, 4000));"""
    path.write_text(with_script(page, wide), encoding="utf-8")
    shown = open_page(path, tmp_path, width=500, height=3000)
    assert shown.console == ()
    (over,) = re.findall(r'data-wide="(-?\d+)"', shown.dom)
    assert int(over) <= 0


def test_nothing_is_loaded_from_elsewhere(page: str) -> None:
    outside = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.findall(r'(?:src|href)="(?!#|data:)', outside)
    assert "@import" not in outside
    assert "url(" not in outside


def test_sizes_stay_small(page: str) -> None:
    assert len(page.encode()) < 3e6


@pytest.mark.slow
def test_the_largest_graph_stays_below_ten_megabytes(tmp_path: Path) -> None:
    large = place(load_bundled("gnmt-8-80k"), preset("8xv100-nvlink"), "metis")
    page = report_html(large.reported)
    assert len(page.encode()) < 10e6
    (tmp_path / "large.html").write_text(page, encoding="utf-8")
    assert open_page(tmp_path / "large.html", tmp_path).console == ()


def test_names_cannot_break_out_of_the_page(tmp_path: Path) -> None:
    evil = "</script><img src=x onerror=console.error('out')>&quot;"
    graph = graph_of(op(evil, 1e12, (), 1 << 20), op("b", 1e12, (evil,), 10))
    placement = place(graph, preset("2xv100-pcie"), "round-robin")
    page = report_html(placement.reported)
    assert "<img src=x" not in page
    (tmp_path / "evil.html").write_text(page, encoding="utf-8")
    assert open_page(tmp_path / "evil.html", tmp_path).console == ()


def test_charts_say_what_the_trace_says(placement: Placement) -> None:
    reported = placement.reported
    trace = placement.trace
    (bars,) = [b for b in times_section(reported).blocks if isinstance(b, Chart)]
    assert bars.spec["data"]["values"][0]["ms"] == pytest.approx(1e3 * trace.makespan_seconds, 1e-4)
    (gantt,) = [b for b in gantt_section(reported).blocks if isinstance(b, Chart)]
    slices = gantt.spec["data"]["values"]
    assert len(slices) <= MOST_SLICES
    for device in range(4):
        busy = sum(item["b"] - item["a"] for item in slices if item["l"] == device)
        assert busy == pytest.approx(1e3 * trace.busy_seconds[device], rel=1e-3)
    critical = [item for item in slices if item.get("c")]
    assert max(item["b"] for item in critical) == pytest.approx(1e3 * trace.makespan_seconds, 1e-4)
    memory = [b for b in memory_section(reported).blocks if isinstance(b, Chart)]
    for device, chart in enumerate(memory):
        top = max(item["m"] for item in chart.spec["data"]["values"])
        unit = UNITS[chart.spec["layer"][0]["encoding"]["y"]["title"]]
        assert top * unit == pytest.approx(int(trace.peak_bytes[device]), rel=1e-3)


def test_the_map_holds_every_op_once(placement: Placement) -> None:
    (_, drawn) = map_section(placement.reported).blocks
    assert isinstance(drawn, Map)
    names: list[str] = []

    def walk(group: dict[str, Any]) -> int:
        assert len(group.get("c", ())) <= 32
        if "c" in group:
            assert group["o"] == sum(walk(child) for child in group["c"])
        else:
            names.extend(group["f"] + row[0] for row in group["l"])
            assert group["o"] == len(group["l"])
        return group["o"]

    graph = placement.problem.graph
    assert walk(drawn.tree["root"]) == graph.op_count
    assert sorted(names) == sorted(graph.op_names)


def test_a_plan_that_does_not_fit_says_so(placement: Placement) -> None:
    small = place(placement.problem.graph, preset("2xv100-pcie@64MiB"), "single")
    page = report_html(small.reported)
    assert 'class="warning">Not feasible: v100:0 runs out of memory' in page


def test_each_table_has_a_cell_for_each_column(placement: Placement) -> None:
    for section in sections_of(placement.reported):
        for block in section.blocks:
            if isinstance(block, Table):
                assert {len(row) for row in block.rows} <= {len(block.columns)}


def test_report_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = graph_of(
        *(op(f"{c}{i}", 1e12, (f"{c}{i - 1}",) if i else (), 9) for c in "ab" for i in (0, 1))
    )
    model = tmp_path / "chains.gwgraph"
    write_graph(graph, model)
    out = tmp_path / "out"
    flags = ("--placer", "metis", "--placer", "single", "--out", str(out))
    assert run(["compare", str(model), "-c", "2xv100-pcie", *flags]) == 0
    assert {path.name for path in out.iterdir()} >= {"plan.json", "report.html"}
    written = (out / "report.html").read_text()
    assert "single" in written
    again = tmp_path / "again.html"
    plan = str(out / "plan.json")
    capsys.readouterr()
    assert run(["report", str(model), "--plan", plan, "--out", str(again), "--baseline", plan]) == 0
    assert "open it in any browser" in capsys.readouterr().out
    assert "0 of 4 ops elsewhere" in again.read_text()
    assert run(["compare", "--suite", "paper", "--out", str(out)]) == 2


def test_a_calibrated_cluster_says_how_far_off_it_is(placement: Placement) -> None:
    """And one without says that figures are estimates."""
    error = PredictionError(4, 0.03, 0.02, 0.1, "plan 2", 0.99, 0.9, 1.0, 0.0)
    times = KernelTimes("this machine", "v100")
    calibration = Calibration("this machine", "ort", times, "costs.json", error)
    problem = placement.problem
    cluster = dataclasses.replace(problem.given_cluster, calibration=calibration)
    known = Problem(problem.graph, cluster, given_costs=problem.costs)
    reported = placement.reported
    for given, words in ((problem, "no calibration"), (known, "mean error 3.0%")):
        section = assumptions_section(dataclasses.replace(reported, problem=given))
        first = section.blocks[0]
        assert isinstance(first, Text)
        assert words in first.words
    (bars,) = [
        block
        for block in times_section(dataclasses.replace(reported, problem=known)).blocks
        if isinstance(block, Chart)
    ]
    mine = bars.spec["data"]["values"][0]
    assert mine["low"] == pytest.approx(0.97 * mine["ms"], rel=1e-4)
    assert mine["high"] == pytest.approx(1.03 * mine["ms"], rel=1e-4)


def chart_of(section: Section, name: str) -> Chart:
    (found,) = [b for b in section.blocks if isinstance(b, Chart) and b.name == name]
    return found


@pytest.mark.parametrize("count", [3, 300])
def test_memory_is_drawn_as_it_is_until_the_end(count: int) -> None:
    """Samples at one instant are not added up, by Vega-Lite's stacking of areas."""
    graph = graph_of(
        *(op(f"n{i}", 1e9, (f"n{i - 1}",) if i else (), 1 << 20) for i in range(count))
    )
    problem = Problem(graph, preset("2xv100-pcie"))
    plan = Plan.of(np.zeros(count, np.int32))
    trace = problem.simulator.trace(plan)
    chart = chart_of(memory_section(ReportedPlan(problem, plan, trace, "test")), "memory-0")
    compiled = vl_convert.vegalite_to_vega(dict(chart.spec))
    transforms = [t["type"] for data in compiled["data"] for t in data.get("transform", [])]
    assert "stack" not in transforms
    times, levels = trace.memory_timeline(0)
    values = chart.spec["data"]["values"]
    drawn = [value["t"] for value in values]
    assert len(set(drawn)) == len(drawn)
    assert drawn[-1] == pytest.approx(1e3 * trace.makespan_seconds, rel=1e-5)
    unit = UNITS[chart.spec["layer"][0]["encoding"]["y"]["title"]]
    assert values[-1]["m"] * unit == pytest.approx(levels[-1], rel=1e-4)
    for start, end in itertools.pairwise(values):
        inside = (times > start["t"] / 1e3 * (1 - 1e-5)) & (times < end["t"] / 1e3 * (1 - 1e-5))
        highest = max([levels[times <= start["t"] / 1e3 * (1 + 1e-5)][-1], *levels[inside]])
        assert start["m"] * unit <= highest * (1 + 1e-4)


def compared(graph: Graph, *candidates: tuple[str, Plan]) -> ReportedPlan:
    """A report of the first plan beside all of them."""
    problem = Problem(graph, preset("2xv100-pcie"))
    known = tuple(Candidate(plan, problem.evaluate(plan), name) for name, plan in candidates)
    plan = candidates[0][1]
    return ReportedPlan(problem, plan, problem.simulator.trace(plan), "test", known)


def test_equal_plans_share_a_row() -> None:
    graph = graph_of(*(op(f"n{i}", 1e11, (), 8) for i in range(4)))
    apart, together = Plan.of(np.array([0, 1, 0, 1])), Plan.of(np.zeros(4, np.int32))
    ordered = Plan.of(together.devices, np.arange(4.0))  # no figure depends on it
    uneven = Plan.of(np.array([0, 0, 0, 1]))
    reported = compared(
        graph, ("heft", apart), ("single:v100:0", together), ("layers:1", ordered),
        ("layers:2", uneven), ("metis:2", apart), ("eft", uneven), ("m-sct", uneven),
        ("m-etf", ordered),
    )  # fmt: skip
    (table,) = [b for b in times_section(reported).blocks if isinstance(b, Table)]
    assert [row[0] for row in table.rows] == [
        "this plan (heft, metis)", "layers, eft, m-sct", "single, m-etf"
    ]  # fmt: skip
    low, high = table.rows[1][2].split(" to ")
    assert low != high  # the variant of `layers` that is the single device
    bars = chart_of(times_section(reported), "times").spec["data"]["values"]
    assert [bar["name"] for bar in bars] == ["this plan", "layers, eft +1", "single, m-etf"]
    assert [bar["full"] for bar in bars] == [row[0] for row in table.rows]


@pytest.mark.parametrize("factor", [2.0, 10.0])
def test_an_outlier_does_not_squash_the_other_bars(factor: float) -> None:
    graph = graph_of(op("a", 1e12, (), 8), op("b", 1e12, ("a",), 8))
    reported = compared(graph, ("single", Plan.of(np.zeros(2, np.int32))))
    step = reported.trace.makespan_seconds
    slow = dataclasses.replace(reported.candidates[0].evaluation, makespan_seconds=factor * step)
    other = Candidate(Plan.of(np.array([0, 1])), slow, "round-robin")
    reported = dataclasses.replace(reported, candidates=(*reported.candidates, other))
    spec = chart_of(times_section(reported), "times").spec
    x = spec["layer"][0]["encoding"]["x"]
    mine, worst = spec["data"]["values"]
    assert worst["ms"] == pytest.approx(1e3 * factor * step, rel=1e-5)
    if factor == 2.0:
        assert "scale" not in x
        assert "cut" not in worst
    else:
        assert mine["shown"] > 0.3 * x["scale"]["domain"][1]
        assert worst["shown"] == x["scale"]["domain"][1]
        assert worst["cut"].startswith(format_seconds(factor * step))
        assert "cut off" in x["title"]
    vl_convert.vegalite_to_vega(dict(spec))


def names_of(graph: Graph) -> list[str]:
    """Of all groups of the map, from the top."""
    plan = Plan.of(np.zeros(graph.op_count, np.int32))
    problem = Problem(graph, preset("2xv100-pcie"))
    reported = ReportedPlan(problem, plan, problem.simulator.trace(plan), "test")
    (_, drawn) = map_section(reported).blocks
    assert isinstance(drawn, Map)
    names: list[str] = []

    def walk(group: dict[str, Any]) -> None:
        for child in group.get("c", ()):
            names.append(child["n"])
            walk(child)

    walk(drawn.tree["root"])
    return names


def test_groups_without_names_are_called_by_what_they_do() -> None:
    kinds = [("Conv", 1e11), ("Relu", 1e9), ("Shape", 0.0)]
    ops = [
        dataclasses.replace(
            op(str(i), kinds[i % 3][1], (str(i - 1),) if i else (), 64), op_type=kinds[i % 3][0]
        )
        for i in range(100)
    ]
    assert names_of(graph_of(*ops)) == [f"Conv, Relu ({i} of 3)" for i in (1, 2, 3)]
    many = [op(f"n{i}", 1e9, (), 64) for i in range(40 * 70)]
    names = names_of(graph_of(*many))
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"\w+ \(\d+( to \d+)? of 70\)", name) for name in names)


def test_numbers_in_names_go_with_what_they_number() -> None:
    ops = [
        op(f"model.layers.{layer}.{part}.{i}", 1e9, (), 64)
        for layer in range(4)
        for part in ("attention", "mlp")
        for i in range(30)
    ]
    names = names_of(graph_of(*ops))
    assert names[0].endswith("layers.0")
    assert {"attention", "mlp"} <= {name.rpartition("/")[2] for name in names}
    assert not [name for name in names if name.isdigit()]


def test_a_report_says_what_the_import_did_not_know(placement: Placement) -> None:
    problem = placement.problem
    report = dataclasses.replace(
        problem.graph.report, opaque_ops={"XlaCallModule": 2}, folded_ops={"Transpose": 225}
    )
    graph = dataclasses.replace(problem.graph, report=report)
    known = Problem(graph, problem.given_cluster, given_costs=problem.costs)
    section = assumptions_section(dataclasses.replace(placement.reported, problem=known))
    (table,) = [block for block in section.blocks if isinstance(block, Table)]
    rows = {row[0]: row[1] for row in table.rows}
    assert "2 ops hide their work" in rows["import"]
    assert rows["ops that hide their work"] == "2 XlaCallModule"
    assert rows["computed once, at load"] == "225 Transpose"


def test_all_charts_are_printed(page: str, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    printed = print_page(path, tmp_path)
    masks = len(re.findall(rb"/SMask \d", printed))
    assert masks >= len(charts_of(page)["charts"]) + 1  # and the graph


def test_steps_that_overlap_have_a_lane_for_each_device() -> None:
    graph = graph_of(op("a", 1e12, output_bytes=1000), op("b", 1e12, ("a",)))
    problem = Problem(graph, preset("2xv100-pcie"))
    plan = Plan.of(np.array([0, 1]))
    trace = problem.simulator.trace(plan)
    steps = problem.simulator.trace_steps(plan, StepSchedule(6, 2))
    reported = ReportedPlan(problem, plan, trace, "by hand", steps=steps)
    section = steps_section(reported)
    assert section is not None
    values = chart_of(section, "steps").spec["data"]["values"]
    assert [(value["l"], value["s"]) for value in values] == [
        (device, f"step {step}") for device in (0, 1) for step in range(6)
    ]
    (table,) = [block for block in section.blocks if isinstance(block, Table)]
    assert [row[0] for row in table.rows] == ["v100:0", "v100:1"]
    assert steps_section(dataclasses.replace(reported, steps=None)) is None
    assert "Steps that overlap" in report_html(reported)


def test_the_chart_library_is_bundled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = chart_library.__wrapped__
    bundled: list[int] = []

    def bundle() -> str:
        bundled.append(1)
        return "script with a </script>"

    monkeypatch.setattr(vl_convert, "javascript_bundle", bundle)
    script = "script with a <\\/script>"
    assert (made(tmp_path / "new"), made(tmp_path / "new"), len(bundled)) == (script, script, 1)
    (kept,) = (tmp_path / "new").iterdir()
    assert version("vl-convert-python") in kept.name
    # Another version of it, a damaged file, or a place that cannot be written to.
    kept.rename(kept.with_name("charts-0.js"))
    assert (made(tmp_path / "new"), len(bundled)) == (script, 2)
    kept.write_bytes(b"\xff")
    assert (made(tmp_path / "new"), len(bundled)) == (script, 3)
    assert made(kept / "below") == script
    assert len(bundled) == 4
