"""Steps that overlap on two cores: how far predicted periods are off, and what overlap brings.

    python benchmarks/hardware/steps_error.py [--models lstm ...] [--fresh] [--quick]

Exports five models, calibrates on all of them (once: kept in --work), and measures plans that
nothing was fitted to, model by model, with one to four steps in flight. Rows of models that are not
measured now are kept, so that a long run can be made in pieces; the table is of all rows there are.
"""

import argparse
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks.hardware.hardware_error import (
    calibrated,
    command,
    earlier_rows,
    model_file,
    write_rows,
)
from benchmarks.rows import commit
from placement.placer import Budget, silent
from placement.placers.registry import get_placer
from placement.priorities import upward_ranks
from placement.problem import Problem
from placement.runtime.calibration.judging import CalibrationConfig
from placement.runtime.fingerprint import machine_facts, machine_fingerprint
from placement.runtime.measurement import Clock
from placement.runtime.pipelines.measurement import StepsMeasurement
from placement.runtime.pipelines.measuring import measure_steps
from placement.runtime.pipelines.prediction import PredictedSteps, engine_steps, predicted_steps
from placement.runtime.registry import open_runtime
from placement.runtime.samples import Sampling
from placement.throughput.pipeline import pipeline_plan, plan_pipeline
from simulator.plan import Plan
from simulator.steps import StepSchedule

MODELS = ("residual", "separable", "transformer", "lstm", "inception")
QUICK_MODELS = ("separable", "inception")
IN_FLIGHT = (1, 2, 3, 4)
_ONE_DEVICE = "one device"
_SEARCH_SECONDS = 5.0
#: Of all work, what the first device of a split in two gets at least and at most.
_SHARES = (0.15, 0.85)
Row = dict[str, Any]


