"""The decision process: environments, observations and rewards."""

from envs.decision import Decision, plan_of
from envs.environment import GraphEnv
from envs.episodes import Episodes, episodes_from
from envs.errors import ActionError, EpisodeError
from envs.evaluator import MakeEvaluator, TracedEvaluator, simulated
from envs.features.observation import (
    DEVICE_COLUMNS,
    EDGE_COLUMNS,
    GRAPH_COLUMNS,
    LINK_COLUMNS,
    OP_COLUMNS,
    PAIR_COLUMNS,
    Observation,
    Previous,
    observe,
)
from envs.instance import Instance
from envs.instance_actions import InstanceActions
from envs.known_optima import KNOWN_OPTIMA, KnownOptimum
from envs.padded import PaddedEnv
from envs.registration import IDS, KNOWN_IDS, register
from envs.rewards import (
    REWARDS,
    Comparison,
    LogImprovement,
    LogSpeedup,
    Reward,
    SqrtTime,
    Telescoping,
    get_reward,
)
from envs.rules import Rules
from envs.scoring import Scores, score
from envs.spaces import as_space_sample, from_sample
from envs.tasks import FUSED_LEVEL, LEVELS, NEUTRAL_LEVEL, UNFUSED_LEVEL, Task
from envs.vector import BatchedEnv

__all__ = [
    "DEVICE_COLUMNS",
    "EDGE_COLUMNS",
    "FUSED_LEVEL",
    "GRAPH_COLUMNS",
    "IDS",
    "KNOWN_IDS",
    "KNOWN_OPTIMA",
    "LEVELS",
    "LINK_COLUMNS",
    "NEUTRAL_LEVEL",
    "OP_COLUMNS",
    "PAIR_COLUMNS",
    "REWARDS",
    "UNFUSED_LEVEL",
    "ActionError",
    "BatchedEnv",
    "Comparison",
    "Decision",
    "EpisodeError",
    "Episodes",
    "GraphEnv",
    "Instance",
    "InstanceActions",
    "KnownOptimum",
    "LogImprovement",
    "LogSpeedup",
    "MakeEvaluator",
    "Observation",
    "PaddedEnv",
    "Previous",
    "Reward",
    "Rules",
    "Scores",
    "SqrtTime",
    "Task",
    "Telescoping",
    "TracedEvaluator",
    "as_space_sample",
    "episodes_from",
    "from_sample",
    "get_reward",
    "observe",
    "plan_of",
    "register",
    "score",
    "simulated",
]

register()
