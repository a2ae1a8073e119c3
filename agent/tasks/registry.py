"""All places where tasks run, by name; each is imported when it is asked for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.tasks.task_runner import TaskRunner
from graphs.errors import GraphwrightError

IN_PROCESS, PROCESSES, RAY, RAY_ACTORS = "in-process", "processes", "ray", "ray-actors"


@dataclass(frozen=True)
class RunnerOptions:
    """What runners are told; each takes what concerns it."""

    jobs: int = 1
    """Processes of this machine."""
    address: str | None = None
    """Of a cluster; None for one of this machine alone."""
    shared_by: int = 1
    """Runners that use the cluster at the same time, each with its share of the cores."""


def _in_process(_options: RunnerOptions) -> TaskRunner:
    from agent.tasks.in_process import InProcess

    return InProcess()


def _processes(options: RunnerOptions) -> TaskRunner:
    from agent.tasks.process_pool import ProcessPool

    return ProcessPool(options.jobs)


def _ray(options: RunnerOptions) -> TaskRunner:
    from agent.tasks.ray_tasks import RayTasks

    return RayTasks(options.address)


def _ray_actors(options: RunnerOptions) -> TaskRunner:
    from agent.tasks.ray_actors import RayActors

    return RayActors(options.address, options.shared_by)


RUNNERS: Mapping[str, Callable[[RunnerOptions], TaskRunner]] = {
    IN_PROCESS: _in_process,
    PROCESSES: _processes,
    RAY: _ray,
    RAY_ACTORS: _ray_actors,
}


def open_runner(name: str, options: RunnerOptions | None = None) -> TaskRunner:
    """A runner by name, started; use it in a `with` statement.

    Raises:
        TaskError: what it needs is not installed, or does not answer.
        GraphwrightError: no runner of that name.
    """
    if name not in RUNNERS:
        raise GraphwrightError(f"no runner {name!r} of tasks; there are {', '.join(RUNNERS)}")
    return RUNNERS[name](options or RunnerOptions())