def main() -> None:
    """Calibrate or read the calibration, measure, write rows and the table of all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--work", type=Path, default=Path("out/steps_error"))
    parser.add_argument("--models", nargs="*", choices=MODELS, help="to measure now; none: table")
    parser.add_argument("--fresh", action="store_true", help="calibrate anew")
    parser.add_argument("--quick", action="store_true", help="see that it runs: two minutes")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--random", type=int, default=3, help="random contiguous splits per model")
    parser.add_argument("--clock", choices=("auto", "wall", "virtual"), default="auto")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    every = QUICK_MODELS if arguments.quick else MODELS
    if arguments.quick:
        arguments.steps, arguments.rounds, arguments.random = 8, 3, 1
    config = CalibrationConfig(*((2, 2, 2) if arguments.quick else (8, 3, 7)), arguments.seed)
    folder = arguments.work / ("quick" if arguments.quick else "ort")
    for needed in (folder, arguments.out):
        needed.mkdir(parents=True, exist_ok=True)
    files = {name: model_file("ort", name, folder) for name in every}
    cluster = calibrated("ort", files, folder, config, fresh=arguments.fresh)
    path, at = arguments.out / "steps_error.jsonl", commit()
    rows = [] if arguments.fresh else earlier_rows(path)
    for name in every if arguments.models is None else arguments.models:
        begun, file = time.perf_counter(), files[name]
        with open_runtime("ort", file.path, file.graph, cluster, seed=arguments.seed) as runtime:
            simulator = runtime.simulator
            problem = Problem(simulator.graph, cluster, given_costs=simulator.costs)
            plans = trial_splits(problem, arguments.random, arguments.seed)
            rows = [row for row in rows if row["model"] != name]
            for in_flight in IN_FLIGHT:
                schedule = StepSchedule(arguments.steps, in_flight)
                predicted = [predicted_steps(simulator, p, schedule) for p in plans.values()]
                engine = [engine_steps(simulator, p, schedule) for p in plans.values()]
                found = measure_steps(runtime, list(plans.values()), schedule, sampling(arguments))
                rows += rows_of(name, list(plans), predicted, engine, found, at)
        write_rows(path, rows)
        print(name, f"{mean_and_worst([r for r in rows if r['model'] == name])}", end=" ")
        print(f"{time.perf_counter() - begun:.0f} s", flush=True)
    (arguments.out / "steps_error.md").write_text(report(rows), encoding="utf-8")


def sampling(arguments: argparse.Namespace) -> Sampling:
    """Wall time where the machine is quiet enough, unless told otherwise."""
    clock = None if arguments.clock == "auto" else Clock(arguments.clock)
    return Sampling(rounds=arguments.rounds, clock=clock)


def trial_splits(problem: Problem, drawn: int, seed: int) -> dict[str, Plan]:
    """Named plans: one device, the two that are best for a step alone, and splits for throughput.

    The latter are what `place --objective throughput` chooses from, and runs of the graph's order
    cut at random.
    """
    plans = {_ONE_DEVICE: Plan.of(np.zeros(problem.graph.op_count, np.int32))}
    for name in ("portfolio", "search"):
        found = get_placer(name)(problem, Budget(_SEARCH_SECONDS), seed, silent)
        plans[f"latency, {name}"] = found.best.plan
    pipeline = plan_pipeline(problem, Budget(_SEARCH_SECONDS), seed)
    plans["throughput"] = pipeline_plan(problem, pipeline.best)
    for split in pipeline.others:
        if split.fits and len(np.unique(split.devices)) > 1:
            plans[f"throughput, {split.name}"] = pipeline_plan(problem, split)
    random = np.random.default_rng(seed)
    done = np.cumsum(problem.simulator.seconds[:, 0])
    first = np.unique(problem.unit_of, return_index=True)[1]
    for number in range(drawn):
        share = float(random.uniform(*_SHARES))
        devices = (done > share * done[-1]).astype(np.int32)[first][problem.unit_of]
        name = f"random {number + 1}: {share:.0%} first"
        plans[name] = Plan.of(devices, upward_ranks(problem, devices))
    unlike = {plan: name for name, plan in reversed(plans.items())}
    return {name: plan for plan, name in reversed(unlike.items())}


def rows_of(
    model: str,
    names: list[str],
    predicted: list[PredictedSteps],
    engine: list[PredictedSteps],
    found: list[StepsMeasurement],
    at: str,
) -> list[Row]:
    """One row per plan and steps in flight."""
    return [
        {
            "runtime": "ort",
            "model": model,
            "plan": name,
            "steps": item.schedule.steps,
            "in_flight": item.schedule.in_flight,
            "period_seconds": item.period.seconds,
            "interval": item.period.interval(),
            "latency_seconds": item.latency.seconds,
            "predicted_period_seconds": guess.period_seconds,
            "predicted_latency_seconds": guess.latency_seconds,
            "engine_period_seconds": simulated.period_seconds,
            "clock": item.period.clock,
            "failure": item.failure,
            "outputs_checked": item.period.checked,
            "command": command(),
            "commit": at,
            "machine": machine_fingerprint(),
        }
        for name, guess, simulated, item in zip(names, predicted, engine, found, strict=True)
    ]


def errors(rows: list[Row], measured: str, predicted: str) -> np.ndarray:
    """Relative errors of a prediction."""
    return np.array([abs(row[predicted] / row[measured] - 1.0) for row in rows])


def relative_errors(rows: list[Row]) -> np.ndarray:
    """Errors of periods as shares of the one-device plan's."""
    bases = {(row["model"], row["in_flight"]): row for row in rows if row["plan"] == _ONE_DEVICE}
    pairs = [
        (row, base)
        for row in rows
        if (base := bases.get((row["model"], row["in_flight"]))) is not None and row is not base
    ]
    return np.array(
        [
            abs(
                row["predicted_period_seconds"]
                / base["predicted_period_seconds"]
                / (row["period_seconds"] / base["period_seconds"])
                - 1.0
            )
            for row, base in pairs
        ]
        or [np.nan]
    )


def mean_and_worst(rows: list[Row], kind: str = "predicted") -> str:
    """Of the period's errors."""
    good = [row for row in rows if row["failure"] is None]
    off = errors(good, "period_seconds", f"{kind}_period_seconds")
    return f"{off.mean():.1%} mean, {off.max():.1%} worst"


