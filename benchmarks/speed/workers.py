"""How much faster a policy trains with two processes than with one, on batches of the same graphs.

    python -m benchmarks.speed.workers            # alone on the machine: wall-clock seconds count
    python -m benchmarks.speed.workers --ways 1 2

`train` runs for a few rounds and for more of them, one thread in each process; what the further
rounds take is the time of a round, start-up and validation left out. All ways learn from the same
number of graphs in a round, so that seconds of one over seconds of another are the gain in samples
per second. Where other processes want the cores, CPU seconds of the busiest learner tell how long a
round would be without them, but for what it waits for messages; of those whose processes search for
them they tell nothing. Writes `benchmarks/results/workers.md`.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.runs.tracking.jsonl import read_lines
from benchmarks.rows import RESULTS, commit

ROOT = Path(__file__).resolve().parents[2]
_GRAPHS = 8
_SETTINGS = (
    "--graphs-per-batch", str(_GRAPHS), "--validate-every", "1000", "--validation-graphs", "1",
    "--max-ops", "2000", "--threads", "1", "--track", "none",
)  # fmt: skip


@dataclass(frozen=True)
class Way:
    """A way to spread a training run."""

    name: str
    learners: int = 1
    flags: tuple[str, ...] = ()


WAYS: Mapping[str, Way] = {
    "1": Way("1"),
    "2": Way("2 that learn and search (gloo)", 2),
    "jobs": Way("1 that learns, 2 that search (`--jobs 2`)", flags=("--jobs", "2")),
    "ray": Way("1 that learns, an actor on each core (`--ray`)", flags=("--ray",)),
}


@dataclass(frozen=True)
class Measured:
    """Seconds of a round."""

    clock: float
    busiest_cpu: float
    """CPU seconds of the learner that had the most to do."""


def measured(way: Way, few: int, many: int, place: Path) -> Measured:
    """The rounds that a long run has and a short one has not."""
    short, long = (seconds_of(way, rounds, place / str(rounds)) for rounds in (few, many))
    rounds = many - few
    told = [
        line["figures"]["busiest_cpu_seconds"]
        for line in read_lines(place / str(many))
        if "busiest_cpu_seconds" in line.get("figures", {})
    ]
    return Measured((long - short) / rounds, sum(told[few:]) / rounds)


def seconds_of(way: Way, rounds: int, folder: Path) -> float:
    """Wall-clock seconds of a training of so many rounds."""
    starts = [sys.executable, "-P", "-m"]
    if way.learners > 1:
        starts += ["torch.distributed.run", "--nproc-per-node", str(way.learners), "-m"]
    command = [*starts, "agent", "train", "--rounds", str(rounds), *_SETTINGS, *way.flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment["PYTHONSAFEPATH"] = "1"
    begun = time.monotonic()
    subprocess.run(
        [*command, "--out", str(folder)], env=environment, check=True, capture_output=True
    )
    return time.monotonic() - begun


def main() -> None:
    """Measure in turns and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, nargs=2, default=(2, 12))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    given = parser.parse_args()
    few, many = given.rounds
    ways = dict.fromkeys(("1", *given.ways))
    per_round: dict[str, list[Measured]] = {name: [] for name in ways}
    loads = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as place:
        for repeat in range(given.repeats):
            for name, found in per_round.items():
                found.append(measured(WAYS[name], few, many, Path(place) / f"{repeat}-{name}"))
                print(f"{WAYS[name].name}: {found[-1]} a round", flush=True)
                loads.append(os.getloadavg()[0])
    options = f"--rounds {few} {many} --repeats {given.repeats}"
    if len(ways) < len(WAYS):
        options += " --ways " + " ".join(ways)
    (RESULTS / "workers.md").write_text(page(per_round, options, loads), encoding="utf-8")


def page(per_round: Mapping[str, Sequence[Measured]], options: str, loads: Sequence[float]) -> str:
    """Markdown.

    Args:
        per_round: what a round took, by way; the same repeats of each.
        loads: of the machine, before the first run and after each.
    """
    lines = [
        "# Two processes that train",
        "",
        f"`python -m benchmarks.speed.workers {options}`, commit {commit()}, {os.cpu_count()} "
        f"cores, load {loads[0]:.1f} before the run and {max(loads[1:]):.1f} at most after one. "
        f"{_GRAPHS} graphs a round, medians. The last two columns are CPU seconds of the learner "
        "that had the most to do in a round, which others on the machine change little.",
        "",
        "| processes | seconds a round | samples per second | busiest learner, CPU s "
        "| gain by CPU seconds |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, found in per_round.items():
        cells = []
        for of_way, of_one in (
            ([one.clock for one in found], [one.clock for one in per_round["1"]]),
            ([one.busiest_cpu for one in found], [one.busiest_cpu for one in per_round["1"]]),
        ):
            seconds = statistics.median(of_way)
            gains = [a / b for a, b in zip(of_one, of_way, strict=True)]
            gain = f"{statistics.median(of_one) / seconds:.2f} times as many"
            cells += [f"{seconds:.2f}", f"{gain} ({min(gains):.2f}-{max(gains):.2f})"]
        if name == "1":
            cells[1] = cells[3] = "1"
        elif WAYS[name].learners == 1:
            cells[3] = "-"  # others search for it
        lines.append(f"| {WAYS[name].name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
