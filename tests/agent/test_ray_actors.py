"""Actors of Ray: they stay from one run of tasks to the next, and nothing is lost with any."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from dying_searches import DyingSearches
from planted_files import ROOT
from toy_tasks import Squares
from training_samples import largest_difference, tiny_config, tiny_flags, write_models

from agent.learning.config import MoveConfig
from agent.runs.tracking.tracker import Silent
from agent.tasks.ray_actors import RayActors
from agent.tasks.task_runner import TRIES, TaskError
from agent.training import move_phase
from agent.training.loop import pretrain
from graphs.errors import GraphwrightError

# It is not imported here: what Ray does is up to variables at its import.
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or find_spec("ray") is None, reason="needs Ray, and reads /proc"
)


@pytest.fixture(scope="module")
def runner() -> Iterator[RayActors]:
    started = RayActors()
    with started:
        yield started
    assert not started.folder.exists()


def processes(runner: RayActors, folder: Path, count: int) -> set[int]:
    """Those that did some tasks, whose results are looked at."""
    found = dict(runner.run(Squares(folder), range(count)))
    assert [found[number].value for number in range(count)] == [n * n for n in range(count)]
    return {told.process for told in found.values()}


def test_actors_stay_and_what_is_lost_is_done_again(runner: RayActors, tmp_path: Path) -> None:
    first = processes(runner, tmp_path, 12)
    assert os.getpid() not in first
    assert processes(runner, tmp_path, 12) & first
    (tmp_path / "die-2").touch()  # in a task
    processes(runner, tmp_path, 8)
    assert not (tmp_path / "die-2").exists()
    living = processes(runner, tmp_path, 8)
    for process in living:  # between runs
        os.kill(process, signal.SIGKILL)
    assert not processes(runner, tmp_path, 8) & living


def test_mistakes_are_raised_and_the_actors_go_on(runner: RayActors, tmp_path: Path) -> None:
    (tmp_path / "mistake-3").touch()
    with pytest.raises(GraphwrightError, match="no square of 3"):
        list(runner.run(Squares(tmp_path), range(6)))
    (tmp_path / "fault-1").touch()
    with pytest.raises(TaskError, match="ZeroDivisionError"):
        list(runner.run(Squares(tmp_path), [1]))
    assert processes(runner, tmp_path, 1)


@pytest.mark.slow
def test_a_run_ends_equal_though_an_actor_was_killed_in_a_round(
    runner: RayActors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = tiny_config(write_models(tmp_path / "models"))
    agent = replace(tiny.agent, moves=MoveConfig(3e-3, 300, 600, updates=4))
    config = replace(tiny, agent=agent, graphs_per_batch=4, move_share=0.5, outcome_share=0.25)
    pretrain(config, tmp_path / "here", Silent())
    monkeypatch.setattr(move_phase, "Searches", DyingSearches)
    order = tmp_path / "die-1-3"
    order.touch()
    pretrain(config, tmp_path / "there", Silent(), runner=runner)
    assert not order.exists()
    here, there = tmp_path / "here/checkpoint", tmp_path / "there/checkpoint"
    assert largest_difference(here, there) == 0.0
    for file in ("policy.safetensors", "optimizer.safetensors"):
        assert (here / file).read_bytes() == (there / file).read_bytes()


@pytest.mark.slow
def test_a_task_that_kills_every_actor_is_given_up(runner: RayActors, tmp_path: Path) -> None:
    (tmp_path / "die-always-1").touch()
    with pytest.raises(TaskError, match="failed on Ray"):
        list(runner.run(Squares(tmp_path), range(3)))
    (tmp_path / "die-always-1").unlink()
    assert TRIES > 1
    assert processes(runner, tmp_path, 3)


@pytest.mark.slow
def test_two_learners_share_a_cluster_and_end_as_without(runner: RayActors, tmp_path: Path) -> None:
    import ray

    models = write_models(tmp_path / "models")
    runner.release()  # the cores of this runner's actors
    address = ray.get_runtime_context().gcs_address
    for name, more in (("there", [f"--ray={address}"]), ("here", [])):
        flags = [*tiny_flags(models, rounds=2), "--graphs-per-batch=4", "--track=none", *more]
        flags = [flag for flag in flags if flag != "--graphs-per-batch=2"]
        flags.append(f"--out={tmp_path / name}")
        done = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
             "-m", "agent", "train", *flags],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
            capture_output=True, text=True, timeout=3600,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert largest_difference(tmp_path / "here/checkpoint", tmp_path / "there/checkpoint") == 0.0


def test_more_learners_than_cores_are_refused(
    runner: RayActors, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    address = ray.get_runtime_context().gcs_address
    monkeypatch.setattr(RayActors, "_cores", lambda self: 1 // self.shared_by)
    monkeypatch.setattr("agent.tasks.ray_tasks._start", lambda *_given: None)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with pytest.raises(TaskError, match="3 learners share a cluster of fewer cores"):
        RayActors(address, shared_by=3)
