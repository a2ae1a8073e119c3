"""What a plan's step time is worth."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

from envs.errors import EpisodeError
from envs.instance import Instance

#: Times over the portfolio's above this count little more.
_SLOWEST = 16.0

#: Energy beyond that at which a reward has fallen half the way: a plan that does not fit pays 10,
#: and 1 more for each hundredth of the cluster's memory that it is over.
_HALF_WAY = 20.0


@dataclass(frozen=True, eq=False)
class Comparison:
    """Many plans beside what their episodes had before them."""

    seconds: Float64[np.ndarray, " plans"]
    """Step times, infinite for plans that failed."""
    best_seconds: Float64[np.ndarray, " plans"]
    """The shortest step time earlier in each plan's episode, infinite where nothing has run or all
    has failed."""
    energies: Float64[np.ndarray, " plans"]
    """Prices of the plans (`placement.annealing.energy`), infinite where there is none."""
    energies_before: Float64[np.ndarray, " plans"]
    """Energy of the plan that ran last in each episode, infinite where none has."""


@runtime_checkable
class Reward(Protocol):
    """Worth of many plans at once."""

    def __call__(self, instance: Instance, compared: Comparison) -> Float64[np.ndarray, " plans"]:
        """The reward of each plan.

        Args:
            instance: what was planned; times are relative to its `reference_seconds`.
            compared: the plans, and what their episodes had before.
        """
        ...


@dataclass(frozen=True)
class SqrtTime:
    """Minus the square root of step time over the portfolio's: -1 is as good as the portfolio.

    See `graded` for plans that are much slower, or do not fit.
    """

    failure: float = -math.sqrt(_SLOWEST)
    """What the slowest plan is worth whose time counts in full; one that cannot run, twice that."""

    def __call__(self, instance: Instance, compared: Comparison) -> Float64[np.ndarray, " plans"]:
        plain = -np.sqrt(compared.seconds / instance.reference_seconds)
        return graded(instance, compared.energies, plain, self.failure)


@dataclass(frozen=True)
class LogSpeedup:
    """Logarithm of the portfolio's step time over the plan's: 0 is as good as the portfolio.

    See `graded` for plans that are much slower, or do not fit.
    """

    failure: float = -math.log(_SLOWEST)
    """What the slowest plan is worth whose time counts in full; one that cannot run, twice that."""

    def __call__(self, instance: Instance, compared: Comparison) -> Float64[np.ndarray, " plans"]:
        plain = np.log(instance.reference_seconds) - np.log(compared.seconds)
        return graded(instance, compared.energies, plain, self.failure)


@dataclass(frozen=True)
class Telescoping:
    """By how much the log speed-up is above that of the plan that ran last.

    What a plan is worth depends on what is observed, the plan before it, and on nothing else of the
    episode. The first plan of an episode without a start plan counts against the portfolio. So the
    rewards of an episode add up to the log speed-up of its last plan over where it began, unless a
    plan could not run at all.
    """

    failure: float = -math.log(_SLOWEST)
    """As `LogSpeedup` has it."""

    def __call__(self, instance: Instance, compared: Comparison) -> Float64[np.ndarray, " plans"]:
        before = self._worth(instance, compared.energies_before)
        is_first = ~np.isfinite(compared.energies_before)
        return self._worth(instance, compared.energies) - np.where(is_first, 0.0, before)

    def _worth(
        self, instance: Instance, energies: Float64[np.ndarray, " plans"]
    ) -> Float64[np.ndarray, " plans"]:
        plain = np.log(instance.reference_seconds) - energies
        return graded(instance, energies, plain, self.failure)


@dataclass(frozen=True)
class LogImprovement:
    """By how much the energy falls below that of the plan which an action departed from.

    For agents that try many changes of one plan and go on from the best: a change that makes the
    plan worse, or makes it fail, costs nothing more than one that changes nothing. Large gains
    count no more than `largest`. The energy prices memory too, so that a plan which does not fit
    may improve. The first plan of an episode without a start plan counts against the portfolio,
    whatever the gain.
    """

    largest: float = 0.05
    failure: float = -math.log(_SLOWEST)
    """The least that a first plan is worth."""

    def __call__(self, instance: Instance, compared: Comparison) -> Float64[np.ndarray, " plans"]:
        is_first = ~np.isfinite(compared.energies_before)
        mark = np.where(is_first, instance.reference_energy, compared.energies_before)
        gain = mark - compared.energies
        later = np.clip(gain, 0.0, self.largest)
        return np.where(is_first, np.maximum(gain, self.failure), later)


def graded(
    instance: Instance,
    energies: Float64[np.ndarray, " plans"],
    plain: Float64[np.ndarray, " plans"],
    least: float,
) -> Float64[np.ndarray, " plans"]:
    """The rewards `plain`, but where plans are 16 times as slow as the portfolio's, or do not fit.

    These are worth from `least` down to twice that, the less the higher their energy: a plan that
    is further over capacity is worth less than one that nearly fits, which is worth less than any
    that fits, and one that cannot run at all is worth twice `least`.

    Args:
        energies: of the plans; infinite where one cannot run.
        plain: what plans are worth by their time.
        least: what a plan is worth that is so slow, below zero.
    """
    beyond = energies - (np.log(instance.reference_seconds) + math.log(_SLOWEST))
    over = np.where(np.isfinite(beyond), np.maximum(beyond, 0.0), 0.0)
    share = np.where(np.isfinite(beyond), over / (over + _HALF_WAY), 1.0)
    return np.where(beyond <= 0, plain, least * (1.0 + share))


REWARDS: Mapping[str, Reward] = {
    "sqrt-time": SqrtTime(),
    "log-speedup": LogSpeedup(),
    "telescoping": Telescoping(),
    "log-improvement": LogImprovement(),
}


def get_reward(reward: str | Reward) -> Reward:
    """A reward by name; a reward as it is.

    Raises:
        EpisodeError: no reward of that name.
    """
    if not isinstance(reward, str):
        return reward
    if reward not in REWARDS:
        raise EpisodeError(f"unknown reward {reward!r}; there are {', '.join(REWARDS)}")
    return REWARDS[reward]
