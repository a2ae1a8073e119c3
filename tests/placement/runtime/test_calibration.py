"""Measured costs: tables, fits, predictions and their error, with known answers."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from device_models import core_cluster, crossing
from graph_samples import random_graph

import graphs
from agent.cli.app import run
from placement.runtime.calibration.calibrate import (
    FittedCosts,
    Sample,
    _call_free,
    fit_host_costs,
    with_host_costs,
)
from placement.runtime.calibration.link_probe import ProbedLink, probe_links
from placement.runtime.calibration.prediction_error import prediction_error
from placement.runtime.comparison import ratio, winner
from placement.runtime.measurement import Clock, Measurement
from placement.runtime.programs.prediction import Border, ProgramPredictor, overlap, sharing_ops
from placement.runtime.programs.replay import Timeline
from placement.runtime.samples import StepTimes, measured, shared_clock
from simulator.cluster_file import dump_cluster, load_cluster
from simulator.clusters.calibration import Calibration, PredictionError
from simulator.clusters.host_costs import HostCosts
from simulator.clusters.kernel_times import (
    KernelTimes,
    kernel_times_from_json,
    kernel_times_to_json,
)
from simulator.costs.calibrated_costs import CalibratedCosts
from simulator.costs.cost_model import RooflineCosts
from simulator.costs.registry import default_costs
from simulator.errors import ClusterError
from simulator.plan import Plan
from simulator.simulator import Simulator


def timed(samples: list[float], rounds: list[float] | None = None) -> Measurement:
    return Measurement(np.array(samples), Clock.VIRTUAL, rounds=np.array(rounds or samples))


def test_a_table_gives_measured_ops_their_time_and_scales_the_rest(tmp_path: Path) -> None:
    graph = graphs.load(crossing(tmp_path / "a.onnx"), {"batch": 8})
    cluster = core_cluster()
    seconds = RooflineCosts().seconds(graph, cluster)[:, 0] * 3
    times = KernelTimes("m", "cpu-core").with_graph(graph, seconds)
    assert np.allclose(CalibratedCosts(times).seconds(graph, cluster)[:, 1], seconds)
    other = graphs.load(tmp_path / "a.onnx", {"batch": 16})
    assert other.digest != graph.digest
    roofline = RooflineCosts().seconds(other, cluster)[:, 0]
    assert np.allclose(CalibratedCosts(times).seconds(other, cluster)[:, 0], 3 * roofline)
    again = kernel_times_from_json(kernel_times_to_json(times), "text")
    assert again.samples == times.samples
    assert np.array_equal(again.graph_seconds[graph.digest], seconds)


def test_kernels_of_sizes_that_were_not_measured_lie_between_those_that_were(
    tmp_path: Path,
) -> None:
    cluster = core_cluster()
    crossing(tmp_path / "a.onnx", width=256)
    sizes = {batch: graphs.load(tmp_path / "a.onnx", {"batch": batch}) for batch in (8, 64, 512)}
    roofline = {b: RooflineCosts().seconds(g, cluster)[:, 0] for b, g in sizes.items()}
    times = KernelTimes("m", "cpu-core").with_graph(sizes[8], roofline[8] * 4)
    times = times.with_graph(sizes[512], roofline[512] * 2)
    found = CalibratedCosts(times).seconds(sizes[64], cluster)[:, 0] / np.maximum(
        roofline[64], 1e-12
    )
    products = [op for op, kind in enumerate(sizes[64].op_types) if kind == "MatMul"]
    assert (found[products] > 2.0).all()
    assert (found[products] < 4.0).all()
    beyond = graphs.load(tmp_path / "a.onnx", {"batch": 2048})
    far = CalibratedCosts(times).seconds(beyond, cluster)[products, 0]
    assert np.allclose(far, 2 * RooflineCosts().seconds(beyond, cluster)[products, 0])


def _table(**changes: object) -> str:
    sample = ["MatMul", 5, 1, 1e6, 1e3, 1e3, [1, 1, 4, 4], 1e-3]
    whole = {"schema_version": 1, "machine": "m", "device_kind": "cpu", "graphs": {"0": [1e-3]},
             "samples": [sample]}  # fmt: skip
    return json.dumps({**whole, **changes})


def test_the_undamaged_table_is_read() -> None:
    assert kernel_times_from_json(_table(), "costs.json").machine == "m"


@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", '{"schema_version": 1}',
        _table(machine=3), _table(graphs={"0": [float("nan")]}), _table(graphs={"0": [[1.0]]}),
        _table(graphs={"0": "12"}), _table(graphs={"0": [-1.0]}), _table(graphs={"0": [10**400]}),
        _table(samples=[["MatMul", float("inf"), 1, 1.0, 1.0, 1.0, [], 1e-3]]),
        _table(samples=[["MatMul", 5, 1, 1.0, 1.0, 1.0, [float("inf")], 1e-3]]),
        _table(samples=[["MatMul", 5, 1, 1.0, 1.0, 1.0, [True], 1e-3]]),
        _table(samples=[["MatMul", 5, 1, "1", 1.0, 1.0, [1], 1e-3]]),
        _table(samples=[[["MatMul"], 5, 1, 1.0, 1.0, 1.0, [1], 1e-3]]),
    ],
)  # fmt: skip
def test_damaged_tables_are_refused(text: str) -> None:
    with pytest.raises(ClusterError):
        kernel_times_from_json(text, "costs.json")


def test_a_calibrated_cluster_is_written_and_read_with_its_error(tmp_path: Path) -> None:
    graph = graphs.load(crossing(tmp_path / "a.onnx"), {"batch": 8})
    times = KernelTimes("m", "cpu-core").with_graph(graph, np.full(graph.op_count, 1e-4))
    (tmp_path / "costs.json").write_text(kernel_times_to_json(times), encoding="utf-8")
    error = PredictionError(4, 0.03, 0.02, 0.1, "plan 2", 0.99, 0.9, 1.0, 0.0)
    calibration = Calibration("m", "ort", times, "costs.json", error)
    cluster = replace(core_cluster(), calibration=calibration)
    path = tmp_path / "cluster.yaml"
    path.write_text(dump_cluster(cluster), encoding="utf-8")
    found = load_cluster(path)
    assert found.calibration is not None
    assert found.calibration.error == error
    assert default_costs(graph, found).name == "calibrated"
    (tmp_path / "costs.json").unlink()
    path.write_text(dump_cluster(cluster), encoding="utf-8")
    with pytest.raises(ClusterError, match=r"costs\.json"):
        load_cluster(path)


def test_overheads_are_found_again() -> None:
    random = np.random.default_rng(0)
    kernel, busy = random.uniform(1e-5, 1e-3, 200), random.random(200)
    ops = random.integers(1, 9, 200) * 1.0
    border = random.uniform(1, 6, (200, 3)) * [1.0, 1e5, 1e5]
    woken = random.integers(0, 3, 200) * 1.0
    run = kernel * (1 + 0.2 * busy) + 7e-6 + 5e-7 * ops + border @ [1e-6, 3e-11, 5e-11]
    run += woken * 4e-6
    size = random.uniform(1e3, 1e6, 50)
    sent = np.stack([size, 2e-6 + size * 1e-10], axis=1)
    source = np.arange(50) % 2
    pace = np.where(source == 0, 2e-10, 4e-10)
    received = np.stack([source, 1 - source, size, 3e-6 + size * pace], axis=1)
    found = fit_host_costs([Sample(kernel, ops, border, busy, woken, run, sent, received)])
    wanted = HostCosts(7e-6, 5e-7, 1e-6, 3e-11, 5e-11, 2e-6, 1e-10, 3e-6 + 4e-6, 0.2)
    for name, value in vars(wanted).items():
        assert getattr(found.host, name) == pytest.approx(value, rel=1e-3), name
    assert found.receive_seconds_per_byte == pytest.approx({(0, 1): 2e-10, (1, 0): 4e-10}, rel=1e-3)


def test_each_pair_of_cores_gets_a_link_of_its_own() -> None:
    cluster = core_cluster(3)
    pairs = [(a, b) for a in range(3) for b in range(3) if a != b]
    probed = {pair: ProbedLink(1e-6 * (pair[0] + 1), 1e10) for pair in pairs}
    fitted = FittedCosts(HostCosts(send_seconds=2e-6), {(0, 1): 2e-10, (1, 0): 4e-10})
    found = with_host_costs(cluster, fitted, probed)
    links = {(k.source, k.target): k for k in found.links}
    assert links["core:0", "core:1"].bytes_per_second == pytest.approx(5e9)
    assert links["core:1", "core:0"].bytes_per_second == pytest.approx(2.5e9)
    # nothing was sent: the probe's pace, and the median of 2 and 4 times as slow
    assert links["core:2", "core:0"].bytes_per_second == pytest.approx(1e10 / 3)
    assert links["core:2", "core:0"].latency_seconds == pytest.approx(3e-6)
    assert all(device.host == fitted.host for device in found.devices)


def test_links_are_probed_between_processes() -> None:
    found = probe_links(core_cluster(3))
    assert set(found) == {(a, b) for a in range(3) for b in range(3) if a != b}
    assert all(link.latency_seconds >= 0 for link in found.values())
    assert all(1e6 < link.bytes_per_second < 1e14 for link in found.values())


def test_calls_are_told_from_kernels() -> None:
    keys = np.array([0, 1, 0, 2])
    kernel = np.array([3e-5, 5e-6, 1e-4])
    random = np.random.default_rng(0)
    runs = [
        (ops, Border(int(random.integers(1, 5)), *random.integers(0, 10**6, 2).tolist()))
        for ops in ([0], [1], [2], [3], [0, 1, 2, 3], [1, 2], [0, 1], [2, 3], [1, 2, 3])
    ]
    taken = [
        kernel[keys[ops]].sum() + 6e-6 + np.dot(border, [1e-6, 2e-11, 3e-11])
        for ops, border in runs
    ]
    found = _call_free(keys, runs, np.array(taken))
    assert found == pytest.approx(kernel, rel=1e-3)


def test_a_device_that_waits_is_not_busy() -> None:
    line = Timeline(
        (np.array([0.0, 4.0]), np.array([1.0])), (np.array([2.0, 6.0]), np.array([5.0]))
    )
    first, second = overlap(line)
    assert first.tolist() == [0.5, 0.5]
    assert second.tolist() == [0.5]


def test_a_program_with_free_transfers_takes_what_the_engine_says() -> None:
    graph = random_graph(3, 60, groups=False)
    cluster = core_cluster(2)
    simulator = Simulator(graph, cluster, RooflineCosts())
    plan = Plan.of(np.zeros(graph.op_count, np.int32))
    predicted = ProgramPredictor(simulator).evaluate(plan).makespan_seconds
    assert predicted == pytest.approx(simulator.evaluate(plan).makespan_seconds)


def test_ops_that_share_a_large_weight_run_alone(tmp_path: Path) -> None:
    graph = graphs.load(crossing(tmp_path / "wide.onnx", width=160), {"batch": 8})
    names = {graph.op_names[op] for op in sharing_ops(graph)}
    assert names == {f"left{layer}" for layer in range(4)}


def test_errors_of_predictions() -> None:
    measured_ = [timed([1.0] * 5), timed([2.0] * 5), timed([4.0] * 5), Measurement.failed("no")]
    found = prediction_error(list("abcd"), [1.1, 2.2, 3.3, 9.0], measured_)
    assert found.plans == 3
    assert found.mape == pytest.approx((0.1 + 0.1 + 0.175) / 3)
    assert found.mape_relative == pytest.approx(0.25 / 3)
    assert (found.worst_plan, found.kendall, found.kendall_clear) == ("c", 1.0, 1.0)
    assert found.regret == 0.0
    swapped = prediction_error(list("abc"), [2.0, 1.0, 4.0], measured_[:3])
    assert swapped.kendall == pytest.approx(1 / 3)
    assert swapped.regret == pytest.approx(1.0)


def test_no_winner_inside_the_noise() -> None:
    random = np.random.default_rng(1)
    drift = random.uniform(1, 2, 9)
    fast = timed(list(drift), list(drift))
    slow = timed(list(drift * 1.05), list(drift * 1.05))
    noisy = timed(list(drift), list(drift * random.choice([0.9, 1.12], 9)))
    assert winner([slow, fast]) == 1
    assert ratio(slow, fast).value == pytest.approx(1.05)
    assert winner([fast, noisy]) is None
    assert winner([timed([1.0] * 3), timed([2.0] * 3)]) is None  # too few rounds


def test_wall_time_counts_only_where_no_worker_waited() -> None:
    quiet = StepTimes(np.array([1.0, 9.0]), np.array([True, False]), np.array([1.1, 1.1]), ())
    assert measured([quiet] * 5, Clock.WALL, checked=True).seconds == 1.0
    assert measured([quiet] * 5, Clock.VIRTUAL, checked=True).seconds == 1.1
    assert shared_clock([[quiet] * 5], emulated=False) is Clock.WALL
    busy = replace(quiet, accepted=np.array([False, False]))
    assert shared_clock([[quiet] * 5, [busy] * 5], emulated=False) is Clock.VIRTUAL
    assert shared_clock([[quiet] * 5], emulated=True) is Clock.EMULATED
    assert not measured([busy], Clock.WALL, checked=True).ok


@pytest.mark.slow
def test_calibrating_then_measuring_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = crossing(tmp_path / "a.onnx", layers=2, width=256), tmp_path / "out"
    flags = ["--dim", "batch=8", "--json"]
    few = ["--plans", "2", "--judged", "3", "--repeats", "2", "--devices", "2"]
    few += ["--sizes", "batch=4,16"]
    assert run(["calibrate", str(model), "--out", str(out), *few, *flags]) == 0
    capsys.readouterr()
    cluster = ["--cluster", str(out / "cluster.yaml")]
    assert run(["place", str(model), *cluster, "--placer", "portfolio", *flags]) == 0
    assert '"prediction_error": {' in capsys.readouterr().out
    assert run(
        ["measure", str(model), *cluster, "--compare", "single", "round-robin",
         "--repeats", "2", "--trace", str(tmp_path / "trace.json"), *flags]
    ) == 0  # fmt: skip
    assert '"winner": null' in capsys.readouterr().out
    assert "core:1" in (tmp_path / "trace.json").read_text(encoding="utf-8")
    assert run(["measure", str(model), *cluster, "--dim", "batch=8"]) == 2
