"""How far predictions are off on this machine, and what plans on two cores bring.

    python benchmarks/hardware_error.py --out benchmarks/results [--plans 30] [--models lstm ...]

Exports the models of `device_models`, calibrates, and measures plans that nothing was fitted to.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
from device_models.export import export
from device_models.models import MODELS

import graphs
from placement.runtime.calibration import CalibrationConfig, Judged, calibrate
from placement.runtime.fingerprint import machine_facts, machine_fingerprint
from placement.runtime.ort_runtime import OrtRuntime
from placement.runtime.prediction_error import prediction_error
from simulator.probe import probe_machine


def main() -> None:
    """Calibrate, judge, write a table and the rows behind it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--plans", type=int, default=30)
    parser.add_argument("--fitted", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        openers = []
        for name in arguments.models:
            path = export(name, Path(folder))
            graph = graphs.load(path)
            openers.append(partial(OrtRuntime.of, path, graph, seed=arguments.seed))
        config = CalibrationConfig(
            arguments.fitted, arguments.plans, arguments.rounds, arguments.seed
        )
        cluster, judged = calibrate(
            openers, probe_machine(2), machine_fingerprint(), "costs.json", config
        )
    assert cluster.devices[0].host is not None
    figures = asdict(cluster.devices[0].host)
    write_rows(arguments.out / "hardware_error.jsonl", arguments.models, judged)
    lines = [
        "# Predicted and measured step times on two cores",
        "",
        f"`python {' '.join(sys.argv)}`, commit {commit()}, machine {machine_fingerprint()} "
        f"({machine_facts()['processor']}), {time.perf_counter() - begun:.0f} s. "
        "Virtual clock (CPU time passed along messages); the machine was shared with other work.",
        "",
        *error_table(arguments.models, judged),
        "",
        *benefit_table(arguments.models, judged),
        "",
        "Host costs: " + ", ".join(f"{k} {v:.3g}" for k, v in figures.items()),
        "",
    ]
    (arguments.out / "hardware_error.md").write_text("\n".join(lines), encoding="utf-8")


def commit() -> str:
    """The commit that ran."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def error_table(names: list[str], judged: list[Judged]) -> list[str]:
    """Errors per model and over all."""
    lines = [
        "Plans that nothing was fitted to. *Relative*: of step times as shares of the one-device "
        "plan's, measured in the same turns. *Clear* pairs: disjoint 95% intervals. *Regret*: how "
        "much slower the plan predicted to be fastest is than the fastest. *Span*: slowest over "
        "fastest. *Noise*: median half-width of the intervals.",
        "",
        "| model | ops | plans | span | noise | MAPE | relative | worst | Pearson | tau, clear "
        "| tau, all | regret |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    overall = prediction_error(
        [plan for item in judged for plan in item.names],
        [value for item in judged for value in item.predicted],
        [value for item in judged for value in item.measured],
        [item.graph.name for item in judged for _ in item.names],
    )
    for name, item in [*zip(names, judged, strict=True), ("all", None)]:
        error = overall if item is None else item.error
        chosen = [item] if item is not None else judged
        found = [m for part in chosen for m in part.measured if m.ok]
        widths = [(m.interval()[1] - m.interval()[0]) / 2 / m.seconds for m in found]
        span = max(
            max(m.seconds for m in part.measured if m.ok)
            / min(m.seconds for m in part.measured if m.ok)
            for part in chosen
        )
        ops = "" if item is None else str(item.graph.op_count)
        lines.append(
            f"| {name} | {ops} | {error.plans} | {span:.2f} | {np.median(widths):.1%} "
            f"| {error.mape:.1%} | {error.mape_relative:.1%} | {error.worst:.1%} "
            f"| {error.pearson:.3f} | {error.kendall_clear:.2f} | {error.kendall:.2f} "
            f"| {error.regret:.1%} |"
        )
    return lines


def benefit_table(names: list[str], judged: list[Judged]) -> list[str]:
    """Measured and predicted speed-ups over one device."""
    lines = [
        "Step time of one device over that of the plan, measured (and predicted).",
        "",
        "| model | one device | portfolio | fastest measured | slowest measured |",
        "|---|---|---|---|---|",
    ]
    for name, item in zip(names, judged, strict=True):
        times = np.array([m.seconds for m in item.measured])
        guess = np.array(item.predicted)
        cells = [
            f"{times[0] / times[at]:.2f} ({guess[0] / guess[at]:.2f})"
            for at in (1, int(times.argmin()), int(np.where(np.isfinite(times), times, 0).argmax()))
        ]
        lines.append(f"| {name} | {times[0] * 1e3:.1f} ms | {' | '.join(cells)} |")
    return lines


def write_rows(path: Path, names: list[str], judged: list[Judged]) -> None:
    """One line per plan."""
    rows = [
        {
            "model": name,
            "digest": item.graph.digest,
            "plan": plan,
            "predicted_seconds": guess,
            "measured_seconds": found.seconds,
            "interval": found.interval(),
            "clock": found.clock,
            "failure": found.failure,
            "outputs_checked": found.checked,
            "commit": commit(),
        }
        for name, item in zip(names, judged, strict=True)
        for plan, guess, found in zip(item.names, item.predicted, item.measured, strict=True)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
