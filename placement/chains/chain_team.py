"""Several chains that advance at the same time, each in a process of its own."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from graphs.errors import GraphwrightError
from placement.annealing.anneal import Chain
from placement.chains.chain_process import ChainProcess, pickled
from placement.chains.messages import Advance, GetReady, Moves, OpenProblem, UseMoves
from placement.problem import Problem
from placement.runtime.processes.mailboxes import unnamed_file
from placement.runtime.processes.workers import Posted, WorkerFailure, WorkerPool

_MODULE = "placement.chains.worker"
#: Kernels that lie in no cache are compiled by the first process that needs them.
_OPEN_SECONDS = 900.0
#: A round is a hundredth of a search; one that takes so long is none.
_ROUND_SECONDS = 3600.0


class TeamError(GraphwrightError):
    """A process of a search was lost, so that the search could not go on."""


@runtime_checkable
class ChainTeam(Protocol):
    """Advances chains by rounds, all of them at the same time."""

    @property
    def size(self) -> int:
        """How many chains advance at the same time."""
        ...

    @property
    def cpu_seconds(self) -> float:
        """Spent on rounds so far in other processes than this one."""
        ...

    def use(self, moves: Moves) -> None:
        """Take other moves for the rounds that follow."""
        ...

    def advance(
        self,
        chains: Sequence[Chain],
        moves: int,
        temperature: float,
        heat: float,
        fresh: Sequence[bool],
    ) -> list[Chain]:
        """One round of each chain; at most `size` of them.

        Args:
            moves: tries of each chain.
            heat: temperature as a share of what the search began with.
            fresh: of each chain, whether it is at another plan than its round before left it at.

        Raises:
            TeamError: a process was lost.
        """
        ...


class ProcessTeam:
    """A `ChainTeam` of processes, which end with the `with` block or with this process."""

    def __init__(self, size: int) -> None:
        """Start the processes, which load kernels while this one goes on.

        Args:
            size: how many.
        """
        self._size = size
        self._spent = 0.0
        names = [f"chain {number}" for number in range(size)]
        self._pool = WorkerPool(names, (-1,), _MODULE)
        self._expected: list[Posted[None]] = []
        try:
            self._expected.append(self._pool.post(dict.fromkeys(range(size), GetReady())))
        except BaseException:
            self._pool.close()
            raise

    @contextmanager
    def opened(self, problem: Problem) -> Iterator["ProcessTeam"]:
        """The team at work on a problem; it lives on afterwards."""
        content = pickled(problem)
        file = unnamed_file(len(content))
        try:
            os.pwrite(file, content, 0)
            numbers = range(self._size)
            messages = dict.fromkeys(numbers, OpenProblem(len(content)))
            self._expected.append(self._pool.post(messages, dict.fromkeys(numbers, file)))
        finally:
            os.close(file)
        self._spent = 0.0
        yield self

    @property
    def size(self) -> int:
        """How many chains advance at the same time."""
        return self._size

    @property
    def cpu_seconds(self) -> float:
        """Spent on rounds of this problem by all processes; not on starting them."""
        return self._spent

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Of the processes that run."""
        return self._pool.process_ids

    def wait(self) -> None:
        """Wait until all processes are ready.

        Raises:
            TeamError: a process was lost.
        """
        try:
            while self._expected:
                self._pool.collect(self._expected.pop(0), _OPEN_SECONDS)
        except WorkerFailure as failure:
            raise _lost(failure) from failure

    def use(self, moves: Moves) -> None:
        """Take other moves for the rounds that follow.

        Raises:
            TeamError: a process was lost.
        """
        self.wait()
        try:
            self._pool.ask(dict.fromkeys(range(self._size), UseMoves(moves)), _OPEN_SECONDS)
        except WorkerFailure as failure:
            raise _lost(failure) from failure

    def advance(
        self,
        chains: Sequence[Chain],
        moves: int,
        temperature: float,
        heat: float,
        fresh: Sequence[bool],
    ) -> list[Chain]:
        """One round of each chain; see `ChainTeam.advance`."""
        asked = {
            number: Advance(chain, moves, temperature, heat, new)
            for number, (chain, new) in enumerate(zip(chains, fresh, strict=True))
        }
        try:
            answers = self._pool.ask(asked, _ROUND_SECONDS)
        except WorkerFailure as failure:
            raise _lost(failure) from failure
        self._spent += sum(answer.cpu_seconds for answer in answers.values())
        return [answers[number].chain for number in range(len(chains))]

    def __enter__(self) -> "ProcessTeam":
        return self

    def __exit__(self, *_exception: object) -> None:
        self._pool.close()


class LocalTeam:
    """The same in this process, one chain after the other: what `ProcessTeam` is held against."""

    def __init__(self, problem: Problem, size: int) -> None:
        """Args:
        size: how many chains there are.
        """
        self._parts = [ChainProcess(problem) for _ in range(size)]

    @property
    def size(self) -> int:
        """How many chains there are."""
        return len(self._parts)

    @property
    def cpu_seconds(self) -> float:
        """Nothing is spent elsewhere."""
        return 0.0

    def use(self, moves: Moves) -> None:
        """Take other moves for the rounds that follow."""
        for part in self._parts:
            part.use(moves)

    def advance(
        self,
        chains: Sequence[Chain],
        moves: int,
        temperature: float,
        heat: float,
        fresh: Sequence[bool],
    ) -> list[Chain]:
        """One round of each chain; see `ChainTeam.advance`."""
        return [
            part.advance(Advance(chain, moves, temperature, heat, new)).chain
            for part, chain, new in zip(self._parts, chains, fresh, strict=False)
        ]


def _lost(failure: WorkerFailure) -> TeamError:
    return TeamError(
        f"a process of the search was lost ({failure}); run it again, with fewer --jobs if the "
        "machine is short of memory"
    )


@contextmanager
def process_team(problem: Problem, size: int) -> Iterator[ChainTeam]:
    """A team that is started for one problem."""
    with ProcessTeam(size) as team, team.opened(problem):
        yield team


@contextmanager
def local_team(problem: Problem, size: int) -> Iterator[ChainTeam]:
    """A team without processes."""
    yield LocalTeam(problem, size)
