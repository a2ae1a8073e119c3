"""Starts worker processes, talks to them, and replaces those that crash or hang."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import send_handle
from typing import Generic, TypeVar

from graphs.python_process import start_python
from placement.runtime.errors import RuntimeRefusal
from placement.runtime.processes.messages import Failed, Message

_START_SECONDS = 60.0
#: What a worker has to answer in once its peers have failed.
_GRACE_SECONDS = 2.0
#: What each of the workers that are asked answers.
Answer = TypeVar("Answer")

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class WorkerFailure(Exception):
    """A worker crashed, hung or refused; the message says which and why."""


def usable_cores() -> tuple[int, ...]:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


@dataclass
class _Worker:
    """One running process and the socket to it."""

    name: str
    core: int
    process: subprocess.Popen[bytes]
    pipe: Connection


@dataclass(frozen=True)
class Posted(Generic[Answer]):
    """Messages that were sent and not yet answered."""

    waiting: dict[Connection, int]
    """By pipe, the number of the worker."""
    failures: dict[int, str]
    """Why workers could not be told."""


@dataclass
class WorkerPool:
    """One process per device, pinned to a core; devices beyond the cores share them.

    A worker that fails is ended, and started anew with what `setup` holds before it is next used.
    """

    names: Sequence[str]
    cores: Sequence[int]
    """Worker i is pinned to the core i modulo their number; -1 is not pinned."""
    module: str
    """What a worker runs: takes the socket's descriptor, the core and the parent's process id."""
    environment: Mapping[str, str] = field(default_factory=dict)
    setup: list[tuple[Message[None], int]] = field(default_factory=list)
    """Messages that every worker is given when it starts, with the file that goes along."""
    first: Mapping[int, Message[None]] = field(default_factory=dict)
    """By number, a message to one worker alone that it is given when it starts."""
    on_failure: Callable[[], None] = lambda: None
    """Called as soon as one worker has failed while others may still be at work."""
    _workers: dict[int, _Worker] = field(default_factory=dict)

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def running(self) -> tuple[int, ...]:
        """Numbers of the workers that have been started."""
        return tuple(self._workers)

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Identifiers of the running workers, in the order in which they were started."""
        return tuple(worker.process.pid for worker in self._workers.values())

    def set_up(self, message: Message[None], descriptor: int) -> None:
        """Start workers anew, each with this message first."""
        self.close()
        self.setup.append((message, descriptor))

    def ask(
        self,
        messages: Mapping[int, Message[Answer]],
        timeout_seconds: float,
        files: Mapping[int, int] | None = None,
    ) -> dict[int, Answer]:
        """Send a message to some of the workers and collect their answers.

        Args:
            messages: by number of the worker.
            timeout_seconds: for all answers together.
            files: a descriptor that goes along with a message.

        A file is open in the worker once it has answered.

        Raises:
            WorkerFailure: at least one did not answer or refused. All that did not answer are
                ended; those that refused live on.
        """
        return self.collect(self.post(messages, files), timeout_seconds)

    def post(
        self, messages: Mapping[int, Message[Answer]], files: Mapping[int, int] | None = None
    ) -> "Posted[Answer]":
        """Send messages and go on; `collect` waits for the answers. What is sent should be small,
        for a worker that is starting does not read yet."""
        posted: Posted[Answer] = Posted({}, {})
        for number, message in messages.items():
            worker = self._workers.get(number) or self._start(number)
            try:
                self._send(worker, message, (files or {}).get(number))
                posted.waiting[worker.pipe] = number
            except OSError:
                posted.failures[number] = self._end(number)
        return posted

    def collect(self, posted: "Posted[Answer]", timeout_seconds: float) -> dict[int, Answer]:
        """The answers to what was posted; raises as `ask` does.

        Raises:
            WorkerFailure: at least one did not answer or refused.
        """
        deadline = time.monotonic() + timeout_seconds
        waiting, failures = dict(posted.waiting), dict(posted.failures)
        answers: dict[int, Answer | Failed] = {}
        while waiting:
            ready = wait(list(waiting), max(0.0, deadline - time.monotonic()))
            if not ready:
                break
            for item in ready:
                assert isinstance(item, Connection)
                number = waiting.pop(item)
                try:
                    answers[number] = item.recv()
                except (EOFError, OSError):
                    failures[number] = self._end(number)
                    # Peers that wait for it give up by themselves or are ended.
                    deadline = min(deadline, time.monotonic() + _GRACE_SECONDS)
            if failures:
                self.on_failure()
        for number in waiting.values():
            self._end(number)
            if not failures:
                failures[number] = f"no answer within {timeout_seconds:.3g} s; ended"
        refusals = {n: a for n, a in answers.items() if isinstance(a, Failed)}
        for number, refusal in sorted(refusals.items(), key=lambda item: item[1].aborted):
            if not refusal.aborted or not failures:
                failures.setdefault(number, refusal.reason)
        if failures:
            number, reason = next(iter(failures.items()))
            raise WorkerFailure(f"worker of {self.names[number]}: {reason}")
        return {n: answer for n, answer in answers.items() if not isinstance(answer, Failed)}

    def stop(self) -> None:
        """End all workers; they start again when asked."""
        for number in list(self._workers):
            self._end(number, gently=True)

    def close(self) -> None:
        """End all workers and let go of the files."""
        self.stop()
        for _, descriptor in self.setup:
            os.close(descriptor)
        self.setup.clear()

    def _start(self, number: int) -> _Worker:
        ours, theirs = socket.socketpair()
        core = self.cores[number % len(self.cores)]
        with theirs:
            process = start_python(
                self.module,
                [str(theirs.fileno()), str(core), str(os.getpid())],
                {**dict.fromkeys(_ONE_THREAD, "1"), **self.environment},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        worker = _Worker(self.names[number], core, process, Connection(ours.detach()))
        self._workers[number] = worker
        given: list[tuple[Message[None], int | None]] = [*self.setup]
        if number in self.first:
            given.insert(0, (self.first[number], None))
        for message, descriptor in given:
            try:
                self._send(worker, message, descriptor)
                answered = worker.pipe.poll(_START_SECONDS)
                answer = worker.pipe.recv() if answered else Failed("did not start in time")
            except (EOFError, OSError):
                answer = Failed(self._end(number))
            if isinstance(answer, Failed):
                self._end(number)
                raise RuntimeRefusal(
                    f"the worker of {worker.name} could not be started: {answer.reason}"
                )
        return worker

    @staticmethod
    def _send(worker: _Worker, message: Message[object], descriptor: int | None) -> None:
        worker.pipe.send(message)
        if descriptor is not None:
            send_handle(worker.pipe, descriptor, worker.process.pid)

    def _end(self, number: int, *, gently: bool = False) -> str:
        """End a worker and say how it ended."""
        worker = self._workers.pop(number, None)
        if worker is None:
            return "ended"
        worker.pipe.close()
        if gently:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(_GRACE_SECONDS)
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(0.2)
        if worker.process.poll() is None:
            worker.process.kill()
        code = worker.process.wait()
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return f"ended with code {code}"
