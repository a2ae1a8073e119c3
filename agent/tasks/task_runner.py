"""What runs tasks that know nothing of each other, wherever that is."""

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Protocol, TypeVar, runtime_checkable

from graphs.errors import GraphwrightError

Task = TypeVar("Task")
Result = TypeVar("Result")

#: Does one task. It pickles, as tasks and results do, and its result depends on the task alone;
#: what it works out for several tasks it keeps to itself and does not pickle.
Job = Callable[[Task], Result]


#: How often a task is tried whose process is lost each time.
TRIES = 4


class TaskError(GraphwrightError):
    """A task that failed, or was lost as often as it was tried; or a runner that cannot start."""


@runtime_checkable
class TaskRunner(Protocol):
    """Runs tasks; a context that lets go of all processes at its end."""

    def run(self, job: Job[Task, Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """Results with the numbers of their tasks, as they finish.

        Raises:
            GraphwrightError: what the job raised, or `TaskError`. Results that were handed out
                before stand.
        """
        ...

    def __enter__(self) -> "TaskRunner": ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
