"""How many plans the one-shot policy draws until it is as fast as HDP after a thousand.

    python benchmarks/quality/plans_to_reach.py [--seeds 3] [--graphs 10]

GO (Zhou et al., arXiv 2010.12438, section 4.3) says that it needs a fifteenth of HDP's time to
converge. Here plans are counted: HDP learns from scratch for 1,024 of them on each graph of an
unseen family, and the one-shot policy and its control draw theirs from one look. Where 64 plans do
not reach it, they count as `not reached`. Rows are appended to `results/plans_to_reach.jsonl`, what
is there is not run again; writes `results/plans_to_reach.md`.
"""

import argparse
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from agent.baselines.hdp import HdpConfig, HdpPlacer
from agent.decoding.checkpoint import load_one_shot
from agent.decoding.config import DrawConfig
from agent.decoding.placer import SHIPPED
from agent.decoding.sampling import draw_plans, look_at, look_untaught
from agent.decoding.subject import make_subject
from benchmarks.quality.one_shot_start import spread
from benchmarks.rows import RESULTS, append_row, commit, read_rows
from placement.annealing.energy import energy_of_evaluation
from placement.placer import Budget, silent
from placement.suites import Pair

ROWS = RESULTS / "plans_to_reach.jsonl"
#: Updates of HDP; each draws 32 plans.
_UPDATES = 32
#: More than that many updates ever take.
_CPU_SECONDS = 3600.0


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--graphs", type=int, default=10)
    parser.add_argument("--suite", default="test-families")
    given = parser.parse_args()
    for pair in spread(given.suite, given.graphs):
        run(pair, given.seeds)
    text = table(read_rows(ROWS))
    (RESULTS / "plans_to_reach.md").write_text(text, encoding="utf-8")
    print(text)


def run(pair: Pair, seeds: int) -> None:
    """One graph; what is known is not run again."""
    known = {(row["graph"], row["cluster"], row["seed"]) for row in read_rows(ROWS)}
    wanted = [
        seed for seed in range(seeds) if (pair.graph_ref, pair.cluster_ref, seed) not in known
    ]
    if not wanted:
        return
    problem = pair.problem()
    policy = load_one_shot(SHIPPED).policy
    config = HdpConfig(updates=_UPDATES)
    for seed in wanted:
        hdp = HdpPlacer(config)(problem, Budget(_CPU_SECONDS), seed, silent)
        reached = energy_of_evaluation(hdp.best.evaluation)
        subject = make_subject(pair.graph_ref, problem, seed)
        row: dict[str, Any] = {
            "graph": pair.graph_ref, "cluster": pair.cluster_ref, "seed": seed,
            "hdp_plans": hdp.evaluations, "hdp_seconds": hdp.best.evaluation.makespan_seconds,
            "hdp_fits": hdp.best.evaluation.feasible, "commit": commit(),
        }  # fmt: skip
        for name, look in (
            ("one_shot", look_at(policy, subject)),
            ("untaught", look_untaught(subject)),
        ):
            energies = draw_plans(look, subject, DrawConfig(), seed).energies
            there = np.flatnonzero(energies <= reached)
            row[f"{name}_plans"] = int(there[0]) + 1 if there.size else None
            row[f"{name}_to_hdp"] = float(np.exp(energies.min() - reached))
        append_row(ROWS, row)
        print(json.dumps(row), flush=True)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The page."""
    lines = [
        "# Plans needed to be as fast as HDP after a thousand",
        "",
        "`python benchmarks/quality/plans_to_reach.py`. Simulated; HDP from scratch on each graph;",
        "means over seeds. The step time is that of the best of 64 plans over HDP's.",
        "",
        "| graph | cluster | HDP, plans | one-shot, plans | untaught, plans | step time / HDP's |",
        "|---|---|---|---|---|---|",
    ]
    for graph, cluster in sorted({(row["graph"], row["cluster"]) for row in rows}):
        mine = [row for row in rows if (row["graph"], row["cluster"]) == (graph, cluster)]
        hdp = np.mean([row["hdp_plans"] for row in mine])
        counts = [
            _mean([row[f"{name}_plans"] for row in mine]) for name in ("one_shot", "untaught")
        ]
        against = np.exp(np.mean([np.log(row["one_shot_to_hdp"]) for row in mine]))
        lines.append(f"| {graph} | {cluster} | {hdp:,.0f} | {' | '.join(counts)} | {against:.3f} |")
    shares = [
        row["hdp_plans"] / row["one_shot_plans"]
        for row in rows
        if row["one_shot_plans"] is not None
    ]
    missed = sum(row["one_shot_plans"] is None for row in rows)
    commits = ", ".join(sorted({row["commit"] for row in rows}))
    return "\n".join(
        [
            *lines,
            "",
            f"In the geometric mean HDP takes {np.exp(np.mean(np.log(shares))):.0f} times as many "
            f"plans, at least {min(shares):.0f} times; not reached with 64 plans in {missed} of "
            f"{len(rows)} runs. Commits: {commits}.",
            "",
        ]
    )


def _mean(plans: Sequence[int | None]) -> str:
    reached = [count for count in plans if count is not None]
    missed = len(plans) - len(reached)
    told = f"{np.mean(reached):.1f}" if reached else "-"
    return f"{told} ({missed} not reached)" if missed else told


if __name__ == "__main__":
    main()
