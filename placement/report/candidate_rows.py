"""The plans that a plan was compared with, one row for each."""

import math
from dataclasses import dataclass

from placement.placer import Candidate
from placement.report.reported_plan import ReportedPlan
from simulator.plan import Plan

_THIS = "this plan"
#: Names of placers that a chart has room for.
_SHOWN = 2
#: Step times beyond so many times the median are drawn cut off.
_OUTLYING = 3.0

_Key = tuple[bytes, bytes, str]


@dataclass(frozen=True)
class CandidateRow:
    """A plan, and the placers whose best plan it is."""

    placers: tuple[str, ...]
    is_reported: bool
    """Whether it is the plan that the report is about."""
    seconds: float
    low: float
    high: float
    """Of the variants of these placers; of the reported plan by its known error."""
    fits: bool

    @property
    def name(self) -> str:
        """All placers; the reported plan is called so."""
        if not self.is_reported:
            return ", ".join(self.placers)
        return f"{_THIS} ({', '.join(self.placers)})" if self.placers else _THIS

    @property
    def short_name(self) -> str:
        """What a chart has room for; different for each row."""
        more = len(self.placers) - _SHOWN
        named = ", ".join(self.placers[:_SHOWN]) + (f" +{more}" if more > 0 else "")
        return _THIS if self.is_reported else named

    @property
    def kind(self) -> str:
        if self.is_reported:
            return _THIS
        return "fits" if self.fits else "out of memory"


def candidate_rows(reported: ReportedPlan, error: float | None) -> list[CandidateRow]:
    """The reported plan, then the best plan of each placer by step time, equal ones once.

    Args:
        error: share by which the reported plan's time is known to be off, or None.
    """
    families: dict[str, list[Candidate]] = {}
    for item in reported.candidates:
        if math.isfinite(item.evaluation.makespan_seconds):
            families.setdefault(item.origin.split(":")[0], []).append(item)
    step = reported.trace.makespan_seconds
    own = _what_it_does(reported.plan, step)
    merged: dict[_Key, list[str]] = {}
    best: dict[_Key, Candidate] = {}
    for name, items in families.items():
        chosen = min(items, key=_rank)
        key = _what_it_does(chosen.plan, chosen.evaluation.makespan_seconds)
        merged.setdefault(key, []).append(name)
        best[key] = chosen
    fits = reported.trace.evaluation.feasible
    spread = step * (error or 0.0)
    mine = tuple(merged.pop(own, ()))
    rows = [CandidateRow(mine, True, step, step - spread, step + spread, fits)]
    for key, names in merged.items():
        times = [c.evaluation.makespan_seconds for name in names for c in families[name]]
        score = best[key].evaluation
        rows.append(
            CandidateRow(
                tuple(names), False, score.makespan_seconds, min(times), max(times), score.feasible
            )
        )
    return [rows[0], *sorted(rows[1:], key=lambda row: row.seconds)]


def cut_off_seconds(rows: list[CandidateRow]) -> float | None:
    """Where bars end that would squash all others; None where all may be drawn in full."""
    times = sorted(row.seconds for row in rows)
    most = max(_OUTLYING * times[(len(times) - 1) // 2], 1.1 * rows[0].seconds)
    return most if times[-1] > most else None


def _rank(item: Candidate) -> tuple[bool, float]:
    return not item.evaluation.feasible, item.evaluation.makespan_seconds


def _what_it_does(plan: Plan, seconds: float) -> _Key:
    """Plans that differ in the order of ops alone are one where that changes no figure."""
    return plan.devices.tobytes(), plan.fusion.tobytes(), f"{seconds:.9e}"
