"""How a run of `train-one-shot` went: its looks at the validation suites, as a table.

    python benchmarks/quality/training_looks.py runs/one-shot NAME

Reads the run's `config.json` and `metrics.jsonl`; writes `results/NAME.md`.
"""

import json
import sys
from pathlib import Path

from benchmarks.rows import RESULTS

_COLUMNS = (
    "best_to_untaught",
    "best_ratio",
    "greedy_ratio",
    "untaught_best_ratio",
    "untaught_greedy_ratio",
)


def main() -> None:
    """Write the table."""
    folder, name = Path(sys.argv[1]), sys.argv[2]
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    looks, seconds = [], 0.0
    for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        row = record.get("figures", {})
        seconds += row.get("prepare_cpu_seconds", 0.0) + row.get("learn_cpu_seconds", 0.0)
        if "validation/best_ratio" in row:
            figures = [f"{row[f'validation/{column}']:.4f}" for column in _COLUMNS]
            looks.append(f"| {record['step']} | {' | '.join(figures)} | {seconds:,.0f} |")
    commands = [
        f"- `{' '.join(command)}`, {commit}"
        for command, commit in zip(settings["commands"], settings["commits"], strict=True)
    ]
    text = "\n".join(
        [
            "# A training run of the one-shot policy",
            "",
            "`python benchmarks/quality/training_looks.py RUN NAME`. Pairs of the validation",
            "suites, geometric means: the best of 64 plans over the control's (the same decoder,",
            "nothing learned) and over the portfolio's plan; one greedy plan over the portfolio's;",
            "the same of the control. A plan that does not fit counts as 2.7 times as slow. What",
            "is looked at is the mean of the weights over about 100 rounds.",
            "",
            f"| round | {' | '.join(column.replace('_', ' ') for column in _COLUMNS)} | CPU s |",
            "|---:|" + "---:|" * (len(_COLUMNS) + 1),
            *looks,
            "",
            "Commands, and commits:",
            "",
            *commands,
            "",
        ]
    )
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
