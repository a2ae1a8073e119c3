"""How long each part takes, commit after commit; a part that became a tenth slower is named.

    python -m benchmarks.speed.history             # measures, compares, adds a line to the history
    python -m benchmarks.speed.history --check     # measures and compares; code 1 if one is slower
    python -m benchmarks.speed.history --slow engine=1.15   # a part made slower, to see it caught

Machines differ, and so does one machine from hour to hour. So each part is timed in turn with a
yardstick, work that never changes: plain Python for what is mostly Python, compiled loops for what
is mostly compiled. What is kept is the ratio of CPU seconds, the median over many turns. A part is
slower where its ratio is more than a tenth above the median of the last entries of the same kind of
processor, and another round of turns says so too.

The history is `benchmarks/results/speed_history.jsonl`, the table `speed_history.md` beside it.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from time import process_time
from typing import Any

from benchmarks.rows import RESULTS, append_row, commit, read_rows
from benchmarks.speed.parts import PARTS, YARDSTICKS, Part

HISTORY = RESULTS / "speed_history.jsonl"
#: How much slower a part may be than it was.
TOLERANCE = 0.10
_TURNS = 15
#: So many entries say what a part took.
_LAST = 5


def seconds_of(work: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    begun = process_time()
    work()
    return process_time() - begun


def ratio_of(part: Part, work: Callable[[], object], turns: int, slow: float = 1.0) -> list[float]:
    """What a part takes in units of its yardstick, for each turn, the smallest first.

    Args:
        slow: as if the part took so many times as long.
    """
    yardstick = YARDSTICKS[part.yardstick]
    work()
    yardstick()
    ratios = []
    for _ in range(turns):
        before, own, after = seconds_of(yardstick), seconds_of(work), seconds_of(yardstick)
        ratios.append(slow * own / (0.5 * (before + after)))
    return sorted(ratios)


def earlier(rows: list[dict[str, Any]], part: str, processor: str) -> float | None:
    """The median of what a part took in the last entries of a kind of processor."""
    found = [
        row["ratios"][part]["median"]
        for row in rows
        if row["processor"] == processor and part in row["ratios"]
    ]
    return statistics.median(found[-_LAST:]) if found else None


def is_slower(now: float, before: float | None) -> bool:
    """Whether a part takes longer than it may."""
    return before is not None and now > before * (1.0 + TOLERANCE)


def processor_name() -> str:
    """What kind of processor this is, as Linux says it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def table(rows: list[dict[str, Any]]) -> str:
    """The last entries, as Markdown."""
    shown = rows[-8:]
    lines = [
        "# Speed, commit after commit",
        "",
        "`python -m benchmarks.speed.history`: CPU time of each part in units of a yardstick that",
        "is timed in turn with it, median (and half the interquartile range) of 15 turns.",
        "",
        "| part | yardstick | " + " | ".join(row["commit"] for row in shown) + " |",
        "|---|---|" + "---|" * len(shown),
    ]
    for name, part in PARTS.items():
        cells = []
        for row in shown:
            found = row["ratios"].get(name)
            cells.append(f"{found['median']:.3g} ({found['spread']:.2g})" if found else "-")
        lines.append(f"| {name} | {part.yardstick} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, say what became slower, and keep the figures unless told not to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, and keep nothing")
    parser.add_argument("--only", nargs="*", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--turns", type=int, default=_TURNS)
    parser.add_argument("--slow", nargs="*", default=[], metavar="PART=FACTOR")
    given = parser.parse_args()
    handicaps = {
        name: float(value) for name, _, value in (text.partition("=") for text in given.slow)
    }
    os.environ.update({"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"})
    rows, processor = read_rows(HISTORY), processor_name()
    ratios: dict[str, Mapping[str, float]] = {}
    slower = []
    with tempfile.TemporaryDirectory() as place:
        for name in given.only:
            part, before = PARTS[name], earlier(rows, name, processor)
            work = part.prepare(Path(place))
            for _ in range(2):  # what seems slower is measured again
                found = ratio_of(part, work, given.turns, handicaps.get(name, 1.0))
                now = statistics.median(found)
                if not is_slower(now, before):
                    break
            quarter = len(found) // 4
            ratios[name] = {"median": now, "spread": (found[-1 - quarter] - found[quarter]) / 2}
            change = "" if before is None else f", {now / before - 1:+.1%} of {before:.3g}"
            print(f"{name}: {now:.3g} {part.yardstick}{change}", flush=True)
            if is_slower(now, before):
                slower.append(name)
    if not given.check and not handicaps:
        append_row(HISTORY, {"commit": commit(), "processor": processor, "ratios": ratios})
        (RESULTS / "speed_history.md").write_text(table(read_rows(HISTORY)), encoding="utf-8")
    if slower:
        print(f"slower by more than {TOLERANCE:.0%}: {', '.join(slower)}")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
