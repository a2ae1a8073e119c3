"""Runs verbs in turn in one process for hours, and looks whether anything grows.

    nohup python -m benchmarks.faults.soak --hours 8 > soak.log &

One process calls `place`, `finetune`, `evaluate` and `measure` one after another, as a service that
plans would. After each round it writes down its memory, open files, threads, child processes, files
among the temporary ones and shared memory. What the second half has more of than the first, beyond
the first rounds in which caches fill, is a leak.

Rows go to `benchmarks/results/soak.jsonl`, the table to `benchmarks/results/soak.md`.
"""

import argparse
import contextlib
import gc
import io
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.faults.workplace import furnish
from benchmarks.rows import append_row, read_rows

RESULTS = Path(__file__).resolve().parents[1] / "results"
_PAIR = ("rnnlm-2", "--cluster", "2xv100-pcie")
ROUND = (
    ("place", *_PAIR, "--budget", "2s", "--out", "out/placed"),
    ("finetune", *_PAIR, "--policy", "trained", "--updates", "2", "--budget", "2s",
     "--out", "out/tuned", "--track", "none"),
    ("evaluate", "--policy", "trained", "--suite", "test-families", "--limit", "1",
     "--budget", "1s", "--seeds", "0", "--only", "portfolio", "zero-shot",
     "--out", "out/evaluated", "--track", "none"),
    ("measure", "model.onnx", "-c", "cores.yaml", "--plan", "cores/plan.json", "--repeats", "3"),
)  # fmt: skip
#: Rounds in which caches of libraries fill; they are shown and not judged.
_WARM_UP = 3


def holdings(temporary: Path) -> dict[str, int]:
    """What this process and its machine hold at this instant."""
    status = dict(
        line.split(":", 1) for line in Path("/proc/self/status").read_text("ascii").splitlines()
    )
    children = [
        child
        for task in Path("/proc/self/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
    return {
        "resident_bytes": int(status["VmRSS"].split()[0]) * 1024,
        "open_files": len(list(Path("/proc/self/fd").iterdir())),
        "threads": int(status["Threads"]),
        "children": len(children),
        "temporary_files": sum(path.is_file() for path in temporary.rglob("*")),
        "shared_memory": len(list(Path("/dev/shm").iterdir())),
        "objects": len(gc.get_objects()),
    }


def round_of_verbs() -> None:
    """Call each verb once, in this process.

    Raises:
        RuntimeError: one did not end with 0.
    """
    from agent.cli.app import run

    shutil.rmtree("out", ignore_errors=True)
    for words in ROUND:
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = run(words)
        if code:
            raise RuntimeError(f"{' '.join(words)} ended with {code}: {said.getvalue()[-2000:]}")


def table(rows: list[dict[str, Any]]) -> str:
    """What was held after the first rounds and at the end, as Markdown."""
    hours = rows[-1]["seconds"] / 3600
    lines = [
        "# Hours of verbs in one process",
        "",
        f"`python -m benchmarks.faults.soak`: {len(rows)} rounds of {len(ROUND)} verbs (place,",
        f"finetune, evaluate, measure) in {hours:.1f} hours. The halves are of the rounds after",
        f"the first {_WARM_UP}, in which caches fill.",
        "",
        "| | after the first round | first half, median | second half, median | most |",
        "|---|---|---|---|---|",
    ]  # fmt: skip
    judged = rows[_WARM_UP:] or rows
    half = max(len(judged) // 2, 1)
    for name in holdings(Path("/nonexistent")):
        first, second = (
            statistics.median(row[name] for row in part)
            for part in (judged[:half], judged[half:] or judged)
        )
        most = max(row[name] for row in judged)
        shown = [rows[0][name], first, second, most]
        if name.endswith("bytes"):
            cells = [f"{value / 2**20:.0f} MiB" for value in shown]
        else:
            cells = [f"{value:.0f}" for value in shown]
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run rounds for as long as was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hours", type=float, default=0.1)
    given = parser.parse_args()
    path = RESULTS / "soak.jsonl"
    path.unlink(missing_ok=True)
    os.environ.update({"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"})
    with tempfile.TemporaryDirectory(prefix="graphwright-soak-") as place:
        furnish(Path(place) / "work")
        temporary = Path(place) / "tmp"
        temporary.mkdir()
        tempfile.tempdir = os.environ["TMPDIR"] = str(temporary)
        os.chdir(Path(place) / "work")
        began = time.monotonic()
        while not (rows := read_rows(path)) or rows[-1]["seconds"] < given.hours * 3600:
            round_of_verbs()
            gc.collect()
            append_row(path, {"seconds": time.monotonic() - began, **holdings(temporary)})
            (RESULTS / "soak.md").write_text(table(read_rows(path)), encoding="utf-8")
        os.chdir(RESULTS)
        tempfile.tempdir = None


if __name__ == "__main__":
    main()
