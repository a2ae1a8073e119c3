"""What fusion, order and measuring bring on two cores: predicted and measured.

    python benchmarks/hardware_decisions.py --out benchmarks/results [--models lstm ...]

Each row compares two plans that took turns: fused with unfused on one device, the portfolio's
placement in critical-path order with the same in the reverse of it, and the plan that a search by
measurements ends with, with the portfolio's.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from device_models.export import export
from device_models.models import MODELS

import graphs
from placement.placer import Budget, silent
from placement.portfolio import portfolio
from placement.priorities import upward_ranks
from placement.problem import Problem
from placement.runtime.calibration import CalibrationConfig, calibrate
from placement.runtime.comparison import Ratio, ratio
from placement.runtime.fingerprint import machine_fingerprint
from placement.runtime.hardware_evaluator import HardwareEvaluator
from placement.runtime.measured_search import MeasuredSearchConfig, measured_search, promising
from placement.runtime.measurement import Clock
from placement.runtime.ort_runtime import OrtRuntime
from placement.runtime.samples import Sampling
from simulator.cluster import Cluster
from simulator.fusion import xla_like_groups
from simulator.plan import Plan
from simulator.probe import probe_machine


def main() -> None:
    """Calibrate on the models, then compare plans of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        openers = []
        for name in arguments.models:
            path = export(name, Path(folder))
            openers.append(partial(OrtRuntime.of, path, graphs.load(path), seed=arguments.seed))
        config = CalibrationConfig(fitted_plans=5, judged_plans=3, rounds=5, seed=arguments.seed)
        cluster, _ = calibrate(
            openers, probe_machine(2), machine_fingerprint(), "costs.json", config
        )
        rows = [
            rows_of(name, open_runtime, cluster, arguments.seed)
            for name, open_runtime in zip(arguments.models, openers, strict=True)
        ]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    lines = [
        "# What decisions bring on two cores",
        "",
        f"`python {' '.join(sys.argv)}`, commit {commit or 'unknown'}, machine "
        f"{machine_fingerprint()}, {time.perf_counter() - begun:.0f} s, virtual clock. Step time "
        "of one plan over another's, measured in turns with its 95% interval, and predicted; below "
        "1 the first is faster.",
        "",
        "- *fused*: everything that may fuse, over nothing fused, on one device.",
        "- *order*: the portfolio's placement in critical-path order, over its reverse.",
        "- *measured search*: the plan kept after measuring, over the portfolio's, measured anew.",
        "",
        "| model | fused | predicted | order | predicted | search | predicted | plans run |",
        "|---|---|---|---|---|---|---|---|",
        *rows,
        "",
    ]
    (arguments.out / "hardware_decisions.md").write_text("\n".join(lines), encoding="utf-8")


def rows_of(name: str, open_runtime: partial, cluster: Cluster, seed: int) -> str:
    """One model's comparisons."""
    with open_runtime(cluster) as runtime:
        problem = Problem(runtime.graph, cluster)
        best = portfolio(problem, Budget(10.0), seed, silent).best.plan
        one = np.zeros(runtime.graph.op_count, np.int32)
        fused = Plan.of(one, fusion=xla_like_groups(runtime.graph, one))
        ranks = upward_ranks(problem, best.devices)
        evaluator = HardwareEvaluator.of(runtime, best)
        starts = [best, *promising(problem, evaluator, 6, seed)]
        found = measured_search(problem, evaluator, starts, MeasuredSearchConfig(seed=seed))
        pairs = (
            (fused, Plan.of(one)),
            (Plan.of(best.devices, ranks), Plan.of(best.devices, -ranks)),
            (found.plan, best),
        )
        cells = []
        for first, second in pairs:
            sampling = Sampling(rounds=11, clock=Clock.VIRTUAL)
            a, b = runtime.measure([first, second], sampling)
            guess = runtime.predicted(first) / runtime.predicted(second)
            cells += [shown(ratio(a, b)), f"{guess:.3f}"]
    print(name, cells, flush=True)
    return f"| {name} | {' | '.join(cells)} | {found.measured} |"


def shown(value: Ratio) -> str:
    """A quotient with its interval."""
    return f"{value.value:.3f} ({value.low:.3f}-{value.high:.3f})"


if __name__ == "__main__":
    main()
