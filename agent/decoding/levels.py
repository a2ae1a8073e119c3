"""When ops run and which go into a kernel: what the network says of both, and drawing from it.

The decoder chooses devices one after the other, for each depends on the last. Priorities and
kernels are moved away from what a heuristic does (critical-path priority; everything fused that
may be), each op by itself: of most ops the heuristic is right.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int8, Int32, Int64

from envs.tasks import FUSED_LEVEL, LEVELS, NEUTRAL_LEVEL, UNFUSED_LEVEL

#: Levels of priority that an op may have, the heuristic's first.
SCHEDULE_LEVELS = (NEUTRAL_LEVEL, *(NEUTRAL_LEVEL + shift for shift in (-2, -1, 1, 2)))
#: Levels of fusion: with its consumer as all others, not at all, before all others.
FUSION_LEVELS = (FUSED_LEVEL, UNFUSED_LEVEL, LEVELS - 1)
#: Before anything is learned an op is moved away from each heuristic about so often.
FIRST_SHARE = 0.01


class LevelChances(NamedTuple):
    """Logarithms of how likely each op has each level."""

    schedule: Float32[np.ndarray, "ops schedule_levels"]
    fusion: Float32[np.ndarray, "ops fusion_levels"]


class Levels(NamedTuple):
    """Which of the levels each op has, in some plans; 0 is what the heuristic does."""

    schedule: Int8[np.ndarray, "plans ops"]
    fusion: Int8[np.ndarray, "plans ops"]

    def of(self, plan: int) -> "Levels":
        """Those of one plan alone."""
        return Levels(self.schedule[plan : plan + 1], self.fusion[plan : plan + 1])

    def pick(self, plans: Int64[np.ndarray, " picked"]) -> "Levels":
        """Those of some plans."""
        return Levels(*(values[plans] for values in self))

    def columns(self, plan: int) -> list[Int32[np.ndarray, " ops"]]:
        """The levels of one plan, as environments take them."""
        tables = (np.array(SCHEDULE_LEVELS), np.array(FUSION_LEVELS))
        return [
            table[values[plan]].astype(np.int32) for table, values in zip(tables, self, strict=True)
        ]


def neutral_levels(plans: int, ops: int) -> Levels:
    """What the heuristics do."""
    return Levels(np.zeros((plans, ops), np.int8), np.zeros((plans, ops), np.int8))


def draw_levels(
    chances: LevelChances,
    drawn: Bool[np.ndarray, " plans"],
    heard: Bool[np.ndarray, " plans"],
    rng: np.random.Generator,
) -> Levels:
    """Levels of some plans.

    Args:
        chances: what the network says.
        drawn: plans that are drawn by chance; the others have the likeliest level of each op.
        heard: plans that hear the network at all; the others do as the heuristics.
        rng: draws.
    """
    return Levels(*(_draw(table, drawn, heard, rng) for table in chances))


def _draw(
    logs: Float32[np.ndarray, "ops levels"],
    drawn: Bool[np.ndarray, " plans"],
    heard: Bool[np.ndarray, " plans"],
    rng: np.random.Generator,
) -> Int8[np.ndarray, "plans ops"]:
    ends = np.cumsum(np.exp(logs), axis=1)
    at = rng.random((len(drawn), len(logs))) * ends[:, -1]
    by_chance = (at[:, :, None] >= ends[None, :, :-1]).sum(axis=2)
    likeliest = np.broadcast_to(logs.argmax(axis=1), by_chance.shape)
    levels = np.where(drawn[:, None], by_chance, likeliest)
    return np.where(heard[:, None], levels, 0).astype(np.int8)
