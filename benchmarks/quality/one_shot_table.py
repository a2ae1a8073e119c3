"""What the one-shot policy is worth by itself: one table of evaluations that are kept apart.

    python benchmarks/quality/one_shot_table.py

Reads `results/one-shot-*/rows.jsonl`, which `graphwright evaluate` wrote (the commands stand below
the table), and writes `results/one_shot.md`. Ratios are geometric means over pairs with a plan that
fits, each pair by the mean over its seeds, with Student's 95% intervals.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from agent.evaluation.columns import (
    ONE_SHOT,
    ONE_SHOT_GREEDY,
    ONE_SHOT_MORE,
    ONE_SHOT_TUNED,
    ONE_SHOT_UNTAUGHT,
    PORTFOLIO,
)
from agent.evaluation.ratios import times
from agent.evaluation.runs import EvaluationRow
from placement.suites.ratios import ratio

RESULTS = Path(__file__).parents[1] / "results"
EXPERT = "human-expert"
COMPARED = (
    ("one look, the best of 64 plans / human expert", ONE_SHOT, EXPERT),
    ("/ best of the portfolio", ONE_SHOT, PORTFOLIO),
    ("/ untaught: same decoder, nothing learned", ONE_SHOT, ONE_SHOT_UNTAUGHT),
    ("untaught / best of the portfolio", ONE_SHOT_UNTAUGHT, PORTFOLIO),
    ("one greedy plan / human expert", ONE_SHOT_GREEDY, EXPERT),
    ("one greedy plan / best of the portfolio", ONE_SHOT_GREEDY, PORTFOLIO),
    ("50 updates / as many plans without", ONE_SHOT_TUNED, ONE_SHOT_MORE),
    ("50 updates / one look", ONE_SHOT_TUNED, ONE_SHOT),
    ("portfolio / human expert", PORTFOLIO, EXPERT),
)


def main() -> None:
    """Write the table."""
    lines = [
        "# One look: the policy by itself",
        "",
        "`python benchmarks/quality/one_shot_table.py`. Simulated; no search. Below 1 the first is",
        "faster. In brackets the 95% interval, then pairs (and on how many the first is faster,",
        "slower).",
        "",
    ]
    commands = []
    for folder in sorted(RESULTS.glob("one-shot-*")):
        rows = read(folder)
        lines += [f"## {folder.name.removeprefix('one-shot-')}", "", *compare(rows), ""]
        commands += sorted({f"- `{row.command}`, {row.commit}" for row in rows})
    text = "\n".join([*lines, "## Commands", "", *commands, ""])
    (RESULTS / "one_shot.md").write_text(text, encoding="utf-8")
    print(text)


def read(folder: Path) -> list[EvaluationRow]:
    """The rows of an evaluation."""
    lines = (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    return [EvaluationRow.from_dict(json.loads(line)) for line in lines]


def compare(rows: Sequence[EvaluationRow]) -> list[str]:
    """A line for each comparison, and what each column took."""
    found = times(rows)
    lines = ["| | ratio | pairs |", "|---|---|---|"]
    for said, column, against in COMPARED:
        if column not in found or against not in found:
            continue
        item = ratio(column, against, found[column], found[against])
        missing = f", {item.only_against} runs fit in the other alone" if item.only_against else ""
        lines.append(
            f"| {said} | {item.geometric_mean:.3f} ({item.low:.3f}-{item.high:.3f}) "
            f"| {item.pairs} ({item.faster}, {item.slower}){missing} |"
        )
    seeds = len({row.seed for row in rows})
    spent = {
        column: sum(row.cpu_seconds for row in rows if row.column == column)
        / max(sum(row.column == column for row in rows), 1)
        for column in found
    }
    told = ", ".join(f"{column} {seconds:.1f}" for column, seconds in sorted(spent.items()))
    return [*lines, "", f"{seeds} seeds. CPU seconds, mean of a run: {told}."]


if __name__ == "__main__":
    main()
