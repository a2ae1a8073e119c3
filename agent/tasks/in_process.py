"""Tasks one after the other, in this process."""

from collections.abc import Iterator, Sequence

from agent.tasks.task_runner import Job, Result, Task


class InProcess:
    """A `TaskRunner` without any other process; a task begins when the result is asked for."""

    def run(self, job: Job[Task, Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """In the order of the tasks."""
        for number, task in enumerate(tasks):
            yield number, job(task)

    def __enter__(self) -> "InProcess":
        return self

    def __exit__(self, *_exception: object) -> None:
        """Nothing to let go of."""
