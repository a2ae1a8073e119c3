"""Where the runs of a table run, and where they are kept: `--jobs`, `--ray`, `--store`."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from graphs.errors import GraphwrightError

if TYPE_CHECKING:
    from agent.runs.result_store import ResultStore
    from agent.tasks.task_runner import TaskRunner


@Parameter(name="*")
@dataclass(frozen=True)
class TaskFlags:
    """Where runs run, and where their results are kept."""

    store: Path | None = None
    """File with results of any number of tables, which many processes may share: what it has is not
    run again, what is run is added. Results of another graph, cluster, policy, seed, budget or
    version are others."""
    jobs: int = 1
    """Runs at once, each in a process of its own. More than there are idle cores contend for them,
    and find less in the same CPU seconds."""
    ray: Annotated[tuple[str, ...] | None, Parameter(consume_multiple=True, negative=())] = None
    """Run on Ray, with a core for each run: alone on the cores of this machine, with an address on
    that cluster, such as 10.0.0.1:6379, or auto for the one that was started here."""

    @property
    def is_given(self) -> bool:
        """Whether any flag is."""
        return self != TaskFlags()

    def check(self) -> None:
        """Whether the flags go together.

        Raises:
            GraphwrightError: they do not.
        """
        if self.jobs < 1:
            raise GraphwrightError(f"--jobs {self.jobs}: give at least 1")
        if self.ray is not None and self.jobs != 1:
            raise GraphwrightError(
                "--jobs is for processes of this machine; Ray has as many as its cluster has cores"
            )
        if self.ray is not None and len(self.ray) > 1:
            raise GraphwrightError(f"--ray {' '.join(self.ray)}: give one address, or none")

    def open_store(self, opened: ExitStack) -> "ResultStore | None":
        """The store, if one is asked for.

        Raises:
            StoreError: the file cannot be used.
        """
        from agent.runs.result_store import ResultStore

        return None if self.store is None else opened.enter_context(ResultStore(self.store))

    def open_runner(self, opened: ExitStack) -> "TaskRunner":
        """What runs tasks.

        Raises:
            TaskError: it cannot be started.
        """
        from agent.tasks.registry import IN_PROCESS, PROCESSES, RAY, RunnerOptions, open_runner

        if self.ray is not None:
            options = RunnerOptions(address=next(iter(self.ray), None))
            return opened.enter_context(open_runner(RAY, options))
        name = IN_PROCESS if self.jobs == 1 else PROCESSES
        return opened.enter_context(open_runner(name, RunnerOptions(self.jobs)))
