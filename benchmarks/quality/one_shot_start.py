"""What plans of the one-shot policy bring to the search of `place`, beside their control.

    python benchmarks/quality/one_shot_start.py [--budget 10] [--seeds 1] [--suites NAME ...]

The same guided search in the same CPU seconds, four ways: as before (proposals of the large
network), from the one-shot policy's plans, from those of its control (untaught), and plain search
from the control's plan. Rows are appended to `results/one_shot_start.jsonl`, what is there is not
run again; writes `results/one_shot_start.md`.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

from agent.decoding.placer import ONE_SHOT, UNTAUGHT, one_shot_placer
from agent.placing.policy_placer import PolicyPlacer
from agent.placing.registry import load_policy
from benchmarks.rows import append_row, commit, read_rows
from placement.placer import Budget, Placed, silent
from placement.placers.search import search
from placement.problem import Problem
from placement.suites import Pair, get_suite
from placement.suites.pair import Headroom
from placement.suites.ratios import ratio

RESULTS = Path(__file__).parents[1] / "results" / "one_shot_start.jsonl"
BEFORE, TAUGHT, CONTROL, SEARCH = "as before", "one-shot", "untaught", "search from untaught"
PLAIN = "search"
COLUMNS = (BEFORE, TAUGHT, CONTROL, PLAIN, SEARCH)
COMPARED = (
    (TAUGHT, BEFORE), (TAUGHT, CONTROL), (CONTROL, BEFORE), (TAUGHT, PLAIN), (TAUGHT, SEARCH),
    (BEFORE, PLAIN), (SEARCH, PLAIN),
)  # fmt: skip


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", type=float, default=10.0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--limit", type=int, default=10)
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), metavar=("WHICH", "OF"))
    parser.add_argument("--suites", nargs="+", default=["test-instances", "test-families"])
    parser.add_argument("--table", action="store_true", help="only write the table")
    given = parser.parse_args()
    for suite in [] if given.table else given.suites:
        for number, pair in enumerate(spread(suite, given.limit)):
            if number % given.part[1] == given.part[0]:
                run(suite, pair, given.budget, given.seeds)
    RESULTS.with_suffix(".md").write_text(table(read_rows(RESULTS)), encoding="utf-8")


def spread(suite: str, limit: int) -> list[Pair]:
    """Pairs with something to win, evenly spread over a suite."""
    pairs = [pair for pair in get_suite(suite).pairs if pair.headroom != Headroom.NONE]
    at = np.unique(np.linspace(0, len(pairs) - 1, min(limit, len(pairs))).round().astype(int))
    return [pairs[index] for index in at]


def run(suite: str, pair: Pair, budget: float, seeds: int) -> None:
    """All columns on one pair; what is known is not run again."""
    known = {
        (row["graph"], row["cluster"], row["column"], row["seed"], row["budget"])
        for row in read_rows(RESULTS)
    }
    problem: Problem | None = None
    for seed in range(seeds):
        for column in COLUMNS:
            if (pair.graph_ref, pair.cluster_ref, column, seed, budget) in known:
                continue
            if problem is None:
                problem = pair.problem()
                _ = problem.bounds, problem.simulator.program, problem.unit_allowed
            placed = place(column, problem, budget, seed)
            best = placed.best.evaluation
            row = {
                "suite": suite, "graph": pair.graph_ref, "cluster": pair.cluster_ref,
                "column": column, "seed": seed, "budget": budget, "ops": problem.graph.op_count,
                "seconds": best.makespan_seconds, "feasible": best.feasible,
                "evaluations": placed.evaluations, "commit": commit(),
            }  # fmt: skip
            append_row(RESULTS, row)
            print(json.dumps(row), flush=True)


def place(column: str, problem: Problem, budget_seconds: float, seed: int) -> Placed:
    """One way to spend the budget."""
    checkpoint = load_policy(None, "latency")
    guided = PolicyPlacer(checkpoint.policy, checkpoint.config)
    begun = process_time()
    budget = Budget(budget_seconds, begun)
    if column == BEFORE:
        return guided(problem, budget, seed, silent)
    if column == PLAIN:
        return search(problem, budget, seed, silent)
    if column == SEARCH:
        start = one_shot_placer(UNTAUGHT, None)(problem, budget, seed, silent)
        known = replace(problem, known_plans=(start.best.plan,))
        return search(known, budget, seed, silent)
    starter = one_shot_placer(ONE_SHOT if column == TAUGHT else UNTAUGHT, None)
    return replace(guided, starter=starter)(problem, budget, seed, silent)


def table(rows: list[dict[str, Any]]) -> str:
    """The page."""
    lines = [
        "# What the one-shot policy's plans bring to search",
        "",
        "`python benchmarks/quality/one_shot_start.py`. Simulated; the same CPU seconds for each,",
        "heuristics included. Below 1 the first is faster; Student's 95% intervals over pairs.",
        "",
    ]
    for budget in sorted({row["budget"] for row in rows}):
        for suite in sorted({row["suite"] for row in rows if row["budget"] == budget}):
            mine = [row for row in rows if row["budget"] == budget and row["suite"] == suite]
            seeds = len({row["seed"] for row in mine})
            lines += [f"## {suite}, {budget:g} s, {seeds} seeds", "", "| | ratio | pairs |"]
            lines.append("|---|---|---|")
            times: dict[str, dict[tuple[str, str], dict[int, float]]] = {}
            for row in mine:
                if row["feasible"]:
                    of_pair = times.setdefault(row["column"], {})
                    key = (row["graph"], row["cluster"])
                    of_pair.setdefault(key, {})[row["seed"]] = row["seconds"]
            for column, against in COMPARED:
                if column not in times or against not in times:
                    continue
                item = ratio(column, against, times[column], times[against])
                lines.append(
                    f"| {column} / {against} "
                    f"| {item.geometric_mean:.3f} ({item.low:.3f}-{item.high:.3f}) "
                    f"| {item.pairs} ({item.faster} faster, {item.slower} slower) |"
                )
            lines.append("")
    return "\n".join(
        [*lines, f"Commits: {', '.join(sorted({row['commit'] for row in rows}))}.", ""]
    )


if __name__ == "__main__":
    main()
