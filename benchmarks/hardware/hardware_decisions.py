"""What fusion, order and measuring bring on two cores: predicted and measured.

    python benchmarks/hardware/hardware_decisions.py --out benchmarks/results [--models lstm ...]

Each row compares two plans that took turns: fused with unfused on one device, a placement in
critical-path order with the same in the reverse of it, and the plan that a search by measurements
ends with, with the portfolio's. The calibration is that of `hardware_error.py`, and made if it is
not there; rows of models that are not measured now are kept.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.hardware.device_models.models import MODELS
from benchmarks.hardware.hardware_error import calibrated, command, model_file, write_rows
from benchmarks.rows import commit, read_rows
from placement.placer import Budget, silent
from placement.placers.portfolio import portfolio
from placement.priorities import upward_ranks
from placement.problem import Problem
from placement.runtime.calibration.judging import CalibrationConfig
from placement.runtime.calibration.trial_plans import trial_plans
from placement.runtime.comparison import ratio
from placement.runtime.fingerprint import machine_fingerprint
from placement.runtime.hardware_evaluator import HardwareEvaluator
from placement.runtime.measured_search import MeasuredSearchConfig, measured_search, promising
from placement.runtime.measurement import Clock
from placement.runtime.registry import open_runtime
from placement.runtime.runtime import Runtime
from placement.runtime.samples import Sampling
from simulator.fusion import xla_like_groups
from simulator.plan import Plan

DECISIONS = {
    "fused": "everything that may fuse, over nothing fused, on one device",
    "order": "the portfolio's placement in critical-path order, over its reverse",
    "order, scattered": "the same of a placement in which every unit is anywhere",
    "measured search": "the plan kept after measuring, over the portfolio's, measured anew",
}
Row = dict[str, Any]


def main() -> None:
    """Compare plans of each model, then write the rows and the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--work", type=Path, default=Path("out/hardware_error"))
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    at = commit()
    folder = arguments.work / "ort"
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: model_file("ort", name, folder) for name in MODELS}
    config = CalibrationConfig(seed=arguments.seed)
    cluster = calibrated("ort", files, folder, config, fresh=False)
    path = arguments.out / "hardware_decisions.jsonl"
    rows: list[Row] = []
    if path.is_file():
        rows = read_rows(path)
    for name in arguments.models:
        begun = time.perf_counter()
        file, seed = files[name], arguments.seed
        with open_runtime("ort", file.path, file.graph, cluster, seed=seed) as runtime:
            found = rows_of(name, runtime, arguments.rounds, seed)
        made = {
            "command": command(),
            "commit": at,
            "machine": machine_fingerprint(),
            "run_seconds": round(time.perf_counter() - begun),
        }
        rows = [row for row in rows if row["model"] != name] + [{**row, **made} for row in found]
        write_rows(path, rows)
        print(name, found, flush=True)
    (arguments.out / "hardware_decisions.md").write_text(report(rows), encoding="utf-8")


def rows_of(name: str, runtime: Runtime, rounds: int, seed: int) -> list[Row]:
    """One model's comparisons."""
    problem = Problem(runtime.graph, runtime.cluster)
    best = portfolio(problem, Budget(10.0), seed, silent).best.plan
    one = np.zeros(runtime.graph.op_count, np.int32)
    trials = trial_plans(problem, 8, seed)
    scattered = next(plan for key, plan in trials.items() if "anywhere" in key)
    evaluator = HardwareEvaluator.of(runtime, best)
    starts = [best, *promising(problem, evaluator, 6, seed)]
    found = measured_search(problem, evaluator, starts, MeasuredSearchConfig(seed=seed))
    pairs: dict[str, tuple[Plan, Plan]] = {
        "fused": (Plan.of(one, fusion=xla_like_groups(runtime.graph, one)), Plan.of(one)),
        "order": both_orders(problem, best),
        "order, scattered": both_orders(problem, scattered),
        "measured search": (found.plan, best),
    }
    rows = []
    for decision, (first, second) in pairs.items():
        a, b = runtime.measure([first, second], Sampling(rounds=rounds, clock=Clock.VIRTUAL))
        measured = ratio(a, b)
        rows.append(
            {
                "model": name,
                "digest": runtime.graph.digest,
                "decision": decision,
                "measured": measured.value,
                "low": measured.low,
                "high": measured.high,
                "predicted": runtime.predicted(first) / runtime.predicted(second),
                "same_plan": first == second,
                "failure": a.failure or b.failure,
                "plans_run": found.measured,
            }
        )
    return rows


def both_orders(problem: Problem, plan: Plan) -> tuple[Plan, Plan]:
    """A placement by critical path, and against it."""
    ranks = upward_ranks(problem, plan.devices)
    return Plan.of(plan.devices, ranks), Plan.of(plan.devices, -ranks)


def report(rows: Sequence[Row]) -> str:
    """The page."""
    made = sorted({(row["command"], row["commit"], row["machine"]) for row in rows})
    lines = [
        "# What decisions bring on two cores",
        "",
        *(f"- `{command}`, commit {at}, machine {on}" for command, at, on in made),
        "",
        "Virtual clock. Step time of one plan over another's, measured in turns with its 95% "
        "interval, and predicted; below 1 the first is faster.",
        "",
        *(f"- *{name}*: {text}." for name, text in DECISIONS.items()),
        "",
        f"| model | {' | '.join(f'{name} | predicted' for name in DECISIONS)} | plans run |",
        f"|---|{'---|---|' * len(DECISIONS)}---|",
    ]
    for name in dict.fromkeys(row["model"] for row in rows):
        mine = {row["decision"]: row for row in rows if row["model"] == name}
        cells = [cell for decision in DECISIONS for cell in shown(mine.get(decision))]
        run = next(iter(mine.values()))["plans_run"]
        lines.append(f"| {name} | {' | '.join(cells)} | {run} |")
    lines += [
        "",
        "| decision | clear of 1 | of these in the predicted direction |",
        "|---|---|---|",
    ]
    for decision in DECISIONS:
        clear = [row for row in rows if row["decision"] == decision and is_clear(row)]
        right = [row for row in clear if (row["measured"] < 1) == (row["predicted"] < 1)]
        total = sum(row["decision"] == decision for row in rows)
        lines.append(f"| {decision} | {len(clear)} of {total} | {len(right)} |")
    return "\n".join([*lines, ""])


def is_clear(row: Row) -> bool:
    """Whether the interval of the measured quotient leaves out 1."""
    return row["failure"] is None and not row["low"] <= 1.0 <= row["high"]


def shown(row: Row | None) -> tuple[str, str]:
    """A quotient with its interval, and the prediction."""
    if row is None:
        return "", ""
    if row["same_plan"]:
        return "same plan", ""
    if row["failure"] is not None:
        return "failed", f"{row['predicted']:.3f}"
    text = f"{row['measured']:.3f} ({row['low']:.3f}-{row['high']:.3f})"
    return text, f"{row['predicted']:.3f}"


if __name__ == "__main__":
    main()
