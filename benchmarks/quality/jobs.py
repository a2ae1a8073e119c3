"""One chain and several at once in the same time by the clock: what `place --jobs` brings.

    python benchmarks/quality/jobs.py --wall 20 --seeds 0 1 2
    python benchmarks/quality/jobs.py --table   # only writes the table

Each run is a row of `results/jobs.jsonl` as soon as it is done; what the file has is not run again.
Processes are started before the clock, as `place` starts them while it reads the model. A row tells
how busy the machine was: with fewer idle cores than chains the comparison says nothing. Writes
`results/jobs.md`.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent.placing.policy_placer import PolicyPlacer
from agent.placing.registry import get_placer
from agent.placing.shared_policy_placer import SharedPolicyPlacer
from benchmarks.rows import RESULTS, append_row, commit, read_rows
from placement.chains.chain_team import ProcessTeam
from placement.place import place_problem
from placement.placer import Placer
from placement.placers.shared_search import SharedSearch
from placement.placers.warm_up import warm_up
from placement.runtime.processes.workers import usable_cores
from placement.suites import Headroom, Pair
from placement.suites.ratios import LEAST_DRAWN, judged, ratio

ROWS = RESULTS / "jobs.jsonl"
PAIRS = (
    ("inception-v3", "4xv100-pcie"),
    ("gnmt-4", "4xv100-pcie"),
    ("transformer-xl-4", "4xv100-pcie"),
    ("nasnet-large", "2xa100+2xv100-pcie"),
)
PLACERS = ("search", "policy")


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wall", type=float, default=20.0, help="seconds by the clock of each run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--placers", nargs="+", default=list(PLACERS), choices=PLACERS)
    parser.add_argument("--pairs", type=int, default=len(PAIRS), help="the first so many")
    parser.add_argument("--out", type=Path, default=ROWS)
    parser.add_argument("--table", action="store_true", help="run nothing")
    given = parser.parse_args()
    if not given.table:
        warm_up()
        for graph, cluster in PAIRS[: given.pairs]:
            measure(graph, cluster, given)
    text = table(read_rows(given.out))
    given.out.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


def measure(graph: str, cluster: str, given: argparse.Namespace) -> None:
    """Rows of a pair that the file lacks; jobs take turns, seed by seed."""
    keys = ("graph", "cluster", "placer", "jobs", "seed", "wall_seconds")
    done = {tuple(row[key] for key in keys) for row in read_rows(given.out)}
    problem = Pair(graph, cluster, Headroom.SLOW_LINKS).problem()
    _ = problem.bounds, problem.simulator.program, problem.seconds
    for placer in given.placers:
        for seed in given.seeds:
            for jobs in given.jobs:
                about = (graph, cluster, placer, jobs, seed, given.wall)
                if about in done:
                    continue
                busy = os.getloadavg()[0]
                with ProcessTeam(jobs) as team:
                    team.wait()
                    placed = place_problem(
                        problem, deciding(placer, jobs, team), placer, given.wall, seed,
                        by_the_clock=True,
                    )  # fmt: skip
                row = {
                    **dict(zip(keys, about, strict=True)),
                    "makespan_seconds": placed.trace.evaluation.makespan_seconds,
                    "evaluations": placed.placed.evaluations,
                    "cpu_seconds": placed.search_seconds,
                    "took_seconds": placed.search_wall_seconds,
                    "load_before": busy,
                    "cores": len(usable_cores()),
                    "commit": commit(),
                    "command": " ".join(sys.argv),
                }
                append_row(given.out, row)
                print(row, flush=True)


def deciding(name: str, jobs: int, team: ProcessTeam) -> Placer:
    """The placer with so many chains at once; with one it is the usual one."""
    placer = get_placer(name)
    if jobs == 1:
        return placer
    if isinstance(placer, PolicyPlacer):
        return SharedPolicyPlacer(placer, jobs, make_team=lambda problem, _: team.opened(problem))
    return SharedSearch(jobs, make_team=lambda problem, _: team.opened(problem))


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: step times by jobs, and ratios over one job."""
    if not rows:
        return "# Several chains at once\n\nNo rows.\n"
    busiest = max(row["load_before"] for row in rows)
    idle = min(row["cores"] - row["load_before"] for row in rows)
    lines = [
        "# Several chains at once",
        "",
        "Simulated step times in milliseconds, means over seeds "
        f"{', '.join(str(seed) for seed in sorted({row['seed'] for row in rows}))}, in the same "
        "seconds by the clock. In brackets: plans simulated and CPU seconds spent, means too. "
        f"The machine has {rows[0]['cores']} cores; its load before a run was up to {busiest:.1f}"
        + (
            ": it was shared with other work, so that chains had less than a core each and the "
            "figures are no measure of what idle cores bring."
            if idle < max(row["jobs"] for row in rows) - 1
            else "."
        ),
        "",
    ]
    times: dict[tuple[str, int], dict[tuple[str, str], dict[int, float]]] = {}
    for row in rows:
        of_column = times.setdefault((row["placer"], row["jobs"]), {})
        of_pair = of_column.setdefault((row["graph"], row["cluster"]), {})
        of_pair[row["seed"]] = row["makespan_seconds"]
    columns = sorted(times)
    head = " | ".join(f"{placer}, {jobs} job{'s' * (jobs > 1)}" for placer, jobs in columns)
    lines += [f"| graph | cluster | {head} |", "|---|---" + "|---:" * len(columns) + "|"]
    for pair in dict.fromkeys((row["graph"], row["cluster"]) for row in rows):
        cells = [cell(rows, pair, column) for column in columns]
        lines.append(f"| {pair[0]} | {pair[1]} | {' | '.join(cells)} |")
    found = judged(
        [
            ratio(
                f"{placer}, {jobs} jobs", f"{placer}, 1 job", times[placer, jobs], times[placer, 1]
            )
            for placer, jobs in columns
            if jobs > 1 and (placer, 1) in times
        ]
    )
    lines += ["", "Geometric means over one job; below 1 is faster:", ""]
    for item in found:
        verdict = "told apart" if item.outside_noise else "not told apart from noise"
        if item.pairs < LEAST_DRAWN:
            verdict = "too few pairs for a verdict"
        lines.append(
            f"- {item.column}: {item.geometric_mean:.4f} ({item.low:.4f}-{item.high:.4f}) over "
            f"{item.pairs} pairs, {verdict}"
        )
    commands = sorted({f"- `python {row['command']}`, {row['commit']}" for row in rows})
    return "\n".join([*lines, "", "## Commands", "", *commands]) + "\n"


def cell(rows: Sequence[dict[str, Any]], pair: tuple[str, str], column: tuple[str, int]) -> str:
    """Means over seeds."""
    mine = [
        row
        for row in rows
        if (row["graph"], row["cluster"]) == pair and (row["placer"], row["jobs"]) == column
    ]
    if not mine:
        return ""

    def mean(name: str) -> float:
        return float(sum(row[name] for row in mine) / len(mine))

    return (
        f"{mean('makespan_seconds') * 1e3:.1f} ({mean('evaluations'):,.0f}, "
        f"{mean('cpu_seconds'):.1f} s)"
    )


if __name__ == "__main__":
    main()
