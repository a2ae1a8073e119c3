"""What placement, order and fusion bring for graphs without kernels, run as stand-ins on two cores.

    python benchmarks/hardware/stand_in_runs.py [--graphs transformer:1:200 ...]

Each row compares two plans that took turns: the portfolio's with one device; its placement in
critical-path order with the reverse; fused (XLA's rules, compiled by inductor) with unfused on one
device, and the same under the portfolio's placement. Predictions are the simulator's for the probed
machine, uncalibrated: only their direction is judged.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.rows import commit
from graphs.catalogue import resolve
from placement.placer import Budget, silent
from placement.placers.portfolio import portfolio
from placement.priorities import upward_ranks
from placement.problem import Problem
from placement.runtime.comparison import MeasuredRatio, ratio
from placement.runtime.fingerprint import machine_fingerprint
from placement.runtime.measurement import Clock
from placement.runtime.registry import open_runtime
from placement.runtime.samples import Sampling
from simulator.clusters.cluster import Cluster
from simulator.clusters.probe import probe_machine
from simulator.fusion import xla_like_groups
from simulator.plan import Plan

GRAPHS = ("convnet:1:200", "transformer:1:200", "rnnlm:3:400", "unet:2:200", "layered:1:120")
RESULTS = Path(__file__).parents[1] / "results" / "stand_in_runs.md"
#: Quotients this near to 1 have no direction.
_EVEN = 0.02


def main() -> None:
    """Measure every graph and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--graphs", nargs="+", default=list(GRAPHS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    begun, cluster = time.perf_counter(), probe_machine(2)
    rows, agreed, judged = [], 0, 0
    for name in arguments.graphs:
        for label, found, guess in comparisons(name, cluster, arguments.rounds):
            rows.append(
                f"| {name} | {label} | {found.value:.3f} ({found.low:.3f}-{found.high:.3f}) "
                f"| {guess:.3f} |"
            )
            print(rows[-1], flush=True)
            if not found.is_noise and abs(guess - 1) > _EVEN:
                judged += 1
                agreed += (found.value < 1) == (guess < 1)
    at = commit()
    lines = [
        "# Stand-ins on two cores",
        "",
        f"`python {' '.join(sys.argv)}`, commit {at}, machine {machine_fingerprint()}, "
        f"{time.perf_counter() - begun:.0f} s, virtual clock. Step time of the first plan over the "
        "second's, measured in turns with its 95% interval, and as the simulator has it for the "
        "probed machine (roofline, uncalibrated). Outputs of all plans equal those of the same "
        f"kernels on one device. Where the interval leaves out 1 and the prediction is over "
        f"{_EVEN:.0%} from 1, {agreed} of {judged} predictions have the right direction.",
        "",
        "| graph | first / second | measured | simulated |",
        "|---|---|---:|---:|",
        *rows,
    ]
    arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def comparisons(name: str, cluster: Cluster, rounds: int) -> list[tuple[str, MeasuredRatio, float]]:
    """Measured and predicted quotients of one graph."""
    graph = resolve(name)
    problem = Problem(graph, cluster)
    best = portfolio(problem, Budget(10.0), 0, silent).best.plan
    ranks = upward_ranks(problem, best.devices)
    one = np.zeros(graph.op_count, np.int32)
    plans = {
        "one device": Plan.of(one),
        "one device, fused": Plan.of(one, fusion=xla_like_groups(graph, one)),
        "portfolio": Plan.of(best.devices, ranks),
        "portfolio, reverse order": Plan.of(best.devices, -ranks),
        "portfolio, fused": Plan.of(best.devices, ranks, xla_like_groups(graph, best.devices)),
    }
    sampling = Sampling(
        rounds=rounds, iterations=2, clock=Clock.VIRTUAL, load_seconds=600.0, timeout_seconds=120.0
    )
    with open_runtime("torch", name, graph, cluster) as runtime:
        found = dict(zip(plans, runtime.measure(list(plans.values()), sampling), strict=True))
        for label, item in found.items():
            assert item.ok, f"{name}, {label}: {item.failure}"
            assert item.checked
        predicted = {label: runtime.predicted(plan) for label, plan in plans.items()}
    pairs = (
        ("portfolio", "one device"),
        ("portfolio", "portfolio, reverse order"),
        ("one device, fused", "one device"),
        ("portfolio, fused", "portfolio"),
    )
    return [
        (f"{a} / {b}", ratio(found[a], found[b]), predicted[a] / predicted[b]) for a, b in pairs
    ]


if __name__ == "__main__":
    main()
