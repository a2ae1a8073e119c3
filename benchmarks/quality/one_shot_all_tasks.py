"""What one look is worth that decides devices, priorities and kernels at once.

    python benchmarks/quality/one_shot_all_tasks.py [--seeds 3] [--suites NAME ...] [--limit 10]

The best of 64 plans, three ways, all simulated with their kernels: by the policy with all its
heads; by its devices, with critical-path priority and everything fused that may be; and by the
control, the same decoder with nothing learned. Beside them the control's plans without fusion.
Rows are appended to `results/one_shot_all_tasks.jsonl`, what is there is not run again; writes
`results/one_shot_all_tasks.md`.
"""

import argparse
import json
from dataclasses import replace

from agent.decoding.checkpoint import load_one_shot
from agent.decoding.config import DrawConfig
from agent.decoding.placer import SHIPPED
from agent.decoding.sampling import draw_plans, look_at, look_untaught
from agent.decoding.subject import ALL_TASKS, make_subject
from benchmarks.quality.one_shot_start import spread
from benchmarks.rows import RESULTS, append_row, commit, read_rows
from placement.suites import Pair
from placement.suites.ratios import ratio

ROWS = RESULTS / "one_shot_all_tasks.jsonl"
ALL, DEVICES, CONTROL, UNFUSED = "all tasks", "devices alone", "untaught", "untaught, not fused"
COMPARED = ((ALL, CONTROL), (ALL, DEVICES), (DEVICES, CONTROL), (CONTROL, UNFUSED))


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=10)
    parser.add_argument("--suites", nargs="+", default=["real-test", "test-families"])
    given = parser.parse_args()
    for suite in given.suites:
        for pair in spread(suite, given.limit):
            run(suite, pair, given.seeds)
    text = table()
    (RESULTS / "one_shot_all_tasks.md").write_text(text, encoding="utf-8")
    print(text)


def run(suite: str, pair: Pair, seeds: int) -> None:
    """All ways on one pair; what is known is not run again."""
    known = {(row["graph"], row["cluster"], row["seed"]) for row in read_rows(ROWS)}
    wanted = [
        seed for seed in range(seeds) if (pair.graph_ref, pair.cluster_ref, seed) not in known
    ]
    if not wanted:
        return
    problem, policy = pair.problem(), load_one_shot(SHIPPED).policy
    for seed in wanted:
        alone = make_subject(pair.graph_ref, problem, seed)
        subject = replace(alone, rules=ALL_TASKS)
        taught, untaught = look_at(policy, subject), look_untaught(subject)
        for way, look, on in (
            (ALL, taught, subject),
            (DEVICES, replace(taught, levels=None), subject),
            (CONTROL, untaught, subject),
            (UNFUSED, untaught, alone),
        ):
            best = draw_plans(look, on, DrawConfig(), seed).best.evaluation
            assert best is not None, "a plan has run"
            row = {
                "suite": suite, "graph": pair.graph_ref, "cluster": pair.cluster_ref,
                "column": way, "seed": seed, "seconds": best.makespan_seconds,
                "feasible": best.feasible, "commit": commit(),
            }  # fmt: skip
            append_row(ROWS, row)
            print(json.dumps(row), flush=True)


def table() -> str:
    """The page."""
    rows = read_rows(ROWS)
    lines = [
        "# One look that decides all three tasks",
        "",
        "`python benchmarks/quality/one_shot_all_tasks.py`. Simulated; the best of 64 plans, no",
        "search. Below 1 the first is faster; Student's 95% intervals over pairs.",
        "",
    ]
    for suite in sorted({row["suite"] for row in rows}):
        mine = [row for row in rows if row["suite"] == suite]
        seeds = len({row["seed"] for row in mine})
        lines += [f"## {suite}, {seeds} seeds", "", "| | ratio | pairs |", "|---|---|---|"]
        times: dict[str, dict[tuple[str, str], dict[int, float]]] = {}
        for row in mine:
            if row["feasible"]:
                of_pair = times.setdefault(row["column"], {})
                of_pair.setdefault((row["graph"], row["cluster"]), {})[row["seed"]] = row["seconds"]
        for column, against in COMPARED:
            item = ratio(column, against, times[column], times[against])
            lines.append(
                f"| {column} / {against} "
                f"| {item.geometric_mean:.3f} ({item.low:.3f}-{item.high:.3f}) "
                f"| {item.pairs} ({item.faster} faster, {item.slower} slower) |"
            )
        lines.append("")
    commits = ", ".join(sorted({row["commit"] for row in rows}))
    return "\n".join([*lines, f"Commits: {commits}.", ""])


if __name__ == "__main__":
    main()
