"""How fast placers get better: step time against plans simulated and CPU seconds.

    python benchmarks/quality/convergence.py --policy CHECKPOINT --budget 60
    python benchmarks/quality/convergence.py --budget 600 --columns hdp --out HERE
    python benchmarks/quality/convergence.py --table   # only writes the table

The policy's loop zero-shot, fine-tuned and untrained, beside GDP and HDP trained from scratch, on
graphs of the papers. The mark is what HDP ends with, in the runs that had the most time. Rows go to
`results/convergence.jsonl`; what the file has is not measured again.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agent.evaluation.columns import FINE_TUNED, GDP, HDP, UNTRAINED, ZERO_SHOT
from agent.evaluation.contestants import contestants
from agent.evaluation.runs import prepare_problem
from agent.runs.checkpoint import load_checkpoint
from benchmarks.rows import append_row, commit, read_rows
from placement.placer import Budget, silent
from placement.placers.portfolio import portfolio
from placement.placers.warm_up import warm_up
from placement.suites import Headroom, Pair

RESULTS = Path(__file__).parents[1] / "results" / "convergence.jsonl"
PAIRS = (
    ("rnnlm-2", "2xp100-pcie"),
    ("inception-v3", "2xp100-pcie"),
    ("transformer-xl-2", "2xp100-pcie"),
    ("wavenet-2x18", "2xp100-pcie"),
)
COLUMNS = (HDP, GDP, UNTRAINED, ZERO_SHOT, FINE_TUNED)
SHARES = (0.05, 0.1, 0.25, 0.5, 1.0)


def main() -> None:
    """Measure what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policy", type=Path)
    parser.add_argument("--budget", type=float, default=60.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2))
    parser.add_argument("--updates", type=int, default=50)
    parser.add_argument("--graphs", nargs="+", help="only these of the graphs")
    parser.add_argument("--columns", nargs="+", choices=COLUMNS, help="only these of the placers")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = read(arguments.out)
    if not arguments.table:
        warm_up()
        rows += measure(rows, arguments)
    text = table(rows)
    arguments.out.with_suffix(".md").write_text(text)
    print(text)


def read(path: Path) -> list[dict[str, Any]]:
    """Rows so far."""
    return read_rows(path)


def measure(rows: list[dict[str, Any]], arguments: Any) -> list[dict[str, Any]]:
    """Rows that are missing."""
    checkpoint = load_checkpoint(arguments.policy) if arguments.policy else None
    names = COLUMNS if checkpoint else (HDP, GDP, UNTRAINED)
    if arguments.columns:
        names = tuple(arguments.columns)
    entrants = contestants(names, checkpoint, arguments.updates)
    done = {(r["graph"], r["column"], r["seed"], r["budget_seconds"], r["policy"]) for r in rows}
    found = []
    for graph, cluster in PAIRS:
        if arguments.graphs and graph not in arguments.graphs:
            continue
        problem = prepare_problem(Pair(graph, cluster, Headroom.SLOW_LINKS))
        tried = portfolio(problem, Budget(), 0, silent).evaluations
        for seed in arguments.seeds:
            for entrant in entrants:
                policy = entrant.policy_digest or ""
                if (graph, entrant.name, seed, arguments.budget, policy) in done:
                    continue
                budget = Budget(arguments.budget)
                attempt = entrant.attempt(problem, budget, seed)
                row = {
                    "graph": graph,
                    "cluster": cluster,
                    "column": entrant.name,
                    "seed": seed,
                    "budget_seconds": arguments.budget,
                    "cpu_seconds": budget.spent_seconds,
                    "evaluations": attempt.placed.evaluations,
                    "updates": attempt.updates,
                    "begins": [0.0, 0]
                    if entrant.name in (HDP, GDP)
                    else [attempt.placed.progress[0][0], tried],
                    "progress": [list(step) for step in attempt.placed.progress],
                    "feasible": attempt.placed.best.evaluation.feasible,
                    "lower_bound_seconds": problem.bounds.seconds,
                    "digest": problem.graph.digest,
                    "cluster_digest": problem.cluster.digest,
                    "policy": policy,
                    "command": " ".join(sys.argv),
                    "commit": commit(),
                }
                found.append(row)
                append_row(arguments.out, row)
                last = attempt.placed.progress[-1]
                print(graph, entrant.name, seed, row["evaluations"], last, flush=True)
    return found


def plans_until(row: dict[str, Any], seconds: float) -> float:
    """Plans simulated by then, the portfolio's included; its own taken as evenly spread."""
    first, before = row["begins"]
    share = (seconds - first) / max(row["cpu_seconds"] - first, 1e-9)
    return before + row["evaluations"] * float(np.clip(share, 0.0, 1.0))


def reached(row: dict[str, Any], mark: float) -> float | None:
    """CPU seconds after which a run was as good as the mark."""
    for seconds, makespan in row["progress"]:
        if makespan <= mark * (1 + 1e-9):
            return float(seconds)
    return None


