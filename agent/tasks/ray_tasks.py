"""Tasks on Ray: on the cores of this machine, or on a cluster that is running.

Nothing is reported to anyone: usage statistics are off, there is no dashboard, and a Ray that is
started here listens on this machine alone. What Ray writes goes to a new folder among temporary
files, which is removed in the end. Its processes import nothing from the current folder: Ray would
add it to where workers import from, so that it is told another one.
"""

import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from agent.tasks.perform import packed, perform, result_of
from agent.tasks.task_runner import TRIES, Job, Result, Task, TaskError
from graphs.import_paths import trusted_paths

#: Tasks that wait at Ray for each core: none has to stand idle while a result is being stored.
_WAITING_PER_CORE = 4
_OBJECT_STORE_BYTES = 100 * 2**20
_LONGEST_BASE = 24
#: Of a Ray that is started here: it binds to the loopback address, as it does by itself on other
#: systems than Linux, and answers only who knows a token, which Ray would else write to the user's
#: home. Ray reads both once in a process.
_PRIVATE = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
}
_ANSWER_SECONDS = 10.0
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class RayTasks:
    """A `TaskRunner` on Ray; each task has a core. One whose process or machine is lost is tried
    again, elsewhere if need be."""

    def __init__(self, address: str | None = None) -> None:
        """Start Ray here, or join a cluster.

        Args:
            address: of a cluster's head, such as `10.0.0.1:6379`, or `auto` for the one that runs
                on this machine; None starts one on this machine for as long as it is needed.

        Raises:
            TaskError: Ray is not installed, or nothing answers at the address.
        """
        if address not in (None, "auto"):
            _check_answers(str(address))
        self._before = {name: os.environ.get(name) for name in _PRIVATE}
        if address is None:
            os.environ.update(_PRIVATE)
        self._ray = _imported()
        self.folder = _new_folder()
        """Where Ray writes; removed at the end."""
        try:
            _start(self._ray, address, self.folder)
        except BaseException:
            self._let_go()
            raise

    def run(self, job: Job[Task, Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """Results as they come; see `TaskRunner.run`."""
        ray = self._ray
        remote = ray.remote(num_cpus=1, max_retries=TRIES - 1)(_perform_at)
        whole, here = ray.put(packed(job)), str(Path.cwd())
        cores = int(ray.cluster_resources().get("CPU", 1))
        left = iter(enumerate(tasks))
        under_way: dict[Any, int] = {}
        try:
            while True:
                while len(under_way) < max(_WAITING_PER_CORE * cores, 1):
                    number, task = next(left, (-1, None))
                    if number < 0:
                        break
                    under_way[remote.remote(whole, packed(task), here)] = number
                if not under_way:
                    return
                done, _ = ray.wait(list(under_way), num_returns=1)
                for reference in done:
                    number = under_way.pop(reference)
                    try:
                        outcome = ray.get(reference)
                    except ray.exceptions.RayError as error:
                        raise TaskError(f"a task failed on Ray: {reason(error)}") from error
                    yield number, result_of(outcome)
        finally:
            for reference in under_way:
                ray.cancel(reference, force=True)

    def __enter__(self) -> "RayTasks":
        return self

    def __exit__(self, *_exception: object) -> None:
        self._ray.shutdown()
        self._let_go()

    def _let_go(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        for name, value in self._before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _perform_at(job: bytes, task: bytes, folder: str) -> bytes:
    return perform_in(folder, job, task)


def perform_in(folder: str, job: bytes, task: bytes) -> bytes:
    """Do a task in the folder that relative paths in it are meant from."""
    try:
        os.chdir(folder)
    except OSError as error:
        return packed_error(
            f"folder {folder} is not there on {os.uname().nodename} ({error.strerror}): machines "
            "of a cluster need the same files at the same paths"
        )
    return perform(job, task)


def packed_error(text: str) -> bytes:
    """A mistake as the outcome of a task."""
    from agent.tasks.perform import Raised

    return packed(Raised(TaskError(text)))


def _check_answers(address: str) -> None:
    """Whether anything listens at an address: Ray itself tries for minutes.

    Raises:
        TaskError: it is no address, or nothing does.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) >= 2**16:
        raise TaskError(f"--ray {address}: write HOST:PORT, auto, or nothing to start Ray here")
    try:
        socket.create_connection((host, int(port)), _ANSWER_SECONDS).close()
    except OSError as error:
        raise TaskError(
            f"--ray {address}: nothing answers there ({error}); `ray start --head` starts a "
            "cluster and says its address, and --ray without an address needs none"
        ) from error


def _new_folder() -> Path:
    """A folder that nobody else can read or has guessed. Names of sockets have 107 bytes at most,
    Ray adds 65 to the folder's."""
    short = Path("/tmp")
    usual = tempfile.gettempdir()
    base = str(short) if len(usual) > _LONGEST_BASE and short.is_dir() else usual
    return Path(tempfile.mkdtemp(prefix="gw-ray-", dir=base))


def _imported() -> Any:
    """The package; importing it says nothing to anyone.

    Raises:
        TaskError: it is not installed.
    """
    if find_spec("ray") is None:
        raise TaskError(
            "--ray needs Ray, which is not installed: pip install 'graphwright[ray]', or leave out "
            "--ray; --jobs runs tasks in processes of this machine without it"
        )
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    return ray


def _start(ray: Any, address: str | None, folder: Path) -> None:
    paths = os.pathsep.join(trusted_paths())
    safe = {"PYTHONPATH": paths, "PYTHONSAFEPATH": "1", **dict.fromkeys(_ONE_THREAD, "1")}
    told = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        told |= {
            "address": "local",
            "_temp_dir": str(folder),
            "object_store_memory": _OBJECT_STORE_BYTES,
        }
    else:
        told["address"] = address
        told["runtime_env"] = {"env_vars": {"PYTHONSAFEPATH": "1"}}
        del told["include_dashboard"]
    try:
        with _signals_kept(), _environment(safe if address is None else {}), _in_folder(folder):
            ray.init(**told)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = "on this machine" if address is None else f"at {address}"
        raise TaskError(
            f"Ray {where} cannot be used: {reason(error)}; `ray start --head` starts a cluster, "
            "and --ray without an address needs none"
        ) from error


def reason(error: BaseException) -> str:
    """The last line that says something; Ray puts whole traces into its messages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Variables for the processes that are started within; nothing else of `PYTHON...`."""
    kept = {key: os.environ[key] for key in os.environ if key.startswith("PYTHON") or key in values}
    for key in kept:
        del os.environ[key]
    os.environ.update(values)
    try:
        yield
    finally:
        for key in values:
            os.environ.pop(key, None)
        os.environ.update(kept)


@contextmanager
def _in_folder(folder: Path) -> Iterator[None]:
    """Another current folder: Ray lets workers import from the one where it is started."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray answers SIGTERM in a way of its own; commands have theirs."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
