"""Each reader on a fixed number of damaged files; and what the fuzzer itself is worth."""

import faulthandler
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
from planted_files import ROOT

from graphs.errors import GraphwrightError, ModelError

from . import registry
from .campaign import Limits, run_campaign
from .finding import Finding
from .mutate_documents import document_mutator
from .table import page_of
from .target import OpenTarget, Target


@pytest.mark.parametrize("name", list(registry.TARGETS))
def test_damaged_files_are_read_or_refused(name: str, tmp_path: Path) -> None:
    runs = registry.TARGETS[name].short_runs
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", name, "--runs", str(runs), "--plain",
         "--out", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-2000:]}"
    assert f"{name}: {runs} executions" in done.stdout


def _breaks(data: bytes) -> None:
    """A reader with a fault of each kind, by the first byte that differs."""
    match data[:1]:
        case b"c":
            faulthandler.disable()
            os.kill(os.getpid(), signal.SIGSEGV)
            time.sleep(60)
        case b"h":
            while True:
                pass
        case b"m":
            _ = bytearray(8 << 30)
        case b"v":
            raise ValueError("no error of the project")
        case b"r":
            raise ModelError("refused")


def _open(_: Path) -> OpenTarget:
    kinds = (b"cx", b"hx", b"mx", b"vx", b"rx", b"ok")
    return OpenTarget(_breaks, [b"ok"], lambda data, others, random: random.choice(kinds))


def test_every_kind_of_fault_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.TARGETS, "faulty", Target("faults", _open, ("tests",)))
    monkeypatch.setattr("fuzz.campaign.MOST_SECONDS", 0.2)
    kept: dict[str, bytes] = {}

    def keep(finding: Finding, data: bytes) -> None:
        kept[finding.kind] = data

    tally = run_campaign("faulty", 3, Limits(30, guided=True), keep)
    assert kept == {"SIGSEGV": b"cx", "hang": b"hx", "MemoryError": b"mx", "ValueError": b"vx"}
    assert tally.executions == 30
    assert 0 < tally.refused < 30
    assert sum(tally.findings.values()) + tally.refused < 30
    page = page_of([{**tally.as_dict(), "target": "onnx"}])
    assert "| 30 |" in page
    assert "`onnx`: SIGSEGV" in page


def test_the_same_seed_makes_the_same_documents() -> None:
    sample = b'{"a": [1, 2, {"b": "text"}], "c": null}'
    made = [
        [document_mutator()(sample, [sample], Random(seed)) for seed in range(50)] for _ in "xy"
    ]
    assert made[0] == made[1]
    assert len(set(made[0])) > 40


@pytest.mark.parametrize("name", ["pt2", "times", "topology", "cluster"])
def test_the_samples_are_whole(name: str, tmp_path: Path) -> None:
    opened = registry.TARGETS[name].open(tmp_path)
    for sample in opened.samples:
        try:
            opened.read(sample)
        except GraphwrightError as error:
            raise AssertionError(f"a sample of {name} is refused: {error}") from error
