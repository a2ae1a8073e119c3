"""Where tasks run: the same results in this process and in others, whatever is lost on the way."""

import os
import pickle
import signal
import threading
import time
from pathlib import Path

import pytest
from toy_tasks import Squares

from agent.tasks.perform import AT_HAND, Raised, perform, result_of
from agent.tasks.process_pool import ProcessPool
from agent.tasks.registry import RUNNERS, RunnerOptions, open_runner
from agent.tasks.task_runner import TaskError, TaskRunner
from graphs.errors import GraphwrightError


@pytest.mark.parametrize("name", ["in-process", "processes"])
def test_results_come_with_the_numbers_of_their_tasks(name: str, tmp_path: Path) -> None:
    with open_runner(name, RunnerOptions(jobs=2)) as runner:
        assert isinstance(runner, TaskRunner)
        found = dict(runner.run(Squares(tmp_path), range(10)))
        assert {number: told.value for number, told in found.items()} == {
            number: number * number for number in range(10)
        }
        processes = {told.process for told in found.values()}
        assert (os.getpid() in processes) == (name == "in-process")
        assert list(runner.run(Squares(tmp_path), [])) == []


def test_runners_are_known_by_name() -> None:
    assert set(RUNNERS) == {"in-process", "processes", "ray", "ray-actors"}
    with pytest.raises(GraphwrightError, match="in-process, processes, ray, ray-actors"):
        open_runner("nowhere")


@pytest.mark.parametrize("name", ["in-process", "processes"])
def test_mistakes_are_raised_as_they_are_and_what_came_before_stands(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "mistake-3").touch()
    found = []
    with (
        open_runner(name, RunnerOptions(jobs=1)) as runner,
        pytest.raises(GraphwrightError, match="no square of 3"),
    ):
        for _, told in runner.run(Squares(tmp_path), range(6)):
            found.append(told.value)
    assert found == [0, 1, 4]


def test_a_task_whose_process_dies_is_done_by_another(tmp_path: Path) -> None:
    (tmp_path / "die-2").touch()
    (tmp_path / "die-5").touch()
    with ProcessPool(2) as pool:
        found = dict(pool.run(Squares(tmp_path), range(8)))
    assert [found[number].value for number in range(8)] == [n * n for n in range(8)]
    assert not (tmp_path / "die-2").exists()


def test_a_task_that_ends_every_process_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "die-always-1").touch()
    with ProcessPool(1) as pool, pytest.raises(TaskError, match="SIGKILL"):
        list(pool.run(Squares(tmp_path), range(3)))


def test_a_fault_of_the_code_is_not_tried_again(tmp_path: Path) -> None:
    (tmp_path / "fault-0").touch()
    with ProcessPool(1) as pool, pytest.raises(TaskError, match="ZeroDivisionError"):
        list(pool.run(Squares(tmp_path), range(3)))


def test_a_process_killed_from_outside_loses_no_result(tmp_path: Path) -> None:
    (tmp_path / "wait-1").touch()

    def kill() -> None:
        for _ in range(600):
            if (tmp_path / "begun-1").exists():
                break
            time.sleep(0.05)
        for process in pool.process_ids:
            os.kill(process, signal.SIGKILL)
        (tmp_path / "wait-1").unlink()

    with ProcessPool(2) as pool:
        killer = threading.Thread(target=kill)
        killer.start()
        found = dict(pool.run(Squares(tmp_path), range(5)))
        killer.join()
    assert [found[number].value for number in range(5)] == [0, 1, 4, 9, 16]


def test_a_job_is_loaded_once_for_tasks_in_a_row(tmp_path: Path) -> None:
    job = pickle.dumps(Squares(tmp_path))
    for task in (1, 2):
        perform(job, pickle.dumps(task))
    (at_hand,) = AT_HAND.values()
    assert isinstance(at_hand, Squares)
    assert at_hand.calls == 2


def test_errors_that_cannot_travel_travel_as_words(tmp_path: Path) -> None:
    class Local(GraphwrightError):
        """Not to be found by whoever unpickles it."""

    class Raising(Squares):
        def __call__(self, task: int) -> None:  # type: ignore[override]
            raise Local(f"about {task}")

    AT_HAND[b"raising"] = Raising(tmp_path)
    with pytest.raises(TaskError, match="about 7"):
        result_of(perform(b"raising", pickle.dumps(7)))
    assert isinstance(pickle.loads(perform(b"raising", pickle.dumps(7))), Raised)


def test_what_cannot_be_sent_is_said(tmp_path: Path) -> None:
    with ProcessPool(1) as pool, pytest.raises(TaskError, match="cannot be sent"):
        list(pool.run(lambda task: task, [1]))
