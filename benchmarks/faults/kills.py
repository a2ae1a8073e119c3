"""Kills commands at random instants, and looks at what is left and at what is lost.

    python -m benchmarks.faults.kills --kills 5              # of each verb; minutes
    python -m benchmarks.faults.kills --kills 100 --resume   # hours; goes on where it stopped

Each kill starts a verb in a copy of one folder, ends it by SIGKILL (or `--signal TERM`, `INT`) at
an instant drawn evenly from its usual time, and checks: that no process of it lives on, and with it
no port; that no shared memory or temporary file is left; that every file in its folder is whole;
that files which were there before are as they were; and that the command, run again, ends as one
that nobody killed: training with the same weights, an evaluation without making a row anew.

Rows go to `benchmarks/results/kills.jsonl`, the table to `benchmarks/results/kills.md`.
"""

import argparse
import os
import random
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.faults.remains import (
    Remains,
    broken_files,
    digests,
    finished_rows,
    learned,
    whole_lines,
)
from benchmarks.faults.workplace import TRAIN, furnish, marked, run, start
from benchmarks.rows import append_row, read_rows

RESULTS = Path(__file__).resolve().parents[1] / "results"
_FEW = ("--limit", "2", "--budget", "1s", "--seeds", "0", "--only", "portfolio", "zero-shot")
_PAIR = ("rnnlm-2", "--cluster", "2xv100-pcie")


@dataclass(frozen=True, slots=True)
class Verb:
    """A command that is killed.

    Args:
        words: the verb and its arguments.
        again: what is run after a kill; the same words where empty.
        kept: what must be the same after that as without a kill, from the command's folder.
    """

    words: tuple[str, ...]
    again: tuple[str, ...] = ()
    kept: Callable[[Path], Any] = lambda _: None


def _of_training(folder: Path) -> Any:
    return learned(folder / "out")


def _of_rows(folder: Path) -> Any:
    return finished_rows(folder / "out" / "rows.jsonl")


def _graph(folder: Path) -> Any:
    return digests(folder / "out.gwgraph")


VERBS = {
    "place": Verb(("place", *_PAIR, "--budget", "3s", "--out", "out")),
    "simulate": Verb(("simulate", "rnnlm-2", "--plan", "plan/plan.json", "--trace", "out.json")),
    "report": Verb(("report", "rnnlm-2", "--plan", "plan/plan.json", "--out", "out.html")),
    "export": Verb(
        ("export", "model.onnx", "--plan", "cores/plan.json", "--form", "onnx-split",
         "--out", "out")
    ),
    "graphs convert": Verb(
        ("graphs", "convert", "model.onnx", "--out", "out.gwgraph"), kept=_graph
    ),
    "train": Verb(("train", *TRAIN, "--out", "out"), kept=_of_training),
    "finetune": Verb(
        ("finetune", *_PAIR, "--policy", "trained", "--updates", "3", "--budget", "2s",
         "--out", "out", "--track", "none")
    ),
    "evaluate": Verb(
        ("evaluate", "--policy", "trained", "--suite", "test-families", *_FEW, "--out", "out",
         "--track", "none"),
        kept=_of_rows,
    ),
    "compare": Verb(("compare", *_PAIR, "--placer", "metis", "--placer", "search", "--budget", "2s",
                     "--out", "out")),
    "measure": Verb(
        ("measure", "model.onnx", "-c", "cores.yaml", "--plan", "cores/plan.json", "--compare",
         "single", "--repeats", "30")
    ),
    "calibrate": Verb(
        ("calibrate", "model.onnx", "--out", "out", "--plans", "2", "--judged", "2",
         "--repeats", "2")
    ),
}  # fmt: skip


def kill_once(
    verb: Verb, furnished: Path, usual_seconds: float, number: signal.Signals, seed: int
) -> dict[str, Any]:
    """Kill a verb once in a copy of `furnished`; what was found, as a row."""
    generator = random.Random(f"{verb.words} {seed}")
    with tempfile.TemporaryDirectory(prefix="graphwright-faults-") as place:
        folder = Path(place) / "work"
        temporary = Path(place) / "tmp"
        temporary.mkdir()
        shutil.copytree(furnished, folder, symlinks=True)
        before = digests(folder)
        remains = Remains.now(temporary)
        variables = {"TMPDIR": str(temporary)}
        process, mark = start(folder, verb.words, variables)
        instant = generator.uniform(0.0, usual_seconds)
        time.sleep(instant)
        ended_before = process.poll() is not None
        if not ended_before:
            process.send_signal(number)
        _, error = process.communicate()
        left = _waited_out(mark)
        for one in left:
            os.kill(one, signal.SIGKILL)
        faults = [f"{len(left)} processes left"] if left else []
        faults += remains.new_ones(temporary, killed=number == signal.SIGKILL and not ended_before)
        faults += broken_files(folder)
        changed = {name for name, digest in before.items() if digests(folder).get(name) != digest}
        faults += [f"{name} was changed" for name in sorted(changed)]
        if number != signal.SIGKILL and not ended_before and "Traceback" in error:
            faults.append("a traceback: " + error.splitlines()[-1])
        code = process.returncode
        rows = whole_lines(folder / "out" / "rows.jsonl")
        again = run(folder, *_again(verb, folder), environment=variables)
        if again.code:
            faults.append(f"again: {again.code}, {again.said}")
        if rows != whole_lines(folder / "out" / "rows.jsonl")[: len(rows)]:
            faults.append("finished rows were made again")
        return {
            "at": round(instant / usual_seconds, 3),
            "ended_before": ended_before,
            "code": code,
            "faults": faults,
            "kept": verb.kept(folder),
        }


