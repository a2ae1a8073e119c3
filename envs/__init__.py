"""The decision process: environments, observations and rewards."""

from envs.decision import Decision, plan_of
from envs.environment import GraphEnv
from envs.episodes import Episodes, episodes_from
from envs.errors import ActionError, EpisodeError
from envs.evaluator import MakeEvaluator, TracedEvaluator, simulated
from envs.features.observation import Observation, Previous, observe
from envs.instance import Instance
from envs.instance_actions import InstanceActions
from envs.known_optima import KNOWN_OPTIMA, KnownOptimum
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
    "FUSED_LEVEL",
    "IDS",
    "KNOWN_IDS",
    "KNOWN_OPTIMA",
    "LEVELS",
    "NEUTRAL_LEVEL",
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
