"""The runs of an evaluation as tasks, and a table of them: known rows, then what is missing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.evaluation.contestants import Contestant, contestants, needs_torch
from agent.evaluation.period_columns import bound_of_period
from agent.evaluation.result_keys import evaluation_key
from agent.evaluation.runs import EvaluationRow, Origin, files_digest, key_of, prepare_problem, run
from agent.evaluation.stored_rows import keep_evaluation, known_evaluation
from agent.runs.result_store import ResultStore
from agent.tasks.task_runner import TaskError, TaskRunner
from graphs.errors import GraphwrightError
from placement.placer import OnProgress
from placement.placers.warm_up import warm_up
from placement.problem import Problem
from placement.suites.pair import Pair
from placement.throughput import Throughput


@dataclass(frozen=True)
class Entrants:
    """The columns of a table, by what it takes to make them in any process."""

    names: tuple[str, ...] = ()
    policy: Path | None = None
    one_shot: Path | None = None
    updates: int = 0
    threads: int = 1
    """Of torch and of the simulator; 0 leaves the choice to each."""
    overlap: Throughput | None = None

    def load(self) -> tuple[Contestant, ...]:
        """The contestants; sets this process's threads.

        Raises:
            GraphwrightError: an unknown column, or a policy that is not there or does not suit.
        """
        from agent.placing.registry import load_policy
        from simulator.threads import set_threads

        for flag, value in (("--updates", self.updates), ("--threads", self.threads)):
            if value < 0:
                raise GraphwrightError(f"{flag} {value}: give 0 or more")
        if self.threads:
            set_threads(self.threads)
        if self.threads and (not self.names or any(map(needs_torch, self.names))):
            import torch

            torch.set_num_threads(self.threads)
        objective = "latency" if self.overlap is None else "throughput"
        checkpoint = load_policy(self.policy, objective) if self.policy is not None else None
        return contestants(self.names, checkpoint, self.updates, self.overlap, self.one_shot)


@dataclass(frozen=True)
class EvaluationTask:
    """One run: a column on a pair with a seed, and what its row is known by."""

    pair: Pair
    column: str
    seed: int
    files: str
    """The pair's `files_digest`."""
    made_of: tuple[str, str]
    """Digests of the column and of its policy."""


class EvaluationJob:
    """Does the runs of one evaluation; loads policies once, a pair once for runs in a row."""

    def __init__(
        self,
        entrants: Entrants,
        budget_seconds: float,
        origin: Origin,
        loaded: Sequence[Contestant] = (),
    ) -> None:
        """Args:
        loaded: the contestants, if they were loaded already.
        """
        self.entrants = entrants
        self.budget_seconds = budget_seconds
        self.origin = origin
        self._loaded = {item.name: item for item in loaded}
        self._files: dict[Pair, str] = {}
        self._at_hand: tuple[Pair, Problem, float | None] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loaded": {}, "_files": {}, "_at_hand": None}

    @property
    def contestants(self) -> dict[str, Contestant]:
        """By column."""
        if not self._loaded:
            self._loaded = {item.name: item for item in self.entrants.load()}
        return self._loaded

    def tasks(self, pairs: Sequence[Pair], seeds: Sequence[int]) -> list[EvaluationTask]:
        """All runs, in the order of the table."""
        return [
            EvaluationTask(pair, item.name, seed, files, _made_of(item))
            for pair in pairs
            for files in (self._files_of(pair),)
            for seed in seeds
            for item in self.contestants.values()
        ]

    def __call__(self, task: EvaluationTask) -> EvaluationRow:
        """One run.

        Raises:
            TaskError: this process has other files than the one that asks.
            GraphwrightError: the pair cannot be built.
        """
        contestant = self.contestants[task.column]
        if self._files_of(task.pair) != task.files or _made_of(contestant) != task.made_of:
            raise TaskError(
                f"{task.column} on {task.pair.graph_ref}: the model, the policy or the code is "
                "another one where the task runs than where it was given; workers on other "
                "machines need the same files at the same paths"
            )
        problem, bound = self._prepared(task.pair)
        return run(
            task.pair, problem, contestant, task.seed, self.budget_seconds, self.origin, bound,
            task.files,
        )  # fmt: skip

    def _files_of(self, pair: Pair) -> str:
        """The pair's `files_digest`, read once: models can be large."""
        if pair not in self._files:
            self._files[pair] = files_digest(pair)
        return self._files[pair]

    def _prepared(self, pair: Pair) -> tuple[Problem, float | None]:
        """The problem, and the bound of its period where steps overlap."""
        if self._at_hand is None or self._at_hand[0] != pair:
            warm_up()
            problem, overlap = prepare_problem(pair), self.origin.overlap
            bound = None if overlap is None else bound_of_period(problem, overlap)
            self._at_hand = (pair, problem, bound)
        return self._at_hand[1:]


def evaluated(
    job: EvaluationJob,
    tasks: Sequence[EvaluationTask],
    runner: TaskRunner,
    known: Sequence[EvaluationRow] = (),
    store: ResultStore | None = None,
    record: Callable[[EvaluationRow], None] = lambda row: None,
    on_progress: OnProgress = lambda share: None,
) -> list[EvaluationRow]:
    """Rows of all tasks in their order; what is known or stored is not run.

    Args:
        known: rows of earlier runs of the same table.
        record: told each row that is not among them as soon as it is there.

    Raises:
        GraphwrightError: a pair that cannot be built, a store that cannot be used, or a task that
            failed; rows that were recorded or stored before stay.
    """
    done = {row.key: row for row in known}
    rows: dict[int, EvaluationRow] = {}
    missing: list[int] = []
    keys = {}
    for number, task in enumerate(tasks):
        contestant = job.contestants[task.column]
        objective = job.origin.objective
        of_row = key_of(task.pair, contestant, task.seed, job.budget_seconds, objective, task.files)
        found = done.get(of_row)
        if found is None and store is not None:
            keys[number] = evaluation_key(
                task.pair, contestant, task.seed, job.budget_seconds, objective,
                job.entrants.threads,
            )  # fmt: skip
            found = known_evaluation(store, keys[number], task.pair, job.origin.suite, task.files)
            if found is not None:
                record(found)
        if found is None:
            missing.append(number)
        else:
            rows[number] = found
            on_progress(len(rows) / len(tasks))
    for index, row in runner.run(job, [tasks[number] for number in missing]):
        number = missing[index]
        if store is not None:
            row = keep_evaluation(store, keys[number], tasks[number].pair, row)
        record(row)
        rows[number] = row
        on_progress(len(rows) / len(tasks))
    return [rows[number] for number in range(len(tasks))]


def _made_of(contestant: Contestant) -> tuple[str, str]:
    return contestant.column_digest, contestant.policy_digest or ""
