"""Held-out rows that `graphwright evaluate` keeps apart, beside each other: one table for all.

    python benchmarks/quality/held_out.py

Reads the `rows.jsonl` of the folders `results/evaluation-*` and writes `results/held_out.md`: ten
seconds of the policy beside search that was given more, beside a policy that was taught without the
trace, fine-tuned beside search. Ratios are geometric means over the pairs and seeds that both have,
with 95% bootstrap intervals. The commands that made the rows stand below the table.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from agent.evaluation.columns import FINE_TUNED, PORTFOLIO, SEARCH, UNTRAINED, ZERO_SHOT
from agent.evaluation.contestants import policy_digest
from agent.evaluation.ratios import times
from agent.evaluation.runs import EvaluationRow
from agent.placing.registry import SHIPPED
from agent.runs.checkpoint import load_checkpoint
from placement.suites.ratios import pair_ratios, ratio

RESULTS = Path(__file__).parents[1] / "results"
SUITES = ("instances", "families")
EXPERT = "human-expert"
SLOW_OR_TIGHT = ("slow-links", "tight-memory")


def main() -> None:
    """Write the table."""
    text = table(RESULTS)
    (RESULTS / "held_out.md").write_text(text)
    print(text)


def read(folder: Path) -> list[EvaluationRow]:
    """Rows of an evaluation; none where it was not made."""
    path = folder / "rows.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [EvaluationRow.from_dict(json.loads(line)) for line in lines]


def table(results: Path) -> str:
    """Markdown."""
    checkpoint = load_checkpoint(SHIPPED)
    digest = policy_digest(checkpoint.policy, checkpoint.config)
    used: dict[str, list[EvaluationRow]] = {}

    def rows(name: str, column: str, policy: str | None = "") -> list[EvaluationRow]:
        """Of one policy; of none, with the empty string; of any, with None."""
        found = [
            row
            for row in read(results / f"evaluation-{name}")
            if row.column == column and policy in (None, row.policy_digest)
        ]
        used.setdefault(name, []).extend(found)
        return found

    lines = [
        "# Held-out suites, all comparisons",
        "",
        f"Policy {digest}. Below 1 the first is faster.",
        "",
        "| what | pairs | seeds | ratio | pairs from .. to |",
        "|---|---:|---:|---|---|",
    ]

    def add(what: str, ours: list[EvaluationRow], theirs: list[EvaluationRow]) -> None:
        if line := _line(what, ours, theirs):
            lines.append(line)

    ten = {suite: rows(suite, ZERO_SHOT, digest) for suite in SUITES}
    for suite in SUITES:
        begin = f"{suite}: zero-shot 10 s /"
        add(f"{begin} portfolio", ten[suite], rows(suite, PORTFOLIO))
        add(
            f"{begin} portfolio, slow links and tight memory",
            [row for row in ten[suite] if row.headroom in SLOW_OR_TIGHT],
            rows(suite, PORTFOLIO),
        )
        add(f"{begin} search 10 s", ten[suite], rows(suite, SEARCH))
        add(f"{begin} untrained 10 s", ten[suite], rows(suite, UNTRAINED, None))
        blind = rows(f"{suite}-no-trace", ZERO_SHOT, None)
        add(f"{begin} taught without the trace, 10 s", ten[suite], blind)
        add(f"{begin} search 100 s", ten[suite], rows(f"{suite}-100s", SEARCH))
        add(f"{begin} search 600 s", ten[suite], rows(f"{suite}-600s", SEARCH))
    both = [row for suite in SUITES for row in ten[suite]]
    add(
        "both: zero-shot 10 s / portfolio, slow links and tight memory",
        [row for row in both if row.headroom in SLOW_OR_TIGHT],
        [row for suite in SUITES for row in rows(suite, PORTFOLIO)],
    )
    for base in (PORTFOLIO, SEARCH):
        theirs = [row for suite in SUITES for row in rows(suite, base)]
        add(f"both: zero-shot 10 s / {base} 10 s", both, theirs)
    for seconds in (100, 600):
        theirs = [row for suite in SUITES for row in rows(f"{suite}-{seconds}s", SEARCH)]
        add(f"both: zero-shot 10 s / search {seconds} s", both, theirs)
    tuned = [row for suite in SUITES for row in rows(f"{suite}-120s", FINE_TUNED, digest)]
    searched = [row for suite in SUITES for row in rows(f"{suite}-120s", SEARCH)]
    add("both: fine-tuned 120 s / search 120 s", tuned, searched)
    for suite in SUITES:
        name = f"{suite}-no-headroom"
        ours = rows(name, ZERO_SHOT, digest)
        for kind in ("fast-links", "none"):
            mine = [row for row in ours if row.headroom == kind]
            add(f"{suite}, {kind}: zero-shot 10 s / portfolio", mine, rows(name, PORTFOLIO))
            add(f"{suite}, {kind}: zero-shot 10 s / search", mine, rows(name, SEARCH))
    for name, seconds in (("paper", 10), ("paper-60s", 60)):
        ours = rows(name, ZERO_SHOT, digest)
        for base in (EXPERT, PORTFOLIO, SEARCH):
            add(f"papers' pairs: zero-shot {seconds} s / {base}", ours, rows(name, base))
    ours = rows("large-60s", ZERO_SHOT, digest)
    add("over 30,000 ops: zero-shot 60 s / portfolio", ours, rows("large-60s", PORTFOLIO))
    lines += ["", "Commands, and commits of the rows used:", ""]
    for name, mine in used.items():
        for command in sorted({row.command for row in mine}):
            commits = sorted({row.commit for row in mine if row.command == command})
            lines.append(f"- `evaluation-{name}`: `{command}` ({', '.join(commits)})")
    return "\n".join(lines) + "\n"


def _line(what: str, ours: list[EvaluationRow], theirs: list[EvaluationRow]) -> str:
    """One comparison; nothing where no pair has both."""
    mine, other = _times(ours), _times(theirs)
    shared = [pair for pair in mine.keys() & other.keys() if mine[pair].keys() & other[pair].keys()]
    if not shared:
        return ""
    found = ratio("", "", mine, other)
    seeds = {seed for pair in shared for seed in mine[pair].keys() & other[pair].keys()}
    each = [item.ratio for item in pair_ratios(mine, other)]
    interval = f" ({found.low:.3f}-{found.high:.3f})" if found.pairs > 1 else ""
    return (
        f"| {what} | {found.pairs} | {len(seeds)} | {found.geometric_mean:.3f}{interval} | "
        f"{min(each):.2f} .. {max(each):.2f} |"
    )


def _times(rows: Iterable[EvaluationRow]) -> dict[tuple[str, str], dict[int, float]]:
    """Step times of rows of one column, by pair and seed."""
    found = times(rows)
    assert len(found) <= 1
    return next(iter(found.values()), {})


if __name__ == "__main__":
    main()
