"""What a command says it spent."""

import pytest

from agent.cli.spent import Spent


def test_each_part_has_what_was_spent_since_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    own, ended = iter((1.0, 1.5, 9.0, 9.25)), iter((0.0, 3.0, 7.0, 7.0))
    monkeypatch.setattr("time.process_time", lambda: next(own))
    monkeypatch.setattr("agent.cli.spent._of_ended_processes", lambda: next(ended))
    spent = Spent()
    spent.lap("start-up")
    spent.lap("import", with_ended=True)  # the process that read the model took three
    spent.lap("start-up", of_which={"search": 6.0}, elsewhere=4.0)  # chains, told apart
    spent.lap("files")
    assert spent.parts == {
        "start-up": 1.0 + 1.5,
        "import": 0.5 + 3.0,
        "search": 6.0,
        "other processes": 4.0,
        "files": 0.25,
    }
