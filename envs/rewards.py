"""What a plan's step time is worth."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

from envs.errors import EpisodeError
from envs.instance import Instance

#: A plan 16 times as slow as the portfolio's is worth as little as one that fails.
_SLOWEST = 16.0


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
    """Minus the square root of step time over the portfolio's: -1 is as good as the portfolio."""

    failure: float = -math.sqrt(_SLOWEST)

    def __call__(self, instance: Instance, compared: Comparison) -> Float64[np.ndarray, " plans"]:
        reward = -np.sqrt(compared.seconds / instance.reference_seconds)
        return np.where(np.isfinite(compared.seconds), reward, self.failure)


@dataclass(frozen=True)
class LogSpeedup:
    """Logarithm of the portfolio's step time over the plan's: 0 is as good as the portfolio."""

    failure: float = -math.log(_SLOWEST)

    def __call__(self, instance: Instance, compared: Comparison) -> Float64[np.ndarray, " plans"]:
        reward = np.log(instance.reference_seconds) - np.log(compared.seconds)
        return np.where(np.isfinite(compared.seconds), reward, self.failure)


@dataclass(frozen=True)
class Telescoping:
    """By how much the logarithm of the episode's best step time falls; 0 without improvement.

    The first plan of an episode without a start plan counts against the portfolio. So rewards of
    an episode without failures add up to the log speed-up of its best plan over where it began.
    """

    failure: float = -math.log(_SLOWEST)

    def __call__(self, instance: Instance, compared: Comparison) -> Float64[np.ndarray, " plans"]:
        is_first = ~np.isfinite(compared.best_seconds)
        mark = np.where(is_first, instance.reference_seconds, compared.best_seconds)
        gain = np.log(mark) - np.log(compared.seconds)
        reward = np.where(is_first, gain, np.maximum(gain, 0.0))
        return np.where(np.isfinite(compared.seconds), reward, self.failure)


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
