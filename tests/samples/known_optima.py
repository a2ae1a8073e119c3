"""Agents that learn on the small problems of `envs.known_optima`."""

from typing import Any

import numpy as np
import torch
from graph_samples import graph_of, op

from agent.config import AgentConfig, EpisodeConfig
from agent.learning.config import PpoConfig, SampleConfig
from agent.learning.improving import draw_pass, learn
from agent.learning.rollout import greedy
from agent.policy.config import PolicyConfig
from agent.policy.inputs import collate
from agent.policy.network import Policy
from agent.policy.state import EpisodeState, begin
from agent.policy.view import GroupedInstance, group_instance
from envs import known_optima
from envs.actions import action_of
from envs.episodes import Prepared
from envs.instance import Instance
from envs.known_optima import KnownOptimum
from graphs.graph import Graph
from placement.problem import Problem
from simulator.plan import Plan


def two_chains(length: int = 6) -> tuple[Problem, float]:
    return _sample(known_optima.two_chains(length))


def fork_join() -> tuple[Problem, float]:
    return _sample(known_optima.fork_join())


def forced_split() -> tuple[Problem, float]:
    return _sample(known_optima.forced_split())


def one_right_order() -> tuple[Problem, float]:
    return _sample(known_optima.one_right_order())


def elementwise_chain(length: int = 6) -> tuple[Problem, float]:
    return _sample(known_optima.elementwise_chain(length))


def _sample(known: KnownOptimum) -> tuple[Problem, float]:
    return known.problem, known.seconds


def agent_config(tasks: tuple[str, ...], whole: bool, **policy: Any) -> AgentConfig:
    """A small agent for small problems."""
    return AgentConfig(
        PolicyConfig(width=32, pair_width=16, segment_ops=8, tasks=tasks, **policy),
        PpoConfig(lr=1e-2, entropy=0.1, entropy_end=0.02),
        SampleConfig(samples=32),
        EpisodeConfig(whole=whole, from_scratch=whole, group_sizes=(), steps=1),
    )


def learned_cost(
    problem: Problem, config: AgentConfig, updates: int, seed: int = 0, plan: Plan | None = None
) -> tuple[float, float]:
    """Mean step time, at the price of what does not fit, of what the untrained policy draws, and
    that of what the trained one thinks best, without looking at any sample."""
    torch.manual_seed(seed)
    policy = Policy(config.policy)
    optimizer = torch.optim.Adam(policy.parameters(), lr=config.ppo.lr)
    state = start(problem, config, plan)
    first = np.inf
    for number in range(updates):
        passed = draw_pass(policy, config, [state], [np.random.default_rng([seed, number])])
        if not number:
            first = float(np.mean(np.exp(passed.rollouts[0].energies)))
        learn(policy, optimizer, config, passed, number / updates)
    batch = collate([state.view(True)], config.policy.segment_ops)
    with torch.no_grad():
        choices = greedy(state, policy(batch), batch, 0, config.episode.whole)
    after, _ = state.step([action_of(choices, state.rules.tasks)], config.reward)
    return first, float(np.exp(after[0].energy))


def start(problem: Problem, config: AgentConfig, plan: Plan | None = None) -> EpisodeState:
    """The first state: nothing decided in whole decisions, else everything on the first device."""
    base = plan or Plan.of(np.zeros(problem.graph.op_count, np.int32))
    subject = subject_of(problem, config, base)
    return begin(subject, config.rules, None if config.episode.from_scratch else base)


def subject_of(problem: Problem, config: AgentConfig, mark: Plan | None = None) -> GroupedInstance:
    instance = Instance("sample", problem, given_mark=mark, overlap=config.overlap)
    return group_instance(Prepared(instance), config.episode.group_sizes, 0)


def chain(ops: int) -> Graph:
    return graph_of(*(op(f"op{i}", 1.0, (f"op{i - 1}",) if i else (), 1) for i in range(ops)))
