"""Results as Markdown, CSV and plain values."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from agent.evaluation.columns import (
    CLAIMS,
    FINE_TUNED,
    GREEDY,
    OF_PERIODS,
    PORTFOLIO,
    RIVALS,
    column_names,
    column_of,
)
from agent.evaluation.ratios import stage_shares, times, with_headroom
from agent.evaluation.runs import LATENCY, EvaluationRow
from placement.suites.pair import Headroom
from placement.suites.ratios import (
    LEAST_DRAWN,
    MATTERS,
    MeanRatio,
    PairRatio,
    Times,
    judged,
    pair_ratios,
    ratio,
)


@dataclass(frozen=True)
class Results:
    """Rows that belong in one table."""

    rows: tuple[EvaluationRow, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Those that have a row, in the order of the table."""
        present = {row.column for row in self.rows}
        return tuple(name for name in column_names() if name in present)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """In the order of the rows."""
        return tuple(dict.fromkeys((row.graph, row.cluster) for row in self.rows))

    def is_solved(self, pair: tuple[str, str]) -> bool:
        """Whether any column has a plan that fits."""
        return any(row.feasible for row in self.rows if (row.graph, row.cluster) == pair)


def ratios(rows: Sequence[EvaluationRow]) -> tuple[MeanRatio, ...]:
    """Policies against all others and among each other, and all others against the portfolio."""
    seconds = times(rows)
    present = [name for name in column_names() if name in seconds]
    focus = [name for name in present if column_of(name).uses_policy]
    others = [name for name in present if name not in focus]
    versus = [
        *((column, other) for column in reversed(focus) for other in (*others, *focus)),
        *((column, PORTFOLIO) for column in others if PORTFOLIO in seconds),
    ]
    return judged(
        [
            ratio(column, other, seconds[column], seconds[other])
            for column, other in versus
            if column != other
        ]
    )


def losses(rows: Sequence[EvaluationRow]) -> dict[tuple[str, str], tuple[PairRatio, ...]]:
    """Pairs on which the policy is slower than a rival, by claimed column and rival."""
    seconds = times(rows)
    return {
        (column, rival): tuple(
            item
            for item in pair_ratios(seconds[column], seconds[rival])
            if item.ratio > 1.0 + MATTERS
        )
        for column in CLAIMS
        for rival in RIVALS
        if column in seconds and rival in seconds
    }


