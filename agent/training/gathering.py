"""Who works out what the slots of a round teach: the learners themselves in turns, or a runner.

Either way a slot teaches the same, so that it does not matter who does it, nor when, nor how often
it had to be begun anew.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar, runtime_checkable

from agent.tasks.task_runner import TaskRunner
from agent.training.slots import Slot, SlotJob
from agent.training.workers import Workers

Taught = TypeVar("Taught")


@runtime_checkable
class Gatherer(Protocol):
    """Works slots out for this worker; all workers must ask at once."""

    def gather(
        self, job: SlotJob[Taught], slots: Sequence[Slot], owners: Sequence[int]
    ) -> Mapping[int, Taught]:
        """What this worker's slots teach, by number.

        Args:
            slots: of all workers, by number.
            owners: the worker that learns from each.

        Raises:
            GraphwrightError: what the job raised.
        """
        ...


class InTurns:
    """Workers take slots one by one, the most costly first: whoever is done takes the next.

    What a slot of another worker taught is sent to it at the end.
    """

    def __init__(self, workers: Workers) -> None:
        self.workers = workers

    def gather(
        self, job: SlotJob[Taught], slots: Sequence[Slot], owners: Sequence[int]
    ) -> Mapping[int, Taught]:
        """See `Gatherer.gather`."""
        order = costly_first(job, slots)
        done: list[list[tuple[int, Taught]]] = [[] for _ in range(self.workers.count)]
        for turn in self.workers.turns(len(order)):
            slot = order[turn]
            done[owners[slot.number]].append((slot.number, job(slot)))
        return dict(self.workers.exchange(done))


class HandedOut:
    """Each worker hands its own slots to a runner, which may have processes on many machines."""

    def __init__(self, workers: Workers, runner: TaskRunner) -> None:
        self.workers = workers
        self.runner = runner

    def gather(
        self, job: SlotJob[Taught], slots: Sequence[Slot], owners: Sequence[int]
    ) -> Mapping[int, Taught]:
        """See `Gatherer.gather`; the job carries no graphs, and is sent once a round."""
        mine = [
            replace(slot, files=job.files(slot))
            for slot in costly_first(job, slots)
            if owners[slot.number] == self.workers.rank
        ]
        return {mine[task].number: taught for task, taught in self.runner.run(job, mine)}


def costly_first(job: SlotJob[Taught], slots: Sequence[Slot]) -> list[Slot]:
    """The same slots, so that none that takes long is begun last."""
    costs = {slot.number: job.cost(slot) for slot in slots}
    return sorted(slots, key=lambda slot: (-costs[slot.number], slot.number))
