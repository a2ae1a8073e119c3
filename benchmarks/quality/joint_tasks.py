"""Placement, order and fusion, alone and together, over TensorFlow's defaults and over one by one.

    python benchmarks/quality/joint_tasks.py --budget 10
    python benchmarks/quality/joint_tasks.py --table

On the papers' pairs of graphs and clusters. *Defaults*: the layer-wise human expert's devices, ops
as they become ready, nothing fused. Each task alone changes one of the three: of the policy's plan
and all plans of the heuristics the one that is fastest without an order; critical-path priorities,
beside a bound that no order beats; greedy fusion. *One by one*: the portfolio's placement in
critical-path order, fused greedily like XLA where devices allow. *Together*: kernels fused first,
then placed (`graphwright place --fuse`), by search and by the shipped policy with the same CPU
seconds, heuristics included. Where the expert's plan does not fit, its step time counts all the
same: it is a simulation. Rows go to `results/joint_tasks.jsonl`.
"""

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agent.baselines.tensorflow_default import first_come_first_served
from agent.evaluation.contestants import policy_digest
from agent.placing.registry import get_placer, load_policy
from benchmarks.rows import append_row, commit, read_rows
from placement.annealing.order_bound import order_bound_seconds
from placement.placer import Budget, silent
from placement.placers.fused import FusedPlacer
from placement.placers.warm_up import warm_up
from placement.problem import Problem
from placement.suites import SUITES, Pair
from simulator.fusion import xla_like_groups
from simulator.plan import Plan

RESULTS = Path(__file__).parents[1] / "results"
COLUMNS = (
    "defaults", "placement alone", "order alone", "any order, bound", "fusion alone", "one by one",
    "search together", "policy together",
)  # fmt: skip
#: Results of all three tasks, which are also set beside one by one.
TOGETHER = COLUMNS[-2:]


def main() -> None:
    """Measure what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", type=float, default=10.0, help="CPU seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true", help="measure nothing")
    given = parser.parse_args()
    torch.set_num_threads(1)
    path = RESULTS / "joint_tasks.jsonl"
    rows = read_rows(path)
    rows = [row for row in rows if "policy" in row]  # older ones lack columns, too
    if given.table and not rows:
        parser.error(f"{path} has no rows with all columns: measure first, without --table")
    shipped = load_policy(None)
    digest = policy_digest(shipped.policy, shipped.config)
    done = {
        (row["graph"], row["cluster"], row["seed"], row["budget_seconds"], row["policy"])
        for row in rows
    }
    for pair in () if given.table else SUITES["paper"].pairs:
        key = (pair.graph_ref, pair.cluster_ref, given.seed, given.budget, digest)
        if key in done:
            continue
        row = {
            "graph": key[0], "cluster": key[1], "seed": key[2], "budget_seconds": key[3],
            "seconds": measured(pair, given.budget, given.seed),
            "policy": digest, "commit": commit(), "command": " ".join(sys.argv),
        }  # fmt: skip
        rows.append(row)
        append_row(path, row)
        print(pair.graph_ref, pair.cluster_ref, row["seconds"], flush=True)
    text = table(rows)
    path.with_suffix(".md").write_text(text)
    print(text)


def measured(pair: Pair, budget: float, seed: int) -> dict[str, float]:
    """Step seconds of each column."""
    warm_up()
    problem = Problem(pair.graph(), pair.cluster())
    expert = get_placer("human-expert")(problem, Budget(), seed, silent).best.plan
    placed = get_placer("policy")(problem, Budget(budget), seed, silent)
    by_heuristics = get_placer("portfolio")(problem, Budget(), seed, silent).best.plan

    def seconds(plan: Plan) -> float:
        return float(problem.evaluate(plan).makespan_seconds)

    def fifo(devices: np.ndarray, fusion: np.ndarray | None = None) -> Plan:
        return Plan.of(devices, first_come_first_served(problem, devices), fusion)

    def fused(plan: Plan) -> np.ndarray:
        return xla_like_groups(problem.graph, plan.devices)

    together = {
        name: FusedPlacer(get_placer(placer))(problem, Budget(budget), seed, silent).best
        for name, placer in (("search together", "search"), ("policy together", "policy"))
    }
    return {
        "defaults": seconds(fifo(expert.devices)),
        "placement alone": min(
            seconds(fifo(item.plan.devices))
            for item in (placed.best, *placed.candidates)
            if item.evaluation.feasible
        ),
        "order alone": seconds(Plan.of(expert.devices, expert.priorities)),
        "any order, bound": order_bound_seconds(problem, expert.devices),
        "fusion alone": seconds(fifo(expert.devices, fused(expert))),
        "one by one": seconds(
            Plan.of(by_heuristics.devices, by_heuristics.priorities, fused(by_heuristics))
        ),
        **{name: best.evaluation.makespan_seconds for name, best in together.items()},
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, in simulated milliseconds, with geometric means of ratios below."""
    lines = [
        "# Three tasks, alone and together",
        "",
        "Simulated milliseconds (roofline costs), suite `paper`, means over seeds; columns: see "
        "`benchmarks/quality/joint_tasks.py`. "
        + "; ".join(sorted({f"{row['budget_seconds']:g} s, seed {row['seed']}" for row in rows}))
        + f"; policy {', '.join(sorted({row['policy'] for row in rows}))}"
        + "; commits " + ", ".join(sorted({row["commit"] for row in rows})) + ".",
        "",
        "| graph | cluster | " + " | ".join(COLUMNS) + " |",
        "|---|---|" + "---:|" * len(COLUMNS),
    ]  # fmt: skip
    for graph, cluster in dict.fromkeys((row["graph"], row["cluster"]) for row in rows):
        mine = [
            row["seconds"] for row in rows if (row["graph"], row["cluster"]) == (graph, cluster)
        ]
        means = (np.mean([seconds[name] for seconds in mine]) * 1e3 for name in COLUMNS)
        lines.append(f"| {graph} | {cluster} | {' | '.join(f'{mean:.1f}' for mean in means)} |")
    lines += ["", "| geometric mean | ratio |", "|---|---:|"]
    for name in COLUMNS[1:]:
        lines.append(f"| {name} / defaults | {mean_ratio(rows, name, 'defaults'):.3f} |")
    for name in TOGETHER:
        lines.append(f"| {name} / one by one | {mean_ratio(rows, name, 'one by one'):.3f} |")
    last = mean_ratio(rows, TOGETHER[1], TOGETHER[0])
    lines.append(f"| policy together / search together | {last:.3f} |")
    return "\n".join(lines) + "\n"


def mean_ratio(rows: list[dict[str, Any]], name: str, base: str) -> float:
    """Geometric mean over rows."""
    return math.exp(np.mean([math.log(r["seconds"][name] / r["seconds"][base]) for r in rows]))


if __name__ == "__main__":
    main()
