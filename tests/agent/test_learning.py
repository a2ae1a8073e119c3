"""The agent finds what is known to be best, by learning alone: its own choice, not a lucky draw."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from graph_samples import graph_of, op, toy_cluster
from known_optima import (
    agent_config,
    elementwise_chain,
    forced_split,
    fork_join,
    learned_cost,
    one_right_order,
    start,
    two_chains,
)

from agent.config import AgentConfig
from agent.learning.config import SampleConfig
from agent.policy.state import begin
from envs.instance import Instance
from placement.problem import Problem
from simulator.plan import Plan


def config(task: str, lr: float = 3e-3) -> AgentConfig:
    base = agent_config((task,), whole=True)
    ppo = replace(base.ppo, lr=lr, entropy=0.3)
    return replace(base, ppo=ppo, sample=SampleConfig(samples=64))


@pytest.mark.parametrize(
    "problem",
    [
        pytest.param(two_chains, id="chains", marks=pytest.mark.slow),
        pytest.param(fork_join, id="fork-join"),
        pytest.param(forced_split, id="memory", marks=pytest.mark.slow),
    ],
)
def test_placement_balances_work_transfers_and_memory(
    problem: Callable[[], tuple[Problem, float]],
) -> None:
    given, optimum = problem()
    found = []
    for seed in range(3):  # policy gradients may end in a local optimum; not three times
        before, after = learned_cost(given, config("placement"), updates=120, seed=seed)
        assert before > 1.2 * optimum
        found.append(after)
        if after == pytest.approx(optimum):
            break
    assert min(found) == pytest.approx(optimum)


@pytest.mark.slow
def test_placement_cuts_a_chain_in_halves_where_steps_overlap() -> None:
    records = [op(f"op{i}", 1.0, (f"op{i - 1}",) if i else (), 1) for i in range(6)]
    given = Problem(graph_of(*records), toy_cluster(2, bytes_per_second=2.0))
    asked = replace(config("placement"), objective="throughput", in_flight=3)
    before, after = learned_cost(given, asked, updates=30)
    # For one step all of it on one device is best, 6 s; two devices end a step every 3 s.
    assert before > 3.6
    assert after == pytest.approx(3.0)


@pytest.mark.slow
def test_scheduling_overlaps_what_critical_path_priority_does_not() -> None:
    given, optimum = one_right_order()
    plan = Plan.of(np.array([0, 0, 1, 0], np.int32))
    nothing = start(given, config("scheduling"), plan)
    heuristic = begin(nothing.subject, nothing.rules, plan)
    assert heuristic.evaluation.makespan_seconds > optimum
    _, after = learned_cost(given, config("scheduling", lr=1e-2), updates=60, plan=plan)
    assert after == pytest.approx(optimum)


@pytest.mark.slow
def test_fusion_makes_one_kernel_of_an_elementwise_chain() -> None:
    given, optimum = elementwise_chain()
    alone = Instance("sample", given).evaluator.evaluate(Plan.of(np.zeros(6, np.int32)))
    assert alone.makespan_seconds == pytest.approx(6.0)
    _, after = learned_cost(given, config("fusion", lr=1e-2), updates=60)
    assert after == pytest.approx(optimum)


def test_a_policy_that_does_not_learn_fails_these_tests() -> None:
    given, optimum = two_chains()
    _, after = learned_cost(given, config("placement", lr=0.0), updates=2)
    assert after > optimum
