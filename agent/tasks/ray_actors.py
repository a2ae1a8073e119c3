"""Tasks on actors of Ray: processes that stay from one run of tasks to the next.

A task of Ray's own goes to any process that is free, and Ray ends processes that are idle. Actors
keep what a job has built, such as graphs, for as long as the runner is open.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent.tasks.perform import packed, result_of
from agent.tasks.ray_tasks import RayTasks, perform_in, reason
from agent.tasks.task_runner import TRIES, Job, Result, Task, TaskError


class Performer:
    """What an actor is: it does one task after the other."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def perform(self, job: bytes, task: bytes) -> bytes:
        """The packed outcome of a task."""
        return perform_in(self.folder, job, task)

    def ready(self) -> None:
        """Answers once the actor is there."""


@dataclass(frozen=True)
class _Asked:
    """An actor that has yet to say that it is there."""

    actor: Any
    is_new: bool


@dataclass(frozen=True)
class _Work:
    """A packed task, and who does it."""

    number: int
    task: bytes
    tries: int = 0
    actor: Any = None

    def given_to(self, actor: Any) -> "_Work":
        return replace(self, actor=actor, tries=self.tries + 1)


class RayActors(RayTasks):
    """A `TaskRunner` on Ray with an actor for each core.

    A task whose actor is lost is done again by another one, and a new actor takes the lost one's
    place, where Ray has a core for it.
    """

    def __init__(self, address: str | None = None, shared_by: int = 1) -> None:
        """Start Ray here, or join a cluster; see `RayTasks`.

        Args:
            shared_by: runners that use the cluster at the same time; each has its share of cores.

        Raises:
            TaskError: Ray is not installed, nothing answers, or there are more runners than cores.
        """
        super().__init__(address)
        self.shared_by = shared_by
        self._idle: list[Any] = []
        self._asked: dict[Any, _Asked] = {}
        """Actors that were asked whether they are there, by the reference of the answer."""
        if not self._cores():
            self.__exit__()
            raise TaskError(f"{shared_by} learners share a cluster of fewer cores; start fewer")

    def run(self, job: Job[Task, Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """Results as they come; see `TaskRunner.run`. The job is sent once to each machine."""
        ray = self._ray
        whole = ray.put(packed(job))
        left = deque(_Work(number, packed(task)) for number, task in enumerate(tasks))
        under_way: dict[Any, _Work] = {}
        failed_starts = 0
        try:
            while left or under_way:
                self._fill(len(under_way))
                while left and self._idle:
                    work = left.popleft().given_to(self._idle.pop())
                    under_way[work.actor.perform.remote(whole, work.task)] = work
                (reference,), _ = ray.wait([*under_way, *self._asked], num_returns=1)
                done, asked = under_way.pop(reference, None), self._asked.pop(reference, None)
                try:
                    outcome = ray.get(reference)
                except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError) as error:
                    failed_starts += asked is not None and asked.is_new
                    if max(failed_starts, done.tries if done else 0) >= TRIES:
                        raise TaskError(f"a task failed on Ray: {reason(error)}") from error
                    if done is not None:
                        left.appendleft(done)
                        self._ask_idle()
                except ray.exceptions.RayError as error:
                    raise TaskError(f"a task failed on Ray: {reason(error)}") from error
                else:
                    failed_starts = 0
                    if asked is not None:
                        self._idle.append(asked.actor)
                    if done is not None:
                        self._idle.append(done.actor)
                        yield done.number, result_of(outcome)
        finally:
            for work in under_way.values():  # its result is of no use any more
                ray.kill(work.actor)

    def release(self) -> None:
        """End the actors, so that others have their cores; the next tasks start new ones."""
        for actor in (*self._idle, *(asked.actor for asked in self._asked.values())):
            self._ray.kill(actor)
        self._idle.clear()
        self._asked.clear()

    def __exit__(self, *_exception: object) -> None:
        self._idle.clear()
        self._asked.clear()
        super().__exit__(*_exception)

    def _fill(self, busy: int) -> None:
        """Start actors on cores of this runner's share that have none."""
        missing = self._cores() - busy - len(self._idle) - len(self._asked)
        remote = self._ray.remote(num_cpus=1)(Performer)
        for _ in range(missing):
            self._ask(remote.remote(str(Path.cwd())), is_new=True)

    def _ask_idle(self) -> None:
        """Where one actor was lost, those beside it may be: none gets a task before it answers."""
        while self._idle:
            self._ask(self._idle.pop(), is_new=False)

    def _ask(self, actor: Any, is_new: bool) -> None:
        self._asked[actor.ready.remote()] = _Asked(actor, is_new)

    def _cores(self) -> int:
        return int(self._ray.cluster_resources().get("CPU", 1)) // self.shared_by
