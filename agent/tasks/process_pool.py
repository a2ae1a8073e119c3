"""Tasks in several processes of this machine."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait

from agent.tasks.perform import packed, result_of
from agent.tasks.task_runner import TRIES, Job, Result, Task, TaskError
from placement.runtime.processes.messages import Message
from placement.runtime.processes.workers import Posted, WorkerFailure, WorkerPool

_MODULE = "agent.tasks.process_worker"
#: An answer that has begun to arrive is whole within this time.
_ARRIVING_SECONDS = 60.0


@dataclass(frozen=True)
class DoTask(Message[bytes]):
    """What a process is to do; it answers with the packed outcome."""

    job: bytes
    task: bytes


class ProcessPool:
    """A `TaskRunner` of processes, which end with the `with` block or with this process.

    A task whose process is lost is tried again, by a new one.
    """

    def __init__(self, jobs: int) -> None:
        """Args:
        jobs: processes; each starts with its first task.
        """
        names = [f"tasks {number}" for number in range(jobs)]
        self._numbers = range(jobs)
        # Threads of libraries would fight for cores that other tasks have.
        self._pool = WorkerPool(names, (-1,), _MODULE)

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Of the processes that run."""
        return self._pool.process_ids

    def run(self, job: Job[Task, Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """Results as they come; see `TaskRunner.run`."""
        whole = packed(job)
        left = deque(enumerate(packed(task) for task in tasks))
        tries = [0] * len(tasks)
        idle = deque(self._numbers)
        at_work: dict[int, tuple[int, bytes, Posted[bytes]]] = {}
        while left or at_work:
            while left and idle:
                number = idle.popleft()
                task, content = left.popleft()
                tries[task] += 1
                posted = self._pool.post({number: DoTask(whole, content)})
                at_work[number] = (task, content, posted)
            pipes = {pipe: n for n, (*_, posted) in at_work.items() for pipe in posted.waiting}
            told = [n for n, (*_, posted) in at_work.items() if posted.failures]
            told += [pipes[pipe] for pipe in (() if told else wait(list(pipes)))]  # type: ignore[index]
            for number in told:
                task, content, posted = at_work.pop(number)
                idle.append(number)
                try:
                    outcome = self._pool.collect(posted, _ARRIVING_SECONDS)[number]
                except WorkerFailure as failure:
                    if number in self._pool.running or tries[task] >= TRIES:
                        raise TaskError(f"a task failed: {failure}") from failure
                    left.appendleft((task, content))
                    continue
                yield task, result_of(outcome)

    def __enter__(self) -> "ProcessPool":
        return self

    def __exit__(self, *_exception: object) -> None:
        self._pool.close()
