"""Commands under bad conditions: full disks, missing folders, damaged checkpoints, no network.

    python -m benchmarks.faults.conditions              # all of them; minutes
    python -m benchmarks.faults.conditions --only full  # those whose name has `full` in it

Each condition is a command with what is wrong around it, the exit codes that are right, and what
must hold afterwards. A command that hangs, shows a traceback, blames itself (code 1) or leaves
something half-written has a fault. Full disks and folders that cannot be written are small file
systems of their own, where mounting is allowed; without that they are left out, and the table says
so.

The table goes to `benchmarks/results/fault_conditions.md`.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.faults.remains import Remains, broken_files
from benchmarks.faults.workplace import TRAIN, Ended, furnish, run
from benchmarks.rows import RESULTS, append_row, commit, read_rows

_PAIR = ("rnnlm-2", "--cluster", "2xv100-pcie")
_PLACE = ("place", *_PAIR, "--placer", "metis", "--out", "out")
_SEARCH = ("place", *_PAIR, "--budget", "2s", "--out", "out")
_MEASURE = ("measure", "model.onnx", "-c", "cores.yaml", "--plan", "cores/plan.json",
            "--repeats", "3")  # fmt: skip
_EVALUATE = (
    "evaluate", "--policy", "trained", "--suite", "test-families", "--limit", "1", "--budget", "1s",
    "--seeds", "0", "--only", "portfolio", "--out", "out", "--track", "none",
)  # fmt: skip

_TRACKED = tuple("wandb" if word == "none" else word for word in TRAIN)


@dataclass(frozen=True, slots=True)
class Condition:
    """A command and what is wrong around it.

    Args:
        words: the command.
        codes: exit codes that are right.
        prepare: what is done to its folder beforehand.
        disk: `full` or `read-only`: what the folder `out` is, a file system of its own.
        environment: variables besides the usual; None takes one away.
        before: Python that runs in the command's process before it.
        patience_seconds: after which the command has hung.
    """

    words: tuple[str, ...]
    codes: tuple[int, ...]
    prepare: Callable[[Path], None] = lambda _: None
    disk: str = ""
    environment: dict[str, str | None] = field(default_factory=dict)
    before: str = ""
    patience_seconds: float = 600.0


def _edit_weights(change: str) -> Callable[[Path], None]:
    """Damage the weights of the run in the folder, in one way."""

    def prepare(folder: Path) -> None:
        import torch
        from safetensors.torch import load_file, save_file

        for path in (folder / "trained").rglob("policy.safetensors"):
            if change == "truncated":
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
                continue
            tensors = load_file(path)
            name = max(tensors, key=lambda one: tensors[one].numel())
            if change == "nan":
                tensors[name] = torch.full_like(tensors[name], float("nan"))
            else:
                tensors[name] = tensors[name][..., :-1].contiguous()
            save_file(tensors, path)

    return prepare


def _edit_policy(change: Callable[[dict[str, object]], object]) -> Callable[[Path], None]:
    """Change the description of the policy in the folder."""

    def prepare(folder: Path) -> None:
        for path in (folder / "trained").rglob("policy.json"):
            document = json.loads(path.read_text(encoding="utf-8"))
            change(document)
            path.write_text(json.dumps(document), encoding="utf-8")

    return prepare


def _cut_metrics(folder: Path) -> None:
    (folder / "trained/metrics.jsonl").write_bytes(b"")


#: Code that makes clocks of the calendar jump back by an hour, and forth again, at every look.
_JUMPS = (
    "import itertools, time; _time = time.time; _jump = itertools.cycle((0.0, -3600.0, 7200.0));"
    "time.time = lambda: _time() + next(_jump)"
)
#: Code that kills a worker of `measure` as soon as there is one, as the kernel does out of memory.
_OOM = (
    "import os, threading, time\n"
    "def _command(pid):\n"
    "    return open(f'/proc/{pid}/cmdline').read()\n"
    "def _kill():\n"
    "    while True:\n"
    "        time.sleep(0.05)\n"
    "        try:\n"
    "            for child in open('/proc/self/task/%d/children' % os.getpid()).read().split():\n"
    "                if _command(child) != _command('self'):  # a copy of it reads the model\n"
    "                    time.sleep(2.0); os.kill(int(child), 9); return\n"
    "        except OSError:  # it has ended\n"
    "            pass\n"
    "threading.Thread(target=_kill, daemon=True).start()"
)
_NO_HOME: dict[str, str | None] = {"HOME": "/nonexistent/home", "XDG_CACHE_HOME": None}
_NO_NETWORK: dict[str, str | None] = {
    "WANDB_MODE": "online", "WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9",
}  # fmt: skip

CONDITIONS = {
    "place, full disk": Condition(_PLACE, (2,), disk="full"),
    "train, full disk": Condition(("train", *TRAIN, "--out", "out/run"), (2,), disk="full"),
    "evaluate, full disk": Condition(_EVALUATE, (2,), disk="full"),
    "export, full disk": Condition(
        ("export", "model.onnx", "--plan", "cores/plan.json", "--form", "onnx-split",
         "--out", "out/parts"), (2,), disk="full",
    ),
    "report, full disk": Condition(
        ("report", "rnnlm-2", "--plan", "plan/plan.json", "--out", "out/r.html"), (2,), disk="full"
    ),
    "place --json into a full pipe": Condition(
        ("place", *_PAIR, "--placer", "metis", "--json"), (2,),
        before="import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 1)",
    ),
    "place, read-only disk": Condition(_PLACE, (2,), disk="read-only"),
    "train, read-only disk": Condition(
        ("train", *TRAIN, "--out", "out/run"), (2,), disk="read-only"
    ),
    "place, temporary files on a full disk": Condition(
        ("place", *_PAIR, "--budget", "2s"), (0, 2), disk="full", environment={"TMPDIR": "out"},
    ),
    "measure, no HOME": Condition(_MEASURE, (0,), environment=_NO_HOME),
    "place, no HOME": Condition(_SEARCH, (0,), environment=_NO_HOME),
    "train, no HOME": Condition(("train", *TRAIN, "--out", "out"), (0,), environment=_NO_HOME),
    "train with W&B offline, no HOME": Condition(
        ("train", *_TRACKED, "--out", "out"), (0, 2),
        environment={**_NO_HOME, "WANDB_DIR": None},
    ),
    "place, no TMPDIR": Condition(_SEARCH, (0,), environment={"TMPDIR": "/nonexistent/tmp"}),
    "measure, no TMPDIR": Condition(_MEASURE, (0,), environment={"TMPDIR": "/nonexistent/tmp"}),
    "report, caches that cannot be written": Condition(
        ("report", "rnnlm-2", "--plan", "plan/plan.json", "--out", "r.html"), (0,),
        environment={"XDG_CACHE_HOME": "/proc/none", "MPLCONFIGDIR": "/proc/none"},
    ),
    "kernels cannot be cached": Condition(
        _PLACE, (0,), environment={"NUMBA_CACHE_DIR": "/proc/none"}, patience_seconds=1800.0
    ),
    "the current folder is gone": Condition(
        ("clusters", "list"), (0,),
        before="import os, tempfile; _d = tempfile.mkdtemp(); os.chdir(_d); os.rmdir(_d)",
    ),
    "checkpoint, truncated": Condition(
        ("place", *_PAIR, "--policy", "trained", "--budget", "1s"), (2,),
        prepare=_edit_weights("truncated"),
    ),
    "checkpoint with NaN": Condition(
        ("place", *_PAIR, "--policy", "trained", "--budget", "1s"), (2,),
        prepare=_edit_weights("nan"),
    ),
    "checkpoint of other widths": Condition(
        ("place", *_PAIR, "--policy", "trained", "--budget", "1s"), (2,),
        prepare=_edit_weights("widths"),
    ),
    "checkpoint of another version": Condition(
        ("place", *_PAIR, "--policy", "trained", "--budget", "1s"), (2,),
        prepare=_edit_policy(lambda document: document.update(format=999)),
    ),
    "checkpoint that lacks its settings": Condition(
        ("finetune", *_PAIR, "--policy", "trained", "--out", "out", "--track", "none"), (2,),
        prepare=_edit_policy(lambda document: document.clear()),
    ),
    "resume, weights truncated": Condition(
        ("train", "--resume", "trained", "--rounds", "4", "--track", "none"), (2,),
        prepare=_edit_weights("truncated"),
    ),
    "resume, metrics of zero length": Condition(
        ("train", "--resume", "trained", "--rounds", "4", "--track", "none"), (0,),
        prepare=_cut_metrics,
    ),
    "resume with other widths": Condition(
        ("train", "--resume", "trained", "--rounds", "4", "--policy.width", "32"), (2,),
    ),
    "a loss that is NaN": Condition(
        ("train", *TRAIN, "--moves.lr", "1e30", "--out", "out"), (2,),
    ),
    "a worker killed out of memory": Condition(
        (*_MEASURE[:-1], "100000"), (3,), before=_OOM,
    ),
    "W&B with a key and no network": Condition(
        ("train", *_TRACKED, "--out", "out"), (0, 2),
        environment=_NO_NETWORK, patience_seconds=300.0,
    ),
    "clocks that jump, place": Condition(_SEARCH, (0,), before=_JUMPS),
    "clocks that jump, measure": Condition(_MEASURE, (0,), before=_JUMPS),
    "clocks that jump, train": Condition(("train", *TRAIN, "--out", "out"), (0,), before=_JUMPS),
}  # fmt: skip


@contextmanager
def disk(folder: Path, kind: str) -> Iterator[bool]:
    """Make `folder` a file system of its own that is full or read-only; whether that is allowed."""
    folder.mkdir()
    size = "4k" if kind == "full" else "1m"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        capture_output=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        yield False
        return
    try:
        if kind == "full":
            with suppress_no_space(), (folder / "filler").open("wb") as file:
                while True:
                    file.write(b"x" * 4096)
                    file.flush()
        else:
            subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        yield True
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def suppress_no_space() -> Iterator[None]:
    """Go on after the error that says that a disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno != 28:
            raise


