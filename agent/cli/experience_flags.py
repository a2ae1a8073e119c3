"""Where a training run works out what it learns from: `--jobs`, `--ray`."""

import os
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from agent.cli.task_flags import TaskFlags
from graphs.errors import GraphwrightError

if TYPE_CHECKING:
    from agent.config import TrainConfig
    from agent.tasks.task_runner import TaskRunner
    from agent.training.workers import Workers


@Parameter(name="*")
@dataclass(frozen=True)
class ExperienceFlags:
    """Who searches, and tries moves; the run ends the same whoever does."""

    jobs: int = 1
    """Processes that search and try moves for each learner; without, the learner does."""
    ray: Annotated[tuple[str, ...] | None, Parameter(consume_multiple=True, negative=())] = None
    """Search and try moves on Ray, with an actor on each core: alone on the cores of this machine,
    with an address on that cluster, such as 10.0.0.1:6379, or auto for the one that was started
    here. Several learners (torchrun) need an address."""

    def check(self, config: "TrainConfig") -> None:
        """Whether the flags go together, and with the settings of the run.

        Raises:
            GraphwrightError: they do not.
        """
        TaskFlags(jobs=self.jobs, ray=self.ray).check()
        if self == ExperienceFlags():
            return
        given = "--jobs" if self.ray is None else "--ray"
        if not config.agent.guides_search or config.move_share + config.outcome_share <= 0:
            raise GraphwrightError(
                f"{given}: all rounds of this run are policy gradients, which draw plans where "
                "they learn; leave it out, or train with "
                "`torchrun --nproc-per-node 2 -m agent train`"
            )
        if self.ray == () and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise GraphwrightError(
                "--ray without an address starts a Ray for one learner, and torchrun has several: "
                "start one with `ray start --head`, and give its address or auto"
            )

    def open_runner(self, opened: ExitStack, workers: "Workers") -> "TaskRunner | None":
        """What works slots out; None where each learner does so itself.

        Raises:
            TaskError: it cannot be started.
        """
        from agent.tasks.registry import PROCESSES, RAY_ACTORS, RunnerOptions, open_runner

        if self.ray is not None:
            address = next(iter(self.ray), None)
            options = RunnerOptions(address=address, shared_by=workers.count)
            return opened.enter_context(open_runner(RAY_ACTORS, options))
        if self.jobs == 1:
            return None
        return opened.enter_context(open_runner(PROCESSES, RunnerOptions(self.jobs)))
