"""Slots of a round as tasks: what one of them teaches is worked out here or in any process."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from agent.config import TrainConfig
from agent.evaluation.runs import files_digest
from agent.runs.package_code import package_code
from agent.tasks.task_runner import TaskError
from agent.training.starts import Starts
from placement.placers.warm_up import warm_up
from placement.suites import Pair
from simulator.threads import set_threads

Taught = TypeVar("Taught")


@dataclass(frozen=True)
class Slot:
    """A place in the batch of a round."""

    round: int
    number: int
    files: str | None = None
    """Digest of the files that its pair names, as they are where the slot is asked for; None is not
    compared."""


class SlotJob(ABC, Generic[Taught]):
    """Works out what a slot teaches, from the configuration, seed, round and number alone.

    It pickles without graphs; a process that gets it builds those that its slots draw, and keeps
    them from one round to the next.
    """

    def __init__(self, config: TrainConfig, starts: Starts | None = None) -> None:
        """Args:
        starts: of this process, where slots are worked out in it.
        """
        self.config = config
        self._starts = starts
        self._code = ""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_starts": None, "_code": package_code()}

    @property
    def starts(self) -> Starts:
        """Where episodes begin, with the graphs that this process has built."""
        if self._starts is None:
            self._starts = _starts_of(self.config)
        return self._starts

    def __call__(self, slot: Slot) -> Taught:
        """What the slot teaches.

        Raises:
            TaskError: this process has other files or other code than the one that asks.
            GraphwrightError: a graph cannot be built.
        """
        if self._code not in ("", package_code()):
            raise TaskError(
                "graphwright's code is another one where slots run than where they were given: "
                "install the same version on all machines"
            )
        if slot.files not in (None, self.files(slot)):
            raise TaskError(
                f"round {slot.round}, slot {slot.number}: the model or the cluster's file is "
                "another one where the slot runs than where it was given; workers on other "
                "machines need the same files at the same paths"
            )
        return self.work_out(slot)

    @abstractmethod
    def work_out(self, slot: Slot) -> Taught:
        """What the slot teaches."""

    @abstractmethod
    def cost(self, slot: Slot) -> float:
        """About how long that takes, in any unit; no graph is built for it."""

    def files(self, slot: Slot) -> str:
        """Digest of the files that the slot's pair names; empty where it names none."""
        pair = self.starts.source(slot.round, slot.number)
        return _files_of(pair) if isinstance(pair, Pair) else ""

    def generator(self, slot: Slot, step: int) -> np.random.Generator:
        """The random numbers of a step, the same in whatever process."""
        return slot_generator(self.config.seed, slot.round, slot.number, step)


def slot_generator(seed: int, number: int, slot: int, step: int) -> np.random.Generator:
    """The random numbers of a step of a slot in round `number`."""
    return np.random.default_rng([seed, number, slot, 1 + step])


@lru_cache(maxsize=1)
def _starts_of(config: TrainConfig) -> Starts:
    """Of a process that works slots out for another one: it is one of several, with a core each."""
    torch.set_num_threads(1)
    set_threads(1)
    warm_up()
    return Starts(config)


@lru_cache(maxsize=4096)
def _files_of(pair: Pair) -> str:
    return files_digest(pair)
