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


@runtime_checkable
class Reward(Protocol):
    """Worth of many plans at once."""

    def __call__(
        self,
        instance: Instance,
        seconds: Float64[np.ndarray, " plans"],
        before_seconds: Float64[np.ndarray, " plans"],
    ) -> Float64[np.ndarray, " plans"]:
        """The reward of each plan.

        Args:
            instance: what was planned; times are relative to its `reference_seconds`.
            seconds: step times, infinite for plans that failed.
            before_seconds: the shortest step time earlier in each plan's episode, infinite where
                nothing has run or all has failed.
        """
        ...


@dataclass(frozen=True)
class SqrtTime:
    """Minus the square root of step time over the portfolio's: -1 is as good as the portfolio."""

    failure: float = -math.sqrt(_SLOWEST)

    def __call__(
        self,
        instance: Instance,
        seconds: Float64[np.ndarray, " plans"],
        before_seconds: Float64[np.ndarray, " plans"],
    ) -> Float64[np.ndarray, " plans"]:
        reward = -np.sqrt(seconds / instance.reference_seconds)
        return np.where(np.isfinite(seconds), reward, self.failure)


@dataclass(frozen=True)
class LogSpeedup:
    """Logarithm of the portfolio's step time over the plan's: 0 is as good as the portfolio."""

    failure: float = -math.log(_SLOWEST)

    def __call__(
        self,
        instance: Instance,
        seconds: Float64[np.ndarray, " plans"],
        before_seconds: Float64[np.ndarray, " plans"],
    ) -> Float64[np.ndarray, " plans"]:
        reward = np.log(instance.reference_seconds) - np.log(seconds)
        return np.where(np.isfinite(seconds), reward, self.failure)


@dataclass(frozen=True)
class Telescoping:
    """By how much the logarithm of the episode's best step time falls; 0 without improvement.

    The first plan of an episode without a start plan counts against the portfolio. So rewards of
    an episode without failures add up to the log speed-up of its best plan over where it began.
    """

    failure: float = -math.log(_SLOWEST)

    def __call__(
        self,
        instance: Instance,
        seconds: Float64[np.ndarray, " plans"],
        before_seconds: Float64[np.ndarray, " plans"],
    ) -> Float64[np.ndarray, " plans"]:
        is_first = ~np.isfinite(before_seconds)
        mark = np.where(is_first, instance.reference_seconds, before_seconds)
        gain = np.log(mark) - np.log(seconds)
        reward = np.where(is_first, gain, np.maximum(gain, 0.0))
        return np.where(np.isfinite(seconds), reward, self.failure)


REWARDS: Mapping[str, Reward] = {
    "sqrt-time": SqrtTime(),
    "log-speedup": LogSpeedup(),
    "telescoping": Telescoping(),
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