def try_out(condition: Condition, furnished: Path) -> tuple[Ended, list[str]]:
    """Run a condition in a copy of `furnished`; how it ended, and its faults."""
    with tempfile.TemporaryDirectory(prefix="graphwright-faults-") as place:
        folder = Path(place) / "work"
        shutil.copytree(furnished, folder)
        temporary = Path(place) / "tmp"
        temporary.mkdir()
        condition.prepare(folder)
        damaged = set(broken_files(folder))
        remains = Remains.now(temporary)
        variables = {"TMPDIR": str(temporary), **condition.environment}
        with (
            contextmanager(_no_disk)()
            if not condition.disk
            else disk(folder / "out", condition.disk) as there
        ):
            if not there:
                return Ended(0, "", "", 0.0), ["left out: mounting is not allowed here"]
            ended = run(
                folder, *condition.words, environment=variables, before=condition.before,
                patience_seconds=condition.patience_seconds,
            )  # fmt: skip
            faults = [fault for fault in broken_files(folder) if fault not in damaged]
            if condition.disk:
                left = (path for path in (folder / "out").rglob("*") if path.is_file())
                faults += [f"{path.name} left" for path in left
                           if path.stat().st_size and path.name != "filler"]  # fmt: skip
        faults += remains.new_ones(temporary, killed=False)
    return ended, [*_faults(ended, condition), *faults]


