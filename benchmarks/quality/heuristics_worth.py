"""What each group of heuristics is worth to the portfolio, and what it costs.

    python -m benchmarks.quality.heuristics_worth --suite large
    python -m benchmarks.quality.heuristics_worth --suite test-instances --limit 40

Every heuristic makes all of its plans on every pair of a suite. Of each group the table says which
share of the CPU time it takes, on how many pairs it has the best plan, and how much longer the best
plan of all others takes (geometric mean, and worst; infinite where no other plan fits). Adds to
`results/heuristics_worth.md`.
"""

import argparse
from collections import defaultdict
from time import process_time
from typing import Any

import numpy as np

from benchmarks.rows import RESULTS, append_row, commit, read_rows


def group_of(origin: str) -> str:
    """The group that a plan counts to: its heuristic, of the grid its weight of ranks too."""
    name, *settings = origin.split(":")
    return f"{name}, ranks by {settings[0]}" if name == "eft" else name


def measure(problem: Any) -> dict[str, dict[str, float]]:
    """Best step time and CPU seconds of each group on a problem."""
    from placement.heuristics.placements import HeuristicPlacer, candidate, eft_full_grid
    from placement.heuristics.registry import HEURISTICS

    found: dict[str, dict[str, float]] = defaultdict(
        lambda: {"makespan_seconds": float("inf"), "cpu_seconds": 0.0, "plans": 0}
    )
    heuristics = {**HEURISTICS, "eft": HeuristicPlacer(eft_full_grid)}
    for heuristic in heuristics.values():
        placements = heuristic.heuristic(problem, 0)
        fits: bool | None = None
        while True:
            begun = process_time()
            try:
                name, devices = next(placements) if fits is None else placements.send(fits)
            except StopIteration:
                break
            evaluation = candidate(problem, devices, name).evaluation
            fits = evaluation.feasible
            group = found[group_of(name)]
            group["cpu_seconds"] += process_time() - begun
            group["plans"] += 1
            if fits:
                group["makespan_seconds"] = min(
                    group["makespan_seconds"], evaluation.makespan_seconds
                )
    return dict(found)


def table(rows: list[dict[str, Any]]) -> str:
    """The page, a part for each suite."""
    command = "`python -m benchmarks.quality.heuristics_worth`"
    lines = ["# What heuristics are worth", "", command, ""]
    for suite in dict.fromkeys(row["suite"] for row in rows):
        own = [row["groups"] for row in rows if row["suite"] == suite]
        own = [
            groups
            for groups in own
            if np.isfinite(min(one["makespan_seconds"] for one in groups.values()))
        ]
        groups = list(dict.fromkeys(name for row in own for name in row))
        total = sum(one["cpu_seconds"] for row in own for one in row.values())
        lines += [
            f"**{suite}**: {len(own)} pairs on which a plan fits, {total:.0f} CPU s, commit "
            f"{rows[-1]['commit']}.",
            "",
            "| group | CPU time | best of all on | without it, times as long | worst |",
            "|---|---|---|---|---|",
        ]
        for group in groups:
            share = sum(row[group]["cpu_seconds"] for row in own if group in row) / total
            ratios, best = [], 0
            for row in own:
                times = {name: one["makespan_seconds"] for name, one in row.items()}
                least = min(times.values())
                others = min((t for name, t in times.items() if name != group), default=least)
                best += times.get(group, np.inf) <= least
                ratios.append(others / least)
            lines.append(
                f"| {group} | {share:.1%} | {best} | {np.exp(np.mean(np.log(ratios))):.4f} "
                f"| {max(ratios):.3f} |"
            )
        kept = "eft, ranks by 1.0"
        ratios = []
        for row in own:
            times = {name: one["makespan_seconds"] for name, one in row.items()}
            others = [t for name, t in times.items() if name == kept or not name.startswith("eft")]
            ratios.append(min(others) / min(times.values()))
        lines += [
            "",
            f"Of the three orders of the grid with the first alone: "
            f"{np.exp(np.mean(np.log(ratios))):.4f} times as long, at worst {max(ratios):.3f}.",
            "",
        ]
    return "\n".join(lines)


def main() -> None:
    """Measure a suite and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--suite", default="large")
    parser.add_argument("--limit", type=int, default=0, help="so many pairs, evenly spread")
    given = parser.parse_args()
    from placement.placers.warm_up import warm_up
    from placement.suites import get_suite

    warm_up()
    path = RESULTS / "heuristics_worth.jsonl"
    entries = list(get_suite(given.suite).pairs)
    if given.limit:
        entries = entries[:: max(len(entries) // given.limit, 1)][: given.limit]
    done = {(row["suite"], row["pair"]) for row in read_rows(path)}
    for entry in entries:
        pair = f"{entry.graph_ref} on {entry.cluster_ref}"
        if (given.suite, pair) in done:
            continue
        row = {"suite": given.suite, "pair": pair, "commit": commit()}
        append_row(path, {**row, "groups": measure(entry.problem())})
        print(pair, flush=True)
    (RESULTS / "heuristics_worth.md").write_text(table(read_rows(path)), encoding="utf-8")


if __name__ == "__main__":
    main()
