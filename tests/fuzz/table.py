"""The page that says how often each reader was fuzzed, and what was found."""

from collections.abc import Mapping, Sequence
from typing import Any

from .registry import TARGETS

_HEAD = """# Fuzzing

Readers are given damaged files, and may refuse them with an error of the project's own but do
nothing else: not raise, crash, take more than 10 s of processor time or 2 GiB. A row sums up the
runs of one target. `python -m tests.fuzz TARGET --seconds N --seed S --log LOG` makes a run;
`python -m tests.fuzz --log LOG --table benchmarks/results/fuzzing.md` writes this page. What was found
is mended and has a test, except what native code does: a process of its own bears that.

| target | what | runs | executions | refused | lines | slowest | memory | CPU | findings |
|---|---|---|---|---|---|---|---|---|---|
"""


def page_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """The page, from what the runs said of themselves."""
    page = _HEAD
    findings: list[str] = []
    for name, target in TARGETS.items():
        runs = [row for row in rows if row["target"] == name]
        if not runs:
            continue
        executions = sum(row["executions"] for row in runs)
        refused = sum(row["refused"] for row in runs)
        kinds = sorted({key for row in runs for key in row["findings"]})
        page += (
            f"| `{name}` | {target.about} | {len(runs)} | {executions:,} "
            f"| {refused / max(executions, 1):.0%} "
            f"| {max(row['lines'] for row in runs):,} "
            f"| {max(row['slowest_seconds'] for row in runs):.1f} s "
            f"| {max(row['peak_bytes'] for row in runs) / 2**20:.0f} MiB "
            f"| {sum(row['processor_seconds'] for row in runs) / 60:.0f} min | {len(kinds)} |\n"
        )
        findings += [f"- `{name}`: {key}" for key in kinds]
    page += "\nSeeds: " + ", ".join(str(seed) for seed in sorted({row["seed"] for row in rows}))
    page += ".\n"
    if findings:
        page += "\nFound:\n\n" + "\n".join(findings) + "\n"
    return page
