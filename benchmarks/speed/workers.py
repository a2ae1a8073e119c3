"""How much faster two processes train than one, on batches of the same graphs.

    python -m benchmarks.speed.workers            # alone on the machine: wall-clock seconds count

`train` runs for a few rounds and for more of them, in one process and in two by way of torchrun and
gloo, one thread each; what the further rounds take is the time of a round, start-up and validation
left out. Both learn from the same number of graphs in a round, so that seconds of one over seconds
of the other is the gain in samples per second. Writes `benchmarks/results/workers.md`.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.rows import RESULTS, commit

ROOT = Path(__file__).resolve().parents[2]
_GRAPHS = 8
_SETTINGS = (
    "--graphs-per-batch", str(_GRAPHS), "--validate-every", "1000", "--validation-graphs", "1",
    "--max-ops", "2000", "--threads", "1", "--track", "none",
)  # fmt: skip


def seconds_of(processes: int, rounds: int, folder: Path) -> float:
    """Wall-clock seconds of a training of so many rounds."""
    starts = [sys.executable, "-P", "-m"]
    if processes > 1:
        starts += ["torch.distributed.run", "--nproc-per-node", str(processes), "-m"]
    command = [*starts, "agent", "train", "--rounds", str(rounds), *_SETTINGS, "--out", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment["PYTHONSAFEPATH"] = "1"
    begun = time.monotonic()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return time.monotonic() - begun


def main() -> None:
    """Measure in turns and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, nargs=2, default=(2, 12))
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    few, many = given.rounds
    load = os.getloadavg()[0]
    per_round: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as place:
        for repeat in range(given.repeats):
            for processes, found in per_round.items():
                short, long = (
                    seconds_of(processes, rounds, Path(place) / f"{repeat}-{processes}-{rounds}")
                    for rounds in (few, many)
                )
                found.append((long - short) / (many - few))
                print(processes, "processes:", f"{found[-1]:.2f} s a round", flush=True)
    one, two = (statistics.median(found) for found in per_round.values())
    gains = [a / b for a, b in zip(per_round[1], per_round[2], strict=True)]
    (RESULTS / "workers.md").write_text(
        "# Two processes that train\n\n"
        f"`python -m benchmarks.speed.workers --rounds {few} {many} --repeats {given.repeats}`, "
        f"commit {commit()}, {os.cpu_count()} cores, load {load:.1f} before the run. "
        f"{_GRAPHS} graphs a round, medians.\n\n"
        "| processes | seconds a round | samples per second |\n|---|---|---|\n"
        f"| 1 | {one:.2f} | 1 |\n| 2 (gloo) | {two:.2f} | {one / two:.2f} times as many "
        f"({min(gains):.2f}-{max(gains):.2f}) |\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