def at(row: dict[str, Any], share: float) -> float:
    """The best step time after a share of the budget; infinite before the first plan."""
    seconds = np.inf if share == 1.0 else share * row["budget_seconds"]
    values = [makespan for spent, makespan in row["progress"] if spent <= seconds]
    return min(values, default=np.inf)


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    if not rows:
        return "# Convergence\n\nNo rows.\n"
    pairs = list(dict.fromkeys((row["graph"], row["cluster"]) for row in rows))
    commands = ", ".join(f"`python {text}`" for text in sorted({row["command"] for row in rows}))
    lines = [
        "# Convergence",
        "",
        "Simulated step time in milliseconds after a share of the CPU seconds, the mean over "
        f"seeds. {UNTRAINED}, {ZERO_SHOT} and {FINE_TUNED} begin at the portfolio's plan, whose "
        f"time counts; {HDP} and {GDP} begin at nothing. Commands: {commands}; commits "
        f"{', '.join(sorted({row['commit'] for row in rows}))}; policies "
        f"{', '.join(sorted({row['policy'] for row in rows if row['policy']}))}.",
    ]
    for budget in sorted({row["budget_seconds"] for row in rows}):
        inside = [row for row in rows if row["budget_seconds"] == budget]
        lines += ["", *_at_shares(inside, pairs, budget)]
    return "\n".join([*lines, "", *_marks(rows, pairs)]) + "\n"


def _at_shares(
    rows: list[dict[str, Any]], pairs: list[tuple[str, str]], budget: float
) -> list[str]:
    """Step times along runs of one budget."""
    lines = [
        "| graph | cluster | placer | "
        + " | ".join(f"{share * budget:g} s" for share in SHARES)
        + " | plans simulated |",
        "|---|---|---|" + "---:|" * (len(SHARES) + 1),
    ]
    for graph, cluster in pairs:
        for name in COLUMNS:
            mine = of(rows, graph, name)
            if not mine:
                continue
            values = [np.mean([at(row, share) for row in mine]) for share in SHARES]
            shown = ["-" if np.isinf(value) else f"{value * 1e3:,.1f}" for value in values]
            plans = np.mean([row["evaluations"] for row in mine])
            lines.append(f"| {graph} | {cluster} | {name} | {' | '.join(shown)} | {plans:,.0f} |")
    return lines


def of(rows: list[dict[str, Any]], graph: str, column: str) -> list[dict[str, Any]]:
    """Runs of one placer on one graph."""
    return [row for row in rows if row["graph"] == graph and row["column"] == column]


def _marks(rows: list[dict[str, Any]], pairs: list[tuple[str, str]]) -> list[str]:
    """What each placer needs to be as good as HDP is at the end."""
    lines = [
        "## To be as good as HDP at its end",
        "",
        "HDP's runs are those with the most time. Medians over seeds of CPU seconds and plans "
        "simulated until the step time of HDP's run with the same seed is reached, and how many "
        "times fewer seconds and plans than HDP needed itself. Plans are counted as if evenly "
        "spread over the time after the portfolio; * where the portfolio's plan, which the placer "
        "begins at, was good enough.",
        "",
        "| graph | HDP, s | placer | given, s | reached | CPU seconds | times fewer | plans "
        "| times fewer |",
        "|---|---:|---|---:|---|---:|---:|---:|---:|",
    ]
    for graph, _ in pairs:
        theirs = of(rows, graph, HDP)
        if not theirs:
            continue
        most = max(row["budget_seconds"] for row in theirs)
        by_seed = {row["seed"]: row for row in theirs if row["budget_seconds"] == most}
        for name in COLUMNS:
            for budget in sorted({row["budget_seconds"] for row in of(rows, graph, name)}):
                mine = [
                    row
                    for row in of(rows, graph, name)
                    if row["seed"] in by_seed and row["budget_seconds"] == budget
                ]
                if mine and (name != HDP or budget == most):
                    lines.append(f"| {graph} | {most:g} | {_mark(name, budget, mine, by_seed)} |")
    return lines


def _mark(
    name: str, budget: float, mine: list[dict[str, Any]], by_seed: dict[int, dict[str, Any]]
) -> str:
    """Cells of one placer on one graph."""
    when = [(row, reached(row, by_seed[row["seed"]]["progress"][-1][1])) for row in mine]
    hits = [(row, seconds) for row, seconds in when if seconds is not None]
    start = f"{name} | {budget:g} | {len(hits)} of {len(mine)}"
    if not hits:
        return f"{start} | | | |"
    ends = [reached(hdp := by_seed[row["seed"]], hdp["progress"][-1][1]) or 0.0 for row, _ in hits]
    sooner = np.median([end / max(own, 1e-9) for end, (_, own) in zip(ends, hits, strict=True)])
    plans = [max(plans_until(row, own), 1.0) for row, own in hits]
    theirs = [
        plans_until(by_seed[row["seed"]], end) for end, (row, _) in zip(ends, hits, strict=True)
    ]
    fewer = np.median([max(other, 1.0) / own for own, other in zip(plans, theirs, strict=True)])
    at_once = all(own <= row["progress"][0][0] for row, own in hits)
    star = "*" if at_once and name not in (HDP, GDP) else ""
    return (
        f"{start} | {np.median([own for _, own in hits]):.1f}{star} | {sooner:.1f} | "
        f"{np.median(plans):,.0f} | {fewer:.1f}"
    )


if __name__ == "__main__":
    main()