def report(rows: list[Row]) -> str:
    """The page: errors, and steps per second over one core's."""
    made = sorted({(row["command"], row["commit"], row["machine"]) for row in rows})
    good = [row for row in rows if row["failure"] is None]
    failed = len(rows) - len(good)
    lines = [
        "# Steps that overlap on two cores: predicted and measured periods",
        "",
        f"Machine {machine_fingerprint()} ({machine_facts()['processor']}). Device programs on "
        "onnxruntime, outputs of every step checked. Plans that nothing was fitted to, each with 1 "
        "to 4 steps in flight. *Relative*: of periods as shares of the one-device plan's, measured "
        "in the same turns. *Latency*: of the predicted latency. *Engine*: of the event engine's "
        "period. *Noise*: median half-width of the 95% intervals.",
        "",
        *(f"- `{called}`, commit {at}, machine {on}" for called, at, on in made),
        "",
        *error_table(good),
        "",
        *gain_table(good),
        "",
    ]
    if failed:
        lines += [f"{failed} measurements failed.", ""]
    return "\n".join(lines)


def error_table(rows: list[Row]) -> list[str]:
    """Errors per model and over all, and by steps in flight."""
    lines = [
        "| | plans | measured | clocks | noise | error | worst | relative | latency | engine |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    parts = {name: [r for r in rows if r["model"] == name] for name in models_of(rows)}
    parts |= {f"{k} in flight": [r for r in rows if r["in_flight"] == k] for k in IN_FLIGHT}
    for name, mine in {**parts, "all": rows}.items():
        low, high = np.array([row["interval"] for row in mine]).T
        seconds = np.array([row["period_seconds"] for row in mine])
        off = errors(mine, "period_seconds", "predicted_period_seconds")
        late = errors(mine, "latency_seconds", "predicted_latency_seconds")
        engine = errors(mine, "period_seconds", "engine_period_seconds")
        clocks = ", ".join(sorted({str(row["clock"]) for row in mine}))
        lines.append(
            f"| {name} | {len({(row['model'], row['plan']) for row in mine})} | {len(mine)} "
            f"| {clocks} | {np.median((high - low) / 2 / seconds):.1%} | {off.mean():.1%} "
            f"| {off.max():.1%} | {relative_errors(mine).mean():.1%} | {late.mean():.1%} "
            f"| {engine.mean():.1%} |"
        )
    return lines


def gain_table(rows: list[Row]) -> list[str]:
    """Steps per second of chosen plans over those of one core."""
    lines = [
        "Steps per second over one core's, measured (and predicted): of the plan that is chosen "
        "for throughput with 1 to 4 steps in flight, of the plan that search finds for latency "
        "with 4, and of the fastest plan with 4.",
        "",
        f"| model | one core | {' | '.join(f'{k} in flight' for k in IN_FLIGHT)} | for latency "
        "| fastest |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in models_of(rows):
        mine = {(row["plan"], row["in_flight"]): row for row in rows if row["model"] == name}
        one = mine[_ONE_DEVICE, 1]
        most = [row for (_, k), row in mine.items() if k == IN_FLIGHT[-1]]
        fastest = min(most, key=lambda row: float(row["period_seconds"]))
        chosen = [mine.get(("throughput", k)) for k in IN_FLIGHT]
        chosen += [mine.get(("latency, search", IN_FLIGHT[-1])), fastest]
        cells = [
            "as another"
            if row is None
            else f"{one['period_seconds'] / row['period_seconds']:.2f} "
            f"({one['predicted_period_seconds'] / row['predicted_period_seconds']:.2f})"
            for row in chosen
        ]
        lines.append(
            f"| {name} | {1.0 / one['period_seconds']:.1f} | {' | '.join(cells)}, "
            f"{fastest['plan']} |"
        )
    return lines


def models_of(rows: list[Row]) -> list[str]:
    """Names in the order of the rows."""
    return list(dict.fromkeys(row["model"] for row in rows))


if __name__ == "__main__":
    main()