def _again(verb: Verb, folder: Path) -> tuple[str, ...]:
    """What goes on after a kill: training by `--resume` once there is something to go on from."""
    if verb.words[0] == "train" and (folder / "out" / "checkpoint").exists():
        return ("train", "--resume", "out", "--track", "none")
    if verb.words[0] in ("train", "finetune", "place", "compare", "export", "calibrate"):
        shutil.rmtree(folder / "out", ignore_errors=True)
    return verb.again or verb.words


def _waited_out(mark: str, seconds: float = 20.0) -> list[int]:
    """Processes of a command that live on after some seconds."""
    end = time.monotonic() + seconds
    while (left := marked(mark)) and time.monotonic() < end:
        time.sleep(0.1)
    return left


def main() -> None:
    """Kill, write a row for each kill, and the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=5, help="of each verb")
    parser.add_argument("--verbs", nargs="*", default=list(VERBS), choices=list(VERBS))
    parser.add_argument("--signal", default="KILL", choices=("KILL", "TERM", "INT"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="keep the rows that are there")
    given = parser.parse_args()
    path = RESULTS / "kills.jsonl"
    if not given.resume:
        path.unlink(missing_ok=True)
    done = {(row["verb"], row["signal"], row["seed"]) for row in read_rows(path)}
    number = signal.Signals[f"SIG{given.signal}"]
    with tempfile.TemporaryDirectory(prefix="graphwright-faults-") as place:
        furnished = Path(place) / "furnished"
        furnish(furnished)
        for name in given.verbs:
            verb = VERBS[name]
            wanted = [
                seed
                for seed in range(given.seed, given.seed + given.kills)
                if (name, given.signal, seed) not in done
            ]
            if not wanted:
                continue
            usual, unkilled = _unkilled(verb, furnished)
            for seed in wanted:
                row = kill_once(verb, furnished, usual, number, seed)
                if row.pop("kept") != unkilled:
                    row["faults"].append("another result than without a kill")
                append_row(path, {"verb": name, "signal": given.signal, "seed": seed, **row})
                print(
                    name, given.signal, seed, row["at"], row["faults"] or "nothing lost", flush=True
                )
    rows = read_rows(path)
    (RESULTS / "kills.md").write_text(table(rows), encoding="utf-8")


def _unkilled(verb: Verb, furnished: Path) -> tuple[float, Any]:
    """How many seconds a verb takes where nobody kills it, and what must be kept."""
    seconds, kept = [], []
    for _ in range(2):  # the first may warm caches
        with tempfile.TemporaryDirectory(prefix="graphwright-faults-") as place:
            folder = Path(place) / "work"
            shutil.copytree(furnished, folder)
            ended = run(folder, *verb.words)
            if ended.code:
                raise RuntimeError(f"{verb.words} ended with {ended.code}: {ended.error[-2000:]}")
            seconds.append(ended.seconds)
            kept.append(verb.kept(folder))
    if kept[0] != kept[1]:
        raise RuntimeError(f"{verb.words}: two runs that nobody killed differ")
    return statistics.mean(seconds), kept[0]


def table(rows: list[dict[str, Any]]) -> str:
    """The table of all kills, as Markdown."""
    lines = [
        "# Commands that are killed",
        "",
        "`python -m benchmarks.faults.kills`: each verb is ended at an instant drawn evenly from",
        "its usual time. Then no process, shared memory or (after SIGTERM and Ctrl-C) temporary",
        "file of it may be left, every file must be whole, what was there before unchanged, and",
        "the command must work when it is run again: training with the same weights as unkilled,",
        "an evaluation without making a finished row anew.",
        "",
        "| verb | signal | kills | of them after its end | with a fault | faults |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for verb, number in sorted({(row["verb"], row["signal"]) for row in rows}):
        some = [row for row in rows if (row["verb"], row["signal"]) == (verb, number)]
        faults = sorted({fault for row in some for fault in row["faults"]})
        late = sum(row["ended_before"] for row in some)
        bad = sum(bool(row["faults"]) for row in some)
        lines.append(
            f"| {verb} | SIG{number} | {len(some)} | {late} | {bad} | {'; '.join(faults) or '-'} |"
        )
    killed = len(rows) - sum(row["ended_before"] for row in rows)
    bad = sum(bool(row["faults"]) for row in rows)
    lines += [
        "",
        f"{killed} commands were ended while they ran; {bad} of {len(rows)} rows have a fault.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
