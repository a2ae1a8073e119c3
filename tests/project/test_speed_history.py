"""The history of speed: a part that became a tenth slower is named, one that did not is not."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.speed import history
from benchmarks.speed.history import earlier, is_slower, main, ratio_of
from benchmarks.speed.parts import YARDSTICKS, Part


def rows(*medians: float, processor: str = "this") -> list[dict[str, Any]]:
    return [
        {"commit": "c", "processor": processor, "ratios": {"engine": {"median": m, "spread": 0.1}}}
        for m in medians
    ]


def test_the_last_entries_of_the_same_processor_count() -> None:
    found = [*rows(9.0, 1.0, 1.1, 1.2, 1.3, 1.4), *rows(5.0, processor="another")]
    assert earlier(found, "engine", "this") == 1.2
    assert earlier(found, "engine", "third") is None
    assert earlier(found, "report", "this") is None


def test_a_tenth_is_too_much() -> None:
    assert is_slower(1.11, 1.0)
    assert not is_slower(1.09, 1.0)
    assert not is_slower(100.0, None)


def test_a_part_is_timed_between_yardsticks(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = {"now": 0.0}

    def works(seconds: float) -> Any:
        return lambda: clock.update(now=clock["now"] + seconds)

    monkeypatch.setattr(history, "process_time", lambda: clock["now"])
    monkeypatch.setitem(YARDSTICKS, "two seconds", works(2.0))
    part = Part("two seconds", lambda _: works(3.0))
    assert ratio_of(part, works(3.0), turns=3) == [1.5, 1.5, 1.5]
    assert ratio_of(part, works(3.0), turns=2, slow=2.0) == [3.0, 3.0]


def test_the_command_fails_on_a_part_that_is_slower_and_keeps_what_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = {"now": 0.0}

    def works(seconds: float) -> Any:
        return lambda: clock.update(now=clock["now"] + seconds)

    monkeypatch.setattr(history, "process_time", lambda: clock["now"])
    monkeypatch.setattr(history, "HISTORY", tmp_path / "h.jsonl")
    monkeypatch.setattr(history, "RESULTS", tmp_path)
    monkeypatch.setitem(YARDSTICKS, "one second", works(1.0))
    monkeypatch.setattr(history, "PARTS", {"engine": Part("one second", lambda _: works(1.0))})
    monkeypatch.setattr("sys.argv", ["history"])
    assert main() == 0
    assert main() == 0
    kept = [json.loads(line) for line in (tmp_path / "h.jsonl").read_text().splitlines()]
    assert [row["ratios"]["engine"]["median"] for row in kept] == [1.0, 1.0]
    monkeypatch.setattr("sys.argv", ["history", "--check", "--slow", "engine=1.12"])
    assert main() == 1
    assert "slower by more than 10%: engine" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["history", "--check", "--slow", "engine=1.08"])
    assert main() == 0
    assert len((tmp_path / "h.jsonl").read_text().splitlines()) == 2
