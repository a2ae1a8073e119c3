"""SIGTERM ends a command as Ctrl-C does: with a word, after cleaning up, children included."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from device_models import core_cluster, crossing
from planted_files import ROOT

from agent.cli import app
from agent.cli.app import run
from agent.cli.stopping import StopAtSignal
from graphs.whole_files import whole_file
from simulator.cluster_file import dump_cluster


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGTERM, 143, "terminated by SIGTERM"), (signal.SIGINT, 130, "interrupted")],
)
@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_command_cleans_up_and_says_what_ended_it(
    number: signal.Signals,
    code: int,
    said: str,
    flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def command(*_: object, **__: object) -> int:
        with whole_file(tmp_path / "file") as file:
            file.write(b"half")
            os.kill(os.getpid(), number)
            signal.pause()
        return 0

    monkeypatch.setattr(app, "command_line", lambda: command)
    monkeypatch.setattr(signal, "pause", lambda: time.sleep(60))
    before = signal.getsignal(number)
    if number == signal.SIGINT:
        signal.signal(number, signal.default_int_handler)
    try:
        assert run(flags) == code
    finally:
        if number == signal.SIGINT:
            signal.signal(number, before)
    assert signal.getsignal(number) is before
    assert list(tmp_path.iterdir()) == []
    shown = capsys.readouterr()
    assert shown.err == f"graphwright: {said}\n"
    if flags:
        assert json.loads(shown.out) == {"error": said, "exit_code": code}


def test_a_process_that_ignores_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def command(*_: object, **__: object) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return 7

    monkeypatch.setattr(app, "command_line", lambda: command)
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert run([]) == 7
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopping_at_a_good_moment_tells_the_signals_apart(
    number: signal.Signals, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with StopAtSignal("round") as stop:
        assert not stop()
        os.kill(os.getpid(), number)
        assert stop()
        assert stop.exit_code == code
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert "stopping after this round" in capsys.readouterr().err


def children_of(process: int) -> list[int]:
    """Identifiers of the processes that one has started."""
    found: list[int] = []
    for task in Path(f"/proc/{process}/task").iterdir():
        found.extend(int(child) for child in (task / "children").read_text().split())
    return found


def waited_for(condition: Callable[[], bool], seconds: float = 120.0) -> bool:
    """Whether something came true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("whole_group", [False, True])
def test_measuring_ends_its_workers(whole_group: bool, tmp_path: Path) -> None:
    crossing(tmp_path / "a.onnx", layers=2, width=64)
    (tmp_path / "cores.yaml").write_text(dump_cluster(core_cluster()), encoding="utf-8")
    words = ["measure", "a.onnx", "--cluster", "cores.yaml", "--compare", "single", "round-robin"]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "agent", *words, "--repeats", "100000", "--dim", "batch=8"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        assert waited_for(lambda: len(children_of(process.pid)) == 2)
        workers = children_of(process.pid)
        if whole_group:
            os.killpg(process.pid, signal.SIGTERM)
        else:
            process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=3600)
    finally:
        process.kill()
    assert process.returncode == 143
    assert said.decode() == "graphwright: terminated by SIGTERM\n"
    assert waited_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
