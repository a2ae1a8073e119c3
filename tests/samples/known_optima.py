"""Small problems whose best plan is known, and agents that learn on them."""

from typing import Any

import numpy as np
import torch
from graph_samples import device, graph_of, op, toy_cluster

from agent.config import AgentConfig, EpisodeConfig
from agent.learning.improving import draw_pass, learn
from agent.learning.ppo import PpoConfig
from agent.learning.rollout import SampleConfig, greedy
from agent.policy.config import PolicyConfig
from agent.policy.inputs import collate
from agent.policy.network import Policy
from agent.policy.state import EpisodeState, begin
from agent.policy.view import GroupedInstance, group_instance
from envs.actions import action_of
from envs.episodes import Prepared
from envs.instance import Instance
from graphs.graph import Graph
from graphs.kinds import OpKind
from placement.problem import Problem
from simulator.clusters.cluster import Cluster
from simulator.plan import Plan


def two_chains(length: int = 6) -> tuple[Problem, float]:
    """Each chain on a device of its own: half the time of one device; any cut costs much."""
    records = [
        op(f"{name}{i}", 1.0, (f"{name}{i - 1}",) if i else (), 5)
        for name in "ab"
        for i in range(length)
    ]
    return Problem(graph_of(*records), toy_cluster(2)), float(length)


def fork_join() -> tuple[Problem, float]:
    """A long branch and three short ones between a source and a sink, on two devices."""
    lengths = (6.0, 2.0, 2.0, 2.0)
    branches = [op(f"branch{i}", lengths[i], ("source",), 1) for i in range(4)]
    sink = op("sink", 1.0, tuple(f"branch{i}" for i in range(4)), 0)
    graph = graph_of(op("source", 1.0, (), 1), *branches, sink)
    # The source runs and is sent; the long branch here from 1 to 7, the short ones there from 2
    # to 8, which the long one's output reaches at 8 as well; then the sink.
    return Problem(graph, toy_cluster(2)), 9.0


def forced_split() -> tuple[Problem, float]:
    """Parameters that fit on no device together: the chain must be cut once, at its thin place."""
    sizes = (8, 8, 1, 8, 8, 0)
    records = [
        op(f"op{i}", 1.0, (f"op{i - 1}",) if i else (), sizes[i], resident_bytes=30)
        for i in range(6)
    ]
    return Problem(graph_of(*records), toy_cluster(2, memory_bytes=110)), 7.0


def one_right_order() -> tuple[Problem, float]:
    """On one device: what feeds the long transfer has to run first, which ranks do not tell.

    Critical-path priority runs `decoy` first, since transfers of the fixed placement are longer
    there on paper; the order that is right overlaps both.
    """
    graph = graph_of(
        op("decoy", 5.0, (), 1),
        op("feed", 1.0, (), 4),
        op("far", 4.0, ("feed",), 0),
        op("near", 5.0, ("decoy",), 0),
    )
    return Problem(graph, toy_cluster(2)), 11.0


def elementwise_chain(length: int = 6) -> tuple[Problem, float]:
    """On a device with a launch cost: one kernel is best."""
    records = [
        op(f"e{i}", 0.0, (f"e{i - 1}",) if i else (), 4, kind=OpKind.ELEMENTWISE)
        for i in range(length)
    ]
    from dataclasses import replace

    slow_launch = replace(device("d0"), launch_seconds=1.0)
    return Problem(graph_of(*records), Cluster("launch", (slow_launch,))), 1.0


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
