"""Ray: tasks on its processes, nothing lost with any of them, nothing said to anybody."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from planted_files import ROOT
from toy_tasks import Squares
from training_samples import write_chains

from agent.cli.app import run as command
from agent.evaluation.suite_job import SuiteJob, compared
from agent.runs.result_store import ResultStore
from agent.tasks import ray_tasks
from agent.tasks.in_process import InProcess
from agent.tasks.ray_tasks import RayTasks
from agent.tasks.task_runner import TaskError
from graphs.errors import GraphwrightError
from placement.placers.warm_up import warm_up
from placement.suites import suite_from_folder

# It is not imported here: what Ray does is up to variables at its import.
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or find_spec("ray") is None, reason="needs Ray, and reads /proc"
)


def waited_for(condition: Callable[[], bool]) -> bool:
    for _ in range(1200):
        if condition():
            return True
        time.sleep(0.05)
    return condition()


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A current folder with files that must not run."""
    folder = tmp_path_factory.mktemp("current")
    for name in ("numpy", "msgpack", "sitecustomize", "psutil", "graphs"):
        (folder / f"{name}.py").write_text(f"open({str(folder / 'ran')!r}, 'a').write({name!r})\n")
    before = Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


@pytest.fixture(scope="module")
def runner(elsewhere: Path) -> Iterator[RayTasks]:
    handler = signal.getsignal(signal.SIGTERM)
    with RayTasks() as started:
        assert signal.getsignal(signal.SIGTERM) is handler
        yield started
    assert not started.folder.exists()


def test_results_come_from_processes_that_trust_only_what_this_one_does(
    runner: RayTasks, elsewhere: Path, tmp_path: Path
) -> None:
    found = dict(runner.run(Squares(tmp_path), range(12)))
    assert [found[number].value for number in range(12)] == [n * n for n in range(12)]
    for told in found.values():
        assert told.process != os.getpid()
        assert not {"", ".", str(elsewhere)} & set(told.paths)
    assert not (elsewhere / "ran").exists()
    assert sorted(path.suffix for path in elsewhere.iterdir()) == [".py"] * 5


def test_ray_says_nothing_to_anyone_and_listens_here_alone(runner: RayTasks) -> None:
    import ray
    from ray._common.usage import usage_lib

    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert not usage_lib.usage_stats_enabled()
    assert ray._private.worker.global_worker.node.webui_url in (None, "")
    assert ray.get_runtime_context().gcs_address.startswith("127.0.0.1:")
    assert ray._private.worker.global_worker.node.get_session_dir_path().startswith(
        str(runner.folder)
    )


def test_mistakes_are_raised_as_they_are(runner: RayTasks, tmp_path: Path) -> None:
    (tmp_path / "mistake-3").touch()
    with pytest.raises(GraphwrightError, match="no square of 3"):
        list(runner.run(Squares(tmp_path), range(6)))
    (tmp_path / "fault-1").touch()
    with pytest.raises(TaskError, match="ZeroDivisionError"):
        list(runner.run(Squares(tmp_path), [1]))


def test_a_worker_that_is_killed_loses_nothing(runner: RayTasks, tmp_path: Path) -> None:
    (tmp_path / "die-2").touch()  # by itself
    (tmp_path / "wait-4").touch()

    def kill() -> None:
        waited_for((tmp_path / "begun-4").exists)
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes()
                environment = (process / "environ").read_bytes()
            except OSError:
                continue
            if words.startswith(b"ray::_perform_at") and str(runner.folder).encode() in (
                words + environment
            ):
                os.kill(int(process.name), signal.SIGKILL)
        (tmp_path / "wait-4").unlink()

    killer = threading.Thread(target=kill)
    killer.start()
    found = dict(runner.run(Squares(tmp_path), range(8)))
    killer.join()
    assert [found[number].value for number in range(8)] == [n * n for n in range(8)]
    assert not (tmp_path / "die-2").exists()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return write_chains(tmp_path / "models")


def words(*more: str) -> list[str]:
    return [
        "evaluate", "--graphs", "models", "--clusters", "2xv100-pcie", "--only", "single", "heft",
        "search", "--budget", "0.3s", "--seeds", "0", "1", "2", "3", *more,
    ]  # fmt: skip


def started(folder: Path, *more: str, temporary: str = "/tmp") -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "agent", *words(*more)],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": temporary},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def of_placers_without_a_budget(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    changing = ("cpu_seconds", "command", "commit", "graph")
    return [
        {key: value for key, value in row.items() if key not in changing}
        for row in rows
        if row["column"] != "search"
    ]