def markdown(results: Results, title: str) -> str:
    """The whole report."""
    if not results.rows:
        return f"# {title}\n\nNo rows.\n"
    parts = [f"# {title}", _about(results), _columns(results), _step_times(results)]
    parts.append(_ratio_section("All pairs", results.rows))
    parts.append(_ratio_section("Pairs with headroom", with_headroom(results.rows, True)))
    parts.append(_ratio_section("Pairs without headroom", with_headroom(results.rows, False)))
    parts += [
        _by_headroom(results),
        _raw(results),
        _stages(results),
        _losses(results),
        _failures(results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def csv_text(results: Results) -> str:
    """One line per run."""
    text = io.StringIO()
    if results.rows:
        names = dict.fromkeys(name for row in results.rows for name in row.as_dict())
        writer = csv.DictWriter(text, list(names), lineterminator="\n")
        writer.writeheader()
        for row in results.rows:
            values = row.as_dict()
            for name in ("stages", "stage_seconds"):
                values[name] = ";".join("" if item is None else str(item) for item in values[name])
            writer.writerow(values)
    return text.getvalue()


def plain(results: Results) -> dict[str, Any]:
    """Everything as plain values."""
    return {
        "columns": list(results.columns),
        "ratios": {
            "all": [_plain_ratio(item) for item in ratios(results.rows)],
            "headroom": [_plain_ratio(item) for item in ratios(with_headroom(results.rows, True))],
            "no-headroom": [
                _plain_ratio(item) for item in ratios(with_headroom(results.rows, False))
            ],
        },
        "stages": {
            name: shares
            for name in results.columns
            if (shares := stage_shares(row for row in results.rows if row.column == name))
        },
        "losses": [
            {"column": column, "against": rival, **asdict(item)}
            for (column, rival), items in losses(results.rows).items()
            for item in items
        ],
        "rows": [row.as_dict() for row in results.rows],
    }


def cell(of_seeds: Times | None, runs: int) -> str:
    """Milliseconds: mean over seeds with the range; how many seeds have no plan that fits."""
    if not runs:
        return ""
    values = list((of_seeds or {}).values())
    if not values:
        return "fails"
    shown = f"{np.mean(values) * 1e3:,.1f}"
    if max(values) > min(values):
        shown += f" ({min(values) * 1e3:,.1f}-{max(values) * 1e3:,.1f})"
    return shown if len(values) == runs else f"{shown}, {runs - len(values)} of {runs} fail"


def _about(results: Results) -> str:
    rows = results.rows
    seeds = sorted({row.seed for row in rows})
    budgets = sorted({row.budget_seconds for row in rows})
    policies = sorted({row.policy_digest for row in rows} - {""})
    objectives = sorted({row.objective for row in rows} - {LATENCY})
    what = f"Periods of steps that overlap ({objectives[0]})" if objectives else "Step times"
    return (
        f"{what} are simulated ({', '.join(sorted({row.costs for row in rows}))} costs), in "
        f"milliseconds: the mean over seeds {', '.join(map(str, seeds))} with the range. Budget: "
        f"{', '.join(f'{value:g}' for value in budgets)} CPU seconds for each column marked *, "
        "the portfolio's own time included. "
        + (f"Policy: {', '.join(policies)}. " if policies else "")
        + "Commands: "
        + ", ".join(f"`{command}`" for command in sorted({row.command for row in rows}))
        + f"; commits {', '.join(sorted({row.commit for row in rows}))}."
    )


def _columns(results: Results) -> str:
    lines = [
        f"- {_head(name, results)}: {_about_column(name, results)}{_effort(name, results)}"
        for name in results.columns
    ]
    return "\n".join(lines)


def _about_column(name: str, results: Results) -> str:
    overlaps = results.rows[0].objective != LATENCY
    return OF_PERIODS[name] if overlaps and name in OF_PERIODS else column_of(name).about


def _effort(name: str, results: Results) -> str:
    mine = [row for row in results.rows if row.column == name]
    text = ""
    if name == FINE_TUNED:
        done = [row.updates for row in mine]
        text = f"; {min(done)} to {max(done)} updates of at most {mine[0].max_updates}"
    if column_of(name).spends_budget:
        plans = int(np.median([row.evaluations for row in mine]))
        text += f"; {plans:,} plans simulated in the median"
    return text


def _head(name: str, results: Results) -> str:
    return f"{name}*" if column_of(name).spends_budget else name


def _step_times(results: Results) -> str:
    seconds = times(results.rows)
    names = results.columns
    runs: dict[tuple[str, tuple[str, str]], int] = {}
    for row in results.rows:
        key = (row.column, (row.graph, row.cluster))
        runs[key] = runs.get(key, 0) + 1
    sample = {(row.graph, row.cluster): row for row in results.rows}
    lines = [
        "| graph | cluster | ops | "
        + " | ".join(_head(name, results) for name in names)
        + " | lower bound |",
        "|---|---" + "|---:" * (len(names) + 2) + "|",
    ]
    for pair in results.pairs:
        row = sample[pair]
        cells = [cell(seconds[name].get(pair), runs.get((name, pair), 0)) for name in names]
        bound = f"{row.lower_bound_seconds * 1e3:,.1f}"
        lines.append(f"| {pair[0]} | {pair[1]} | {row.ops:,} | {' | '.join(cells)} | {bound} |")
    title = "Step times" if sample[results.pairs[0]].objective == LATENCY else "Periods"
    return f"## {title}\n\n" + "\n".join(lines)


def _ratio_section(title: str, rows: Sequence[EvaluationRow]) -> str:
    means = ratios(rows)
    if not means:
        return ""
    lines = [
        "| column | against | ratio | 95% interval | outside the noise | pairs | faster | slower "
        "| alone feasible | alone infeasible |",
        "|---|---|---:|---:|---|---:|---:|---:|---:|---:|",
    ]
    for item in means:
        mean = f"{item.geometric_mean:.3f} | {_interval(item)} | {_verdict(item)}"
        lines.append(
            f"| {item.column} | {item.against} | {mean if item.pairs else ' | | '} | {item.pairs} "
            f"| {item.faster} | {item.slower} | {item.only_column} | {item.only_against} |"
        )
    note = (
        "Geometric means of step times over another column's; below 1 is faster. Intervals: 95%, "
        "Student's, over pairs, each by the mean over its seeds. Outside the noise: told apart by "
        "as much together with all else that the column is compared with (Holm), on at least "
        f"{LEAST_DRAWN} pairs. Differences up to {MATTERS:.1%} count as none. The last columns "
        "count runs in which one of the two has no plan that fits."
    )
    return f"## {title}\n\n{note}\n\n" + "\n".join(lines)


def _by_headroom(results: Results) -> str:
    """The claimed columns on each kind of cluster, and where links are slow or memory is tight."""
    kinds: dict[str, tuple[Headroom, ...]] = {
        kind.value: (kind,) for kind in Headroom if kind is not Headroom.NONE
    }
    kinds["slow-links or tight-memory"] = (Headroom.SLOW_LINKS, Headroom.TIGHT_MEMORY)
    found = {
        name: times(row for row in results.rows if Headroom(row.headroom) in kind)
        for name, kind in kinds.items()
    }
    found = {name: by_column for name, by_column in found.items() if by_column}
    lines = []
    for column in CLAIMS:
        for other in results.columns:
            if column == other or column not in results.columns:
                continue
            cells = []
            for by_column in found.values():
                item = ratio(column, other, by_column.get(column, {}), by_column.get(other, {}))
                shown = f"{item.geometric_mean:.3f}"
                shown += f" ({_interval(item)})" if _interval(item) else ""
                cells.append(shown if item.pairs else "")
            lines.append(f"| {column} | {other} | {' | '.join(cells)} |")
    if len(found) < 2 or not lines:
        return ""
    head = f"| column | against | {' | '.join(found)} |\n|---|---" + "|---:" * len(found) + "|"
    return "## By what there is to win\n\n" + head + "\n" + "\n".join(lines)


def _interval(item: MeanRatio) -> str:
    return f"{item.low:.3f}-{item.high:.3f}" if np.isfinite(item.low) else ""


def _verdict(item: MeanRatio) -> str:
    if item.pairs < LEAST_DRAWN:
        return "too few pairs"
    if not item.outside_noise:
        return "no"
    return "faster" if item.geometric_mean < 1 else "slower"


def _raw(results: Results) -> str:
    """Greedy decisions without the portfolio to fall back to."""
    own = times(results.rows, raw=True)
    if GREEDY not in own or PORTFOLIO not in own:
        return ""
    item = ratio(GREEDY, PORTFOLIO, own[GREEDY], own[PORTFOLIO])
    failed = sum(row.column == GREEDY and not row.raw_feasible for row in results.rows)
    if not item.pairs:
        return f"Greedy decisions alone fit in no run ({failed} failures)."
    return (
        f"Greedy decisions alone, without falling back to the portfolio: "
        f"{item.geometric_mean:.3f} ({_interval(item) or 'one pair'}) of the portfolio's time over "
        f"{item.pairs} pairs, {item.faster} faster, {item.slower} slower; {failed} runs do not fit."
    )


def _stages(results: Results) -> str:
    """What each stage of the policies' placers brought."""
    lines = []
    for name in results.columns:
        shares = stage_shares(row for row in results.rows if row.column == name)
        if shares:
            parts = ", ".join(f"{stage} {share:.0%}" for stage, share in shares.items())
            lines.append(f"- {name}: {parts}")
    if not lines:
        return ""
    note = (
        "Shares of the gain over the heuristics' plan, in the logarithm of step time; means over "
        "the runs that gained."
    )
    return f"## What each stage brought\n\n{note}\n\n" + "\n".join(lines)


def _losses(results: Results) -> str:
    lost = losses(results.rows)
    if not lost:
        return ""
    lines = []
    for (column, rival), items in lost.items():
        lines.append(f"- {column} / {rival}: {len(items)} pairs")
        lines += [
            f"  - {item.graph} on {item.cluster}: {item.ratio:.3f}"
            f"{', outside the noise' if item.outside_noise else ''}"
            for item in items
        ]
    note = (
        f"Pairs on which the policy's plan is slower by more than {MATTERS:.1%}, by the geometric "
        "mean over seeds; outside the noise: told apart by its seeds, at least three of them, "
        "together with all other pairs (Holm)."
    )
    return f"## Where the policy loses\n\n{note}\n\n" + "\n".join(lines)


def _failures(results: Results) -> str:
    counts: dict[tuple[str, str, str], dict[str, int]] = {}
    for row in results.rows:
        if not row.feasible:
            reasons = counts.setdefault((row.column, row.graph, row.cluster), {})
            # Sizes and instants differ from seed to seed; the first few words do not.
            reason = row.failure.partition(":")[0] or "no plan"
            reasons[reason] = reasons.get(reason, 0) + 1
    if not counts:
        return "## Failures\n\nNone."
    lines = [
        f"- {column} on {graph}, {cluster}: {_count(reasons)}"
        for (column, graph, cluster), reasons in counts.items()
    ]
    return "## Failures\n\n" + "\n".join(lines)


def _count(reasons: Mapping[str, int]) -> str:
    return "; ".join(f"{text} ({count})" for text, count in reasons.items())


def _plain_ratio(item: MeanRatio) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not np.isfinite(value) else value
        for name, value in asdict(item).items()
    }
