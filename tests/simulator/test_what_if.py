"""Clusters with changed figures, and many clusters side by side."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from browser import open_page
from graph_samples import graph_of, op

from agent.cli.app import run
from graphs.graph import Graph
from graphs.graph_file import write_graph
from placement.placers.registry import get_placer
from placement.report.sweep import efficient, sweep
from placement.report.sweep_report import sweep_html
from simulator.clusters.cluster import Cluster
from simulator.clusters.presets import preset
from simulator.clusters.what_if import apply_change
from simulator.errors import ClusterError

CLUSTER = preset("cpu+2xv100-pcie")


@pytest.mark.parametrize(
    ("setting", "read"),
    [
        ("device.memory=24GiB", lambda c: [d.memory_bytes == 24 << 30 for d in c.devices]),
        ("v100.memory=8GiB", lambda c: [d.memory_bytes == 8 << 30 for d in c.devices[1:]]),
        ("v100:1.memory=2x", lambda c: [c.devices[2].memory_bytes == 32 << 30]),
        ("link.bandwidth=2x", lambda c: [
            new.bytes_per_second == 2 * old.bytes_per_second
            for new, old in zip(c.links, CLUSTER.links, strict=True)
        ]),
        ("v100:0->v100:1.latency=3us", lambda c: [
            (k.latency_seconds == 3e-6) == ((k.source, k.target) == ("v100:0", "v100:1"))
            for k in c.links
        ]),
        ("v100.flops=0.5x", lambda c: [
            c.devices[1].flops_per_second[t] == v / 2
            for t, v in CLUSTER.devices[1].flops_per_second.items()
        ]),
        ("v100.launch=0s", lambda c: [c.devices[1].launch_seconds == 0]),
        ("device.memory_bandwidth=1TB/s", lambda c: [
            d.memory_bytes_per_second == 1e12 for d in c.devices
        ]),
    ],
)  # fmt: skip
def test_settings_change_what_they_name(
    setting: str, read: Callable[[Cluster], list[bool]]
) -> None:
    result = apply_change(CLUSTER, [setting])
    assert all(read(result))
    assert result.digest != CLUSTER.digest
    assert result.name == f"{CLUSTER.name} with {setting}"


def test_nothing_named_changes_nothing() -> None:
    assert apply_change(CLUSTER, []) is CLUSTER


@pytest.mark.parametrize(
    "setting",
    ["memory=2x", "device.memory", "device.colour=2x", "a100.memory=2x", "device.memory=-1x",
     "device.memory=2parsecs", "link.bandwidth=0", "v100.flops=nanx", "device.memory=0x"],
)  # fmt: skip
def test_mistakes_are_refused(setting: str) -> None:
    with pytest.raises(ClusterError):
        apply_change(CLUSTER, [setting])


def heavy_chains() -> Graph:
    return graph_of(
        *(op(f"{c}{i}", 1e12, (f"{c}{i - 1}",) if i else (), 9) for c in "abcd" for i in (0, 1))
    )


def test_two_devices_halve_the_time_and_eight_waste_money() -> None:
    clusters = [preset(f"{count}xv100-pcie") for count in (1, 2, 4, 8)]
    points = sweep(heavy_chains(), clusters, get_placer("eft"), "eft", 1.0, 0)
    times = [point.seconds / points[0].seconds for point in points]
    assert times == pytest.approx([1, 1 / 2, 1 / 4, 1 / 4], rel=1e-3)
    assert [point.cost / points[0].cost for point in points] == pytest.approx(
        [1, 1, 1, 2], rel=1e-3
    )
    assert points[3].used_devices == 4
    assert efficient(points)[2:] == [True, False]
    priced = sweep(heavy_chains(), clusters[:1], get_placer("eft"), "eft", 1.0, 0, {"v100": 3.6})
    assert priced[0].cost == pytest.approx(priced[0].seconds)


def test_the_page_of_a_sweep_draws(tmp_path: Path) -> None:
    clusters = [preset(f"{count}xv100-pcie") for count in (1, 2)]
    points = sweep(heavy_chains(), clusters, get_placer("eft"), "eft", 1.0, 0)
    page = tmp_path / "sweep.html"
    page.write_text(sweep_html(points, "device-seconds"), encoding="utf-8")
    shown = open_page(page, tmp_path)
    assert shown.console == ()
    assert 'data-drawn="yes"' in shown.dom


def test_what_if_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "chains.gwgraph"
    write_graph(heavy_chains(), model)
    sweep_ = ["sweep-clusters", str(model), "--count", "1", "2", "--price", "v100=2.5", "--json"]
    assert run([*sweep_, "--out", str(tmp_path / "s.html")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["cluster"] for row in found["clusters"]] == ["1xv100-pcie", "2xv100-pcie"]
    assert (tmp_path / "s.html").exists()
    place_ = ["place", str(model), "-c", "2xv100-pcie", "--placer", "eft", "--out"]
    assert run([*place_, str(tmp_path / "p")]) == 0
    capsys.readouterr()
    simulate = ["simulate", str(model), "--plan", str(tmp_path / "p" / "plan.json"), "--json"]
    assert run([*simulate, "--set", "v100.flops=2x", "v100.launch=0s"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["makespan_seconds"] < 0.6 * result["before_seconds"]
    assert run([*simulate, "--set", "tpu.flops=2x"]) == 2
    assert run(["sweep-clusters", str(model), "--price", "v100=free"]) == 2
