"""How far predictions are off on this machine, and what plans on two cores bring.

    python benchmarks/hardware/hardware_error.py [--runtime tf] [--models lstm ...]
        [--plans 30] [--fresh]

Exports the models of `device_models`, calibrates on all of them (once: kept in --work), and
measures plans that nothing was fitted to, model by model. Rows of models that are not measured now
are kept, so that a long run can be made in pieces; the table is of all rows there are.
"""

import argparse
import json
import os
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import graphs
from benchmarks.hardware.device_models.export import export
from benchmarks.hardware.device_models.models import MODELS
from benchmarks.rows import commit, read_rows
from placement.placer import Budget, silent
from placement.placers.registry import get_placer
from placement.problem import Problem
from placement.runtime.calibration.judging import CalibrationConfig, Judged, ModelFile, judge
from placement.runtime.calibration.prediction_error import error_of
from placement.runtime.fingerprint import machine_facts, machine_fingerprint
from placement.runtime.measurement import Clock
from placement.runtime.registry import get_calibrator, open_runtime
from placement.runtime.runtime import Runtime
from placement.runtime.samples import Sampling
from simulator.cluster_file import dump_cluster, load_cluster
from simulator.clusters.calibration import PredictionError
from simulator.clusters.cluster import Cluster
from simulator.clusters.kernel_times import kernel_times_to_json
from simulator.clusters.probe import probe_machine
from simulator.plan import Plan

TENSORFLOW = ("tf-branches", "tf-inception", "tf-lstm", "tf-training-step")
_SEARCH_SECONDS = 5.0
Row = dict[str, Any]