def test_rows_of_a_suite_are_those_of_one_process_and_are_stored_as_they_come(
    runner: RayTasks, models: Path, tmp_path: Path
) -> None:
    warm_up()
    pairs = suite_from_folder(models, ("2xv100-pcie", "4xv100-pcie")).pairs
    job = SuiteJob(("single", "heft", "human-expert"), 1.0, 0)
    counts = []
    with ResultStore(tmp_path / "s") as store:
        there = compared(
            job, pairs, runner, store, lambda _: counts.append(len(store)), lambda _: None
        )
        assert len(store) == len(counts) == 12
        assert counts == list(range(1, 13))
        again = compared(job, pairs, InProcess(), store)
        assert again == there
    here = compared(job, pairs, InProcess())
    assert [row.makespan_seconds for row in there] == [row.makespan_seconds for row in here]
    assert [row.pair for row in there] == list(pairs)


@pytest.mark.slow
def test_a_cluster_that_runs_makes_the_same_table(
    runner: RayTasks,
    models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import ray

    process = started(
        tmp_path, "--ray", ray.get_runtime_context().gcs_address, "--store", "s", "--json"
    )
    out, said = process.communicate(timeout=3600)
    assert process.returncode == 0, said
    found = json.loads(out)["rows"]
    with ResultStore(tmp_path / "s") as store:
        assert len(store) == len(found) == 24
    monkeypatch.chdir(tmp_path)
    assert command(words("--json")) == 0
    here = json.loads(capsys.readouterr().out)["rows"]
    assert of_placers_without_a_budget(found) == of_placers_without_a_budget(here)
    # What Ray stored is what any other command finds.
    assert command(words("--store", "s", "--json")) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == found


@pytest.mark.slow
def test_a_driver_that_is_killed_loses_no_finished_result(
    models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "s"
    temporary = tempfile.mkdtemp(prefix="gwt-", dir="/tmp")
    process = started(tmp_path, "--ray", "--store", "s", temporary=temporary)

    def some_are_there() -> bool:
        if not path.exists():
            return False
        with ResultStore(path) as store:
            return len(store) >= 3

    assert waited_for(some_are_there)
    process.kill()
    process.communicate()
    with ResultStore(path) as store:
        count = len(store)
        before = store._connection.execute("SELECT value, written FROM results").fetchall()
    assert 3 <= count < 24
    # Ray ends with the command, and nothing of it goes on.
    assert waited_for(lambda: not processes_that_mention(temporary))
    shutil.rmtree(temporary)
    monkeypatch.chdir(tmp_path)
    assert command(words("--store", "s", "--json")) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    with ResultStore(path) as store:
        after = store._connection.execute("SELECT value, written FROM results").fetchall()
    assert len(after) == len(rows) == 24
    assert set(before) <= set(after)
    assert command(words("--json")) == 0
    plain = json.loads(capsys.readouterr().out)["rows"]
    assert of_placers_without_a_budget(rows) == of_placers_without_a_budget(plain)


def processes_that_mention(text: str) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if text.encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


def test_ray_is_imported_only_when_it_is_asked_for(models: Path) -> None:
    script = (
        "import sys\n"
        "from agent.cli.app import run\n"
        f"run({[*words()[:1], '--graphs', str(models), *words()[3:5], '--only', 'single']!r})\n"
        "assert 'agent.tasks.in_process' in sys.modules and 'ray' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("address", "said"),
    [("127.0.0.1:1", "nothing answers"), ("nowhere", "HOST:PORT"), ("ray://a:b", "HOST:PORT")],
)
def test_addresses_that_nothing_answers_at(address: str, said: str) -> None:
    with pytest.raises(TaskError, match=said):
        RayTasks(address)


def test_without_ray_the_way_to_it_is_said(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ray_tasks, "find_spec", lambda name: None)
    monkeypatch.chdir(models.parent)
    assert command(words("--ray", "--json")) == 2
    assert "pip install 'graphwright[ray]'" in json.loads(capsys.readouterr().out)["error"]


def test_flags_that_do_not_go_together_are_said(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(models.parent)
    for more, said in (
        (("--ray", "--jobs", "2"), "Ray has as many"),
        (("--ray", "a:1", "b:2"), "one address"),
        (("--jobs", "0"), "--jobs 0"),
    ):
        assert command(words(*more, "--json")) == 2
        assert said in json.loads(capsys.readouterr().out)["error"]
