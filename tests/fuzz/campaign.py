"""Runs a target on damaged inputs, in a process that may hang, crash or be ended."""

import json
import mmap
import os
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

from graphs.errors import GraphwrightError

from .finding import Finding, Tally, finding_of
from .line_coverage import LineCoverage
from .registry import TARGETS
from .target import OpenTarget

#: Processor seconds after which an execution counts as hanging.
MOST_SECONDS = 10
#: What an execution may need beyond what the process has when it begins.
MOST_BYTES = 2 << 30
#: Seconds without any progress after which a process is ended from outside.
_SILENT_SECONDS = 90
_ROOM = 4 << 20
_MOST_INPUTS = 2000


class _Hang(BaseException):
    """An execution takes too long; no reader catches it."""


@dataclass(frozen=True)
class Limits:
    """When a campaign ends: whichever comes first."""

    executions: int
    seconds: float = float("inf")
    guided: bool = False
    """Whether inputs that reach new lines are damaged further."""


def run_campaign(
    name: str, seed: int, limits: Limits, keep: Callable[[Finding, bytes], None]
) -> Tally:
    """Run until a limit is reached.

    Args:
        name: of the target.
        seed: the same seed makes the same inputs, as long as no process is ended in between.
        limits: executions, and seconds of the clock.
        keep: told each new kind of finding, with the input.
    """
    tally = Tally(name, seed)
    began = time.monotonic()
    while tally.executions < limits.executions and time.monotonic() - began < limits.seconds:
        left = limits.seconds - (time.monotonic() - began)
        before = tally.executions
        _run_process(tally, limits, left, keep)
        if tally.executions == before and not tally.findings:
            raise RuntimeError(f"{name}: the process ended before its first execution")
    return tally


def _run_process(
    tally: Tally, limits: Limits, seconds: float, keep: Callable[[Finding, bytes], None]
) -> None:
    """One process, up to the limits or to the execution that ends it."""
    shared = mmap.mmap(-1, _ROOM + 16)
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.close(reading)
        code = 1
        try:
            code = _work(tally, limits, seconds, shared, writing)
        except BaseException:  # noqa: BLE001 - the process ends here
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writing)
    try:
        silent = _listen(tally, reading, shared, keep)
    finally:
        os.close(reading)
        if not _is_done(child):
            os.kill(child, signal.SIGKILL)
        _, status, usage = os.wait4(child, 0)
    tally.peak_bytes = max(tally.peak_bytes, usage.ru_maxrss << 10)
    tally.processor_seconds += usage.ru_utime + usage.ru_stime
    signalled = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if silent or signalled:
        number, length = (int.from_bytes(shared[at : at + 8], "big") for at in (0, 8))
        tally.executions = max(tally.executions, number)
        what = "silent hang" if silent else signal.Signals(signalled).name
        _note(tally, Finding(what, ""), shared[16 : 16 + length], keep)
    elif os.WEXITSTATUS(status) == 1:
        raise RuntimeError(f"{tally.target}: the fuzzer itself failed")


def _is_done(child: int) -> bool:
    """Whether a process has ended; it is not waited for yet."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return True
        time.sleep(0.01)
    return False


def _listen(
    tally: Tally, reading: int, shared: mmap.mmap, keep: Callable[[Finding, bytes], None]
) -> bool:
    """Take what the process reports until it ends; whether it has to be ended."""
    rest = b""
    last = (shared[:16], time.monotonic())
    while True:
        ready, _, _ = select.select([reading], [], [], 1.0)
        if shared[:16] != last[0]:
            last = (shared[:16], time.monotonic())
        if not ready:
            if time.monotonic() - last[1] > _SILENT_SECONDS and any(shared[:8]):
                return True
            continue
        piece = os.read(reading, 1 << 16)
        if not piece:
            return False
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            report = json.loads(line)
            if "finding" in report:
                finding = Finding(*report["finding"])
                _note(tally, finding, bytes.fromhex(report["input"]), keep)
            tally.executions = report["executions"]
            tally.refused = report["refused"]
            tally.slowest_seconds = max(tally.slowest_seconds, report["slowest"])
            tally.lines = max(tally.lines, report["lines"])


def _note(
    tally: Tally, finding: Finding, data: bytes, keep: Callable[[Finding, bytes], None]
) -> None:
    if finding.key not in tally.findings:
        keep(finding, data)
    tally.findings[finding.key] = tally.findings.get(finding.key, 0) + 1


def _work(tally: Tally, limits: Limits, seconds: float, shared: mmap.mmap, writing: int) -> int:
    """The process: execute, report findings and, now and then, how far it is."""
    began = time.monotonic()
    os.environ.update({"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"})
    with tempfile.TemporaryDirectory(prefix="fuzz-") as text:
        target = TARGETS[tally.target]
        opened = target.open(Path(text))
        for sample in opened.samples:
            _execute(opened, sample)  # imports and compiles what it needs, without limits
        _limit_memory()
        coverage = LineCoverage(target.modules) if limits.guided else None
        kept = list(opened.samples)
        state: dict[str, Any] = {"executions": tally.executions, "refused": tally.refused,
                                 "slowest": 0.0, "lines": 0}  # fmt: skip
        while state["executions"] < limits.executions and time.monotonic() - began < seconds:
            random = Random(f"{tally.seed}:{state['executions']}")
            source = random.choice(kept[-50:] if random.random() < 0.3 else kept)
            data = opened.mutate(source, kept, random)[:_ROOM]
            state["executions"] += 1
            shared[8:16] = len(data).to_bytes(8, "big")
            shared[16 : 16 + len(data)] = data
            shared[:8] = state["executions"].to_bytes(8, "big")
            before = time.process_time()
            lines = coverage.count if coverage else 0
            found = _limited(opened, data, coverage)
            state["slowest"] = max(state["slowest"], time.process_time() - before)
            state["refused"] += found is None
            state["lines"] = coverage.count if coverage else 0
            if state["lines"] > lines and len(data) < 1 << 17 and len(kept) < _MOST_INPUTS:
                kept.append(data)
            if isinstance(found, Finding):
                _say(writing, {**state, "finding": [found.kind, found.place, found.message],
                               "input": data.hex()})  # fmt: skip
                if found.kind in ("hang", "MemoryError"):
                    return 0  # what it broke off may be half done: a new process goes on
            elif state["executions"] % 50 == 0:
                _say(writing, state)
        _say(writing, state)
    return 0


def _say(writing: int, report: dict[str, Any]) -> None:
    data = json.dumps(report).encode() + b"\n"
    while data:
        data = data[os.write(writing, data) :]


def _execute(opened: OpenTarget, data: bytes) -> bool:
    """Whether the input was read; False where it was refused as it should be."""
    try:
        opened.read(data)
    except GraphwrightError:
        return False
    return True


def _limited(
    opened: OpenTarget, data: bytes, coverage: LineCoverage | None
) -> Finding | bool | None:
    """A finding, True where the input was read, None where it was refused."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise _Hang

    signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    try:
        if coverage is None:
            read = _execute(opened, data)
        else:
            with coverage:
                read = _execute(opened, data)
    except _Hang as error:
        return finding_of(error, "hang")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
        return finding_of(error)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return read or None


def _limit_memory() -> None:
    with open("/proc/self/status", encoding="ascii") as file:  # noqa: PTH123
        (line,) = (line for line in file if line.startswith("VmData:"))
    limit = (int(line.split()[1]) << 10) + MOST_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