def main() -> None:
    """Calibrate or read the calibration, judge, write rows and the table of all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--work", type=Path, default=Path("out/hardware_error"))
    parser.add_argument("--runtime", choices=("ort", "tf"), default="ort")
    parser.add_argument("--models", nargs="*", help="to measure now; all by default, or none")
    parser.add_argument("--fresh", action="store_true", help="calibrate anew")
    parser.add_argument("--plans", type=int, default=30)
    parser.add_argument("--fitted", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    every = list(MODELS) if arguments.runtime == "ort" else list(TENSORFLOW)
    config = CalibrationConfig(arguments.fitted, arguments.plans, arguments.rounds, arguments.seed)
    folder = arguments.work / arguments.runtime
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: model_file(arguments.runtime, name, folder) for name in every}
    cluster = calibrated(arguments.runtime, files, folder, config, fresh=arguments.fresh)
    path, at = arguments.out / "hardware_error.jsonl", commit()
    rows = earlier_rows(path)
    if arguments.fresh:  # what was judged by another calibration
        rows = [row for row in rows if row["runtime"] != arguments.runtime]
    for name in every if arguments.models is None else arguments.models:
        begun = time.perf_counter()
        file, seed = files[name], arguments.seed
        with open_runtime(arguments.runtime, file.path, file.graph, cluster, seed=seed) as runtime:
            found = judge(runtime, sampling_of(arguments), config, without_hosts(runtime))
        rows = [row for row in rows if (row["runtime"], row["model"]) != (arguments.runtime, name)]
        rows += rows_of(arguments.runtime, name, at, found, time.perf_counter() - begun)
        write_rows(path, rows)
        print(name, found.error, flush=True)
    (arguments.out / "hardware_error.md").write_text(report(rows, cluster), encoding="utf-8")


def sampling_of(arguments: argparse.Namespace) -> Sampling:
    """TensorFlow has wall time only."""
    if arguments.runtime == "ort":
        return Sampling(rounds=arguments.rounds, clock=Clock.VIRTUAL)
    from placement.runtime.calibration.calibrate_servers import wall_sampling

    return wall_sampling(arguments.rounds)


def model_file(runtime: str, name: str, folder: Path) -> ModelFile:
    """Exports a model for a runtime."""
    if runtime == "ort":
        path = export(name, folder)
    else:
        from benchmarks.hardware.device_models.tensorflow_models import export_tensorflow

        path = export_tensorflow(name, folder)
    return ModelFile(path, graphs.load(path))


def calibrated(
    runtime: str,
    files: dict[str, ModelFile],
    folder: Path,
    config: CalibrationConfig,
    *,
    fresh: bool,
) -> Cluster:
    """Calibrate on all models, or read what was calibrated before."""
    path = folder / "cluster.yaml"
    if path.is_file() and not fresh:
        return load_cluster(path)
    few = replace(config, judged_plans=3)
    machine = probe_machine(2), machine_fingerprint(), "costs.json", few
    cluster, _ = get_calibrator(runtime)(list(files.values()), *machine, silent, ())
    assert cluster.calibration is not None
    (folder / "costs.json").write_text(
        kernel_times_to_json(cluster.calibration.times), encoding="utf-8"
    )
    path.write_text(dump_cluster(cluster), encoding="utf-8")
    return load_cluster(path)


def without_hosts(runtime: Runtime) -> dict[str, Plan]:
    """What portfolio and search choose if engines beside the cores did the sending."""
    simulator = runtime.simulator
    cluster = simulator.cluster
    links = cluster.link_arrays
    names = cluster.device_names
    whole = tuple(
        replace(
            link,
            bytes_per_second=float(links.bytes_per_second[at]),
            latency_seconds=float(links.latency_seconds[at]),
        )
        for link in cluster.links
        for at in [(names.index(link.source), names.index(link.target))]
    )
    devices = tuple(replace(device, host=None) for device in cluster.devices)
    problem = Problem(
        simulator.graph,
        replace(cluster, devices=devices, links=whole),
        given_costs=simulator.costs,
    )
    return {
        f"{name}, no host costs": get_placer(name)(
            problem, Budget(_SEARCH_SECONDS), 0, silent
        ).best.plan
        for name in ("portfolio", "search")
    }


def command() -> str:
    """What was called, without the folders."""
    folders = ("--out", "--work")
    words = [
        word
        for before, word in zip(("", *sys.argv), sys.argv, strict=False)
        if before not in folders and word not in folders
    ]
    return f"python {' '.join(words)}"


def rows_of(runtime: str, name: str, at: str, item: Judged, seconds: float) -> list[Row]:
    """One row per plan."""
    return [
        {
            "runtime": runtime,
            "model": name,
            "digest": item.graph.digest,
            "ops": item.graph.op_count,
            "plan": plan,
            "predicted_seconds": guess,
            "engine_seconds": simulated,
            "measured_seconds": found.seconds,
            "interval": found.interval(),
            "clock": found.clock,
            "failure": found.failure,
            "outputs_checked": found.checked,
            "command": command(),
            "commit": at,
            "machine": machine_fingerprint(),
            "run_seconds": round(seconds),
        }
        for plan, guess, simulated, found in zip(
            item.names, item.predicted, item.simulated, item.measured, strict=True
        )
    ]


def earlier_rows(path: Path) -> list[Row]:
    """Rows of earlier pieces that this version wrote."""
    if not path.is_file():
        return []
    rows = read_rows(path)
    return [row for row in rows if "runtime" in row]


def write_rows(path: Path, rows: list[Row]) -> None:
    """All rows, at once."""
    partial_file = path.with_suffix(".partial")
    text = "".join(json.dumps(row) + "\n" for row in rows)
    partial_file.write_text(text, encoding="utf-8")
    partial_file.replace(path)


def report(rows: list[Row], cluster: Cluster) -> str:
    """The page: errors and benefits per runtime."""
    lines = [
        "# Predicted and measured step times on two cores",
        "",
        f"Machine {machine_fingerprint()} ({machine_facts()['processor']}). Plans that nothing was "
        "fitted to. *Relative*: of step times as shares of the one-device plan's, measured in the "
        "same turns. *Clear* pairs: disjoint 95% intervals. *Regret*: how much slower the plan "
        "predicted to be fastest is than the fastest. *Span*: slowest over fastest. *Noise*: "
        "median half-width of the intervals. *Engine*: error of the event engine by itself.",
    ]
    titles = {
        "ort": "Device programs on onnxruntime, virtual clock",
        "tf": "TensorFlow servers, wall time",
    }
    for runtime, title in titles.items():
        mine = [row for row in rows if row["runtime"] == runtime and row["failure"] is None]
        if not mine:
            continue
        made = sorted({(row["command"], row["commit"], row["machine"]) for row in mine})
        lines += ["", f"## {title}", ""]
        lines += [f"- `{command}`, commit {at}, machine {on}" for command, at, on in made]
        lines += ["", *error_table(mine), "", *benefit_table(mine)]
        failed = sum(row["runtime"] == runtime and row["failure"] is not None for row in rows)
        if failed:
            lines += ["", f"{failed} plans failed to run."]
    host = cluster.devices[0].host
    if host is not None:
        figures = {**asdict(host), "latency_seconds": cluster.links[0].latency_seconds}
        lines += ["", "Host costs of the calibration used last: "]
        lines[-1] += ", ".join(f"{name} {value:.3g}" for name, value in figures.items())
        pairs = (f"{k.source} to {k.target} {k.bytes_per_second / 1e9:.2f}" for k in cluster.links)
        lines[-1] += f"; GB/s: {', '.join(pairs)}."
    return "\n".join([*lines, ""])


def error_table(rows: list[Row]) -> list[str]:
    """Errors per model and over all."""
    lines = [
        "| model | ops | plans | span | noise | MAPE | relative | worst | Pearson | tau, clear "
        "| tau, all | regret | engine |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    names = list(dict.fromkeys(row["model"] for row in rows))
    spans = []
    for name in [*names, "all"]:
        mine = [row for row in rows if name in (row["model"], "all")]
        error, engine = found_error(mine, "predicted_seconds"), found_error(mine, "engine_seconds")
        low, high = np.array([row["interval"] for row in mine]).T
        seconds = np.array([row["measured_seconds"] for row in mine])
        spans.append(seconds.max() / seconds.min())
        span = f"{spans[-1]:.2f}"
        if name == "all":
            span = f"{min(spans[:-1]):.2f} to {max(spans[:-1]):.2f}"
        lines.append(
            f"| {name} | {'' if name == 'all' else mine[0]['ops']} | {error.plans} | {span} "
            f"| {np.median((high - low) / 2 / seconds):.1%} "
            f"| {error.mape:.1%} | {error.mape_relative:.1%} | {error.worst:.1%} "
            f"| {error.pearson:.3f} | {error.kendall_clear:.2f} | {error.kendall:.2f} "
            f"| {error.regret:.1%} | {engine.mape:.1%} |"
        )
    return lines


def found_error(rows: list[Row], key: str) -> PredictionError:
    """The error of one predictor; plans are ranked within their model."""
    return error_of(
        [row["plan"] for row in rows],
        np.array([row[key] for row in rows]),
        np.array([row["measured_seconds"] for row in rows]),
        np.array([row["interval"] for row in rows]),
        [row["model"] for row in rows],
    )


def benefit_table(rows: list[Row]) -> list[str]:
    """Measured and predicted speed-ups over one device."""
    columns = ("portfolio", "search", "portfolio, no host costs", "search, no host costs")
    lines = [
        "Step time of one device over that of the plan, measured (and predicted). *No host costs*: "
        "chosen by an event engine in which engines beside the cores send and receive.",
        "",
        f"| model | one device | {' | '.join(columns)} | fastest measured | slowest measured |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["model"] for row in rows):
        mine = {row["plan"]: row for row in rows if row["model"] == name}
        one = mine["one device"]
        ordered = sorted(mine.values(), key=lambda row: float(row["measured_seconds"]))
        chosen = [*(mine.get(column) for column in columns), ordered[0], ordered[-1]]
        cells = [
            "failed"
            if row is None
            else f"{one['measured_seconds'] / row['measured_seconds']:.2f} "
            f"({one['predicted_seconds'] / row['predicted_seconds']:.2f})"
            for row in chosen
        ]
        lines.append(f"| {name} | {one['measured_seconds'] * 1e3:.1f} ms | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
