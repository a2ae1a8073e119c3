"""The three decisions, and the levels in which two of them are expressed."""

from collections.abc import Mapping
from enum import StrEnum


class Task(StrEnum):
    """One decision per op, in the order in which later ones see earlier ones."""

    PLACEMENT = "placement"
    SCHEDULING = "scheduling"
    FUSION = "fusion"


#: Choices per op for scheduling and fusion. Zhou et al. (arXiv 2010.12438) decide priority levels
#: and leave their number open; an odd one has a middle, which stands for "as the heuristic does".
LEVELS = 21

#: Scheduling level that leaves critical-path priorities alone.
NEUTRAL_LEVEL = LEVELS // 2

#: Fusion level at which every op begins: everything that may be fused is fused.
FUSED_LEVEL = LEVELS // 2

#: Fusion level of an op that stays out of its consumer's kernel; higher levels fuse earlier.
UNFUSED_LEVEL = 0

#: At which level every op begins, by task that is decided in levels.
STARTING_LEVELS: Mapping[Task, int] = {
    Task.SCHEDULING: NEUTRAL_LEVEL,
    Task.FUSION: FUSED_LEVEL,
}
