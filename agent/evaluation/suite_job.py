"""The placers of `compare --suite` as tasks, and the rows of its table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.evaluation.result_keys import suite_key
from agent.evaluation.stored_rows import keep_suite_row, known_suite_row
from agent.placing.registry import get_placer
from agent.runs.commit import current_commit
from agent.runs.result_store import ResultStore
from agent.tasks.task_runner import TaskRunner
from placement.placer import OnProgress, Placer
from placement.problem import Problem
from placement.suites.pair import Pair
from placement.suites.results import SuiteRow, joined, measure_placer


@dataclass(frozen=True)
class SuiteTask:
    """A placer on a pair."""

    pair: Pair
    column: str


class SuiteJob:
    """Runs placers on pairs; loads policies once, and each pair once for placers in a row."""

    def __init__(
        self,
        columns: Sequence[str],
        budget_seconds: float,
        seed: int,
        policy: Path | None = None,
    ) -> None:
        """Args:
        columns: names of placers.
        policy: a checkpoint, for the placers that need one.
        """
        self.columns = tuple(columns)
        self.budget_seconds = budget_seconds
        self.seed = seed
        self.policy = policy
        self._placers: dict[str, Placer] = {}
        self._at_hand: tuple[Pair, Problem] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_placers": {}, "_at_hand": None}

    @property
    def placers(self) -> Mapping[str, Placer]:
        """By column.

        Raises:
            GraphwrightError: an unknown placer, or a policy that cannot be read.
        """
        if not self._placers:
            self._placers = {name: get_placer(name, self.policy) for name in self.columns}
        return self._placers

    def tasks(self, pairs: Sequence[Pair]) -> list[SuiteTask]:
        """All placers on all pairs, in the order of the table."""
        return [SuiteTask(pair, name) for pair in pairs for name in self.columns]

    def __call__(self, task: SuiteTask) -> SuiteRow:
        """A row of one placer alone.

        Raises:
            GraphwrightError: the pair cannot be built, or constraints leave some op no device.
        """
        if self._at_hand is None or self._at_hand[0] != task.pair:
            self._at_hand = (task.pair, task.pair.problem())
        return measure_placer(
            task.pair,
            self._at_hand[1],
            task.column,
            self.placers[task.column],
            self.budget_seconds,
            self.seed,
        )


def compared(
    job: SuiteJob,
    pairs: Sequence[Pair],
    runner: TaskRunner,
    store: ResultStore | None = None,
    on_progress: OnProgress = lambda share: None,
    record: Callable[[SuiteRow], None] = lambda row: None,
) -> list[SuiteRow]:
    """One row for each pair, with all columns; what is stored is not run.

    Args:
        record: told the row of a pair as soon as it is whole.

    Raises:
        GraphwrightError: an unknown placer, a pair that cannot be built, a store that cannot be
            used, or a task that failed; what was stored before stays.
    """
    tasks, commit = job.tasks(pairs), "" if store is None else current_commit()
    parts: dict[int, SuiteRow] = {}
    missing: list[int] = []
    keys = {}
    width = len(job.columns)

    def add(number: int, row: SuiteRow) -> None:
        parts[number] = row
        on_progress(len(parts) / len(tasks))
        first = number - number % width
        of_pair = range(first, first + width)
        if all(part in parts for part in of_pair):
            record(joined([parts[part] for part in of_pair]))

    for number, task in enumerate(tasks):
        found = None
        if store is not None:
            placer = job.placers[task.column]
            keys[number] = suite_key(task.pair, task.column, placer, job.budget_seconds, job.seed)
            found = known_suite_row(store, keys[number], task.pair)
        if found is None:
            missing.append(number)
        else:
            add(number, found)
    for index, row in runner.run(job, [tasks[number] for number in missing]):
        number = missing[index]
        if store is not None:
            row = keep_suite_row(store, keys[number], tasks[number].pair, row, commit)
        add(number, row)
    return [
        joined([parts[part] for part in range(first, first + width)])
        for first in range(0, len(tasks), width)
    ]