def _no_disk() -> Iterator[bool]:
    yield True


def _faults(ended: Ended, condition: Condition) -> list[str]:
    faults = []
    if ended.code == -9:
        faults.append(f"hung for {condition.patience_seconds:.0f} s")
    elif ended.code not in condition.codes:
        faults.append(f"code {ended.code}")
    if "Traceback (most recent call last)" in ended.out + ended.error:
        faults.append("a traceback")
    failed = [line for line in ended.out.splitlines() if "worker" in line or "failed" in line]
    if ended.code and not (ended.said.startswith("graphwright: ") or failed):
        faults.append("no message of graphwright's")
    return faults


def two_at_once(furnished: Path) -> tuple[Ended, list[str]]:
    """Two processes train into one folder, and two place into one."""
    with tempfile.TemporaryDirectory(prefix="graphwright-faults-") as place:
        folder = Path(place) / "work"
        shutil.copytree(furnished, folder)
        ended: list[Ended] = []
        for words in (("train", *TRAIN, "--out", "run"), _PLACE):
            threads = [
                threading.Thread(target=lambda words=words: ended.append(run(folder, *words)))
                for _ in range(2)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        faults = broken_files(folder)
        for one in ended:
            faults += _faults(one, Condition((), (0, 2)))
        if sum(not one.code for one in ended[:2]) != 1:
            faults.append(
                f"training: codes {ended[0].code} and {ended[1].code}, not one 0 and one 2"
            )
        refused = next((one for one in ended if one.code), ended[0])
        return refused, faults


def table(rows: list[dict[str, Any]]) -> str:
    """The last row of each condition, as Markdown."""
    last = {row["condition"]: row for row in rows}
    lines = [
        "# Commands under bad conditions",
        "",
        "`python -m benchmarks.faults.conditions`. A fault would be: another exit code than one of",
        "those that are right, a traceback, a command that hangs, a file that is half-written.",
        "",
        "| condition | code | what was said | faults |",
        "|---|---|---|---|",
    ]
    for name, row in last.items():
        said = row["said"].replace("|", "\\|")
        faults = "; ".join(row["faults"])
        lines.append(f"| {name} | {row['code']} | {said or '-'} | {faults or '-'} |")
    bad = sum(bool(row["faults"]) for row in last.values())
    return "\n".join([*lines, "", f"{len(last)} conditions, {bad} with a fault.", ""])


def main() -> None:
    """Try the conditions and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="conditions whose name holds this")
    parser.add_argument("--furnished", type=Path, help="a folder of an earlier run to reuse")
    given = parser.parse_args()
    path = RESULTS / "fault_conditions.jsonl"
    with tempfile.TemporaryDirectory(prefix="graphwright-faults-") as place:
        furnished = given.furnished or Path(place) / "furnished"
        if not furnished.exists():
            furnish(furnished)
        tried = {name: lambda one=one: try_out(one, furnished) for name, one in CONDITIONS.items()}
        tried["two processes on one --out"] = lambda: two_at_once(furnished)
        for name, attempt in tried.items():
            if given.only not in name:
                continue
            ended, faults = attempt()
            said = ended.said.replace(str(place), "")[:220] if ended.code else ""
            row = {"condition": name, "code": ended.code, "said": said, "faults": faults}
            append_row(path, {**row, "commit": commit()})
            print(name, ended.code, said, faults or "", f"{ended.seconds:.0f} s", flush=True)
            if faults:
                print(ended.error[-1500:], file=sys.stderr, flush=True)
    (RESULTS / "fault_conditions.md").write_text(table(read_rows(path)), encoding="utf-8")


if __name__ == "__main__":
    os.environ.pop("WANDB_API_KEY", None)
    main()
