"""Search that a policy guides: what it learns from, and what must never happen."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from graph_samples import random_graph, toy_cluster

from agent.cli.placement_text import stages_text
from agent.config import AgentConfig, EpisodeConfig, GuideConfig
from agent.decoding.config import DrawConfig
from agent.decoding.placer import OneShotPlacer
from agent.learning.config import OutcomeConfig
from agent.learning.outcomes import anneal_from, learn_outcomes, try_moves
from agent.learning.ranking import ranking_area
from agent.placing.guided_search import Guided, guided_search
from agent.placing.policy_placer import Effort, PolicyPlacer, untrained_placer
from agent.policy.config import PolicyConfig
from agent.policy.network import Policy
from agent.policy.state import EpisodeState, begin
from agent.policy.view import group_instance
from envs.episodes import Prepared
from envs.instance import Instance
from envs.tasks import Task
from placement.annealing.anneal import Annealer, Chain
from placement.constraints import Constraints
from placement.placer import Budget, Stage, silent
from placement.problem import Problem
from simulator.plan import Plan

CONFIG = AgentConfig(
    policy=PolicyConfig(width=16, pair_width=8, segment_ops=16),
    episode=EpisodeConfig(group_sizes=(4, 12)),
)


def state_of(problem: Problem, config: AgentConfig = CONFIG) -> EpisodeState:
    prepared = Prepared(Instance("sample", problem))
    subject = group_instance(prepared, config.episode.group_sizes, 0)
    return begin(subject, config.rules)


def problem(seed: int = 0, ops: int = 60, devices: int = 3) -> Problem:
    return Problem(random_graph(seed, ops), toy_cluster(devices, bytes_per_second=1e3))


def test_search_is_never_worse_than_where_it_begins_and_repeats() -> None:
    state = state_of(problem(2))
    torch.manual_seed(0)
    policy = Policy(CONFIG.policy)
    found = [
        guided_search(policy, state, Budget(1e9), 5, CONFIG, lambda _: None, 3, 100)
        for _ in range(2)
    ]
    assert found[0].steps == 3
    assert 50 < found[0].evaluations <= 300
    assert found[0].best_plan == found[1].best_plan
    reached = state.instance.evaluator.evaluate(found[0].best_plan).makespan_seconds
    assert reached <= state.evaluation.makespan_seconds
    assert np.log(reached) == pytest.approx(found[0].chain.best_energy)


def test_several_chains_begin_and_the_best_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    state = state_of(problem(9))
    starts: list[bool] = []
    start = Annealer.start

    def watched(annealer: Annealer, *given: Any) -> Chain:
        starts.append(bool((given[0] != state.plan.devices).any()))
        return start(annealer, *given)

    monkeypatch.setattr(Annealer, "start", watched)
    torch.manual_seed(0)
    policy = Policy(CONFIG.policy)
    told: list[Guided] = []
    config = replace(CONFIG, guide=GuideConfig(starts=4, starts_evaluations=100))
    found = guided_search(policy, state, Budget(1e9), 1, config, told.append, 30, 20)
    assert starts == [0] * 5 + [1]
    assert found.steps == len(told) == 30
    best = [guided.chain.best_energy for guided in told]
    assert best == sorted(best, reverse=True)
    assert found.evaluations <= 30 * 20


def test_little_time_makes_a_search_cooler() -> None:
    guide = GuideConfig(start_temperature=0.02, least_temperature=0.002, full_evaluations=1000)
    assert guide.temperature(10) == 0.002
    assert guide.temperature(500) == pytest.approx(0.01)
    assert guide.temperature(1e6) == 0.02


def test_stages_add_up_and_say_what_each_brought() -> None:
    placer = replace(untrained_placer(CONFIG, seed=1), effort=Effort(max_passes=4, max_steps=4))
    alone = replace(placer, starter=None)(problem(6), Budget(1e9), 3, silent)
    assert [stage.name for stage in alone.stages] == ["heuristics", "proposals", "guided search"]
    starter = OneShotPlacer(None, DrawConfig(plans=16, first=16))
    placed = replace(placer, starter=starter)(problem(6), Budget(1e9), 3, silent)
    named = ["heuristics", "decoder's plans", "guided search"]
    assert [stage.name for stage in placed.stages] == named
    times = [stage.makespan_seconds for stage in placed.stages]
    assert times == sorted(times, reverse=True)
    assert times[-1] == placed.best.evaluation.makespan_seconds
    text = stages_text((Stage("heuristics", 1.0, 0.2), Stage("guided search", 3.0, 0.15)))
    assert text == "stages: heuristics 200 ms, guided search 150 ms (-25.0% in 3.0 CPU s)"
    assert stages_text(()) == stages_text(placed.stages[:1]) == ""


def test_a_chain_cools_within_the_time_that_it_has() -> None:
    state = state_of(problem(9))
    policy = Policy(CONFIG.policy)
    budget = Budget(0.3)
    told: list[Guided] = []
    guided_search(policy, state, budget, 1, CONFIG, told.append)
    assert budget.left_seconds < 0.1
    assert all(guided.evaluations > 0 for guided in told)


def test_outcomes_are_what_the_simulator_says_of_each_move() -> None:
    state = state_of(problem(3))
    config = OutcomeConfig(moves_per_level=9)
    found = try_moves(state, True, config, np.random.default_rng(0))
    assert len(set(zip(found.groups.tolist(), found.devices.tolist(), strict=True))) == len(
        found.groups
    )
    for group, device, gain in list(zip(found.groups, found.devices, found.gains, strict=True))[
        ::5
    ]:
        level = np.searchsorted(state.subject.groups.level_offsets, group, side="right") - 1
        devices = np.array(state.plan.devices)
        devices[state.subject.groups.labels[level] == group] = device
        from placement.priorities import upward_ranks

        moved = Plan.of(devices, upward_ranks(state.instance.problem, devices))
        seconds = state.instance.evaluator.evaluate(moved).makespan_seconds
        assert gain == pytest.approx(state.energy - np.log(seconds), abs=1e-5)


def test_a_network_learns_which_moves_improve() -> None:
    config = OutcomeConfig(moves_per_level=200)
    base = state_of(problem(4, ops=80))
    rng = np.random.default_rng(0)
    start = begin(
        base.subject, base.rules, Plan.of(rng.integers(3, size=base.instance.problem.unit_count)[
            base.instance.problem.unit_of])
    )  # fmt: skip
    outcomes = [try_moves(start, True, config, rng)]
    assert 0.02 < (outcomes[0].gains > config.least_gain).mean() < 0.98
    torch.manual_seed(0)
    policy = Policy(CONFIG.policy)
    optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3)
    figures = [learn_outcomes(policy, optimizer, outcomes, config, 16, 1.0, 1) for _ in range(60)]
    assert figures[0]["outcome_area"] < 0.75
    assert figures[-1]["outcome_area"] > 0.9
    assert figures[-1]["outcome_loss"] < figures[0]["outcome_loss"]


def test_ranking_area_by_hand() -> None:
    better = np.array([True, False, True, False])
    assert ranking_area(np.array([4.0, 1.0, 3.0, 2.0]), better) == 1.0
    assert ranking_area(np.array([1.0, 4.0, 2.0, 3.0]), better) == 0.0
    assert ranking_area(np.array([4.0, 3.0, 2.0, 1.0]), better) == 0.75
    assert np.isnan(ranking_area(np.ones(3), np.ones(3, bool)))


def test_annealed_states_are_plans_that_search_meets() -> None:
    state = state_of(problem(5))
    later = anneal_from(state, OutcomeConfig(max_depth=200), np.random.default_rng(1))
    assert np.array_equal(later.standing[Task.PLACEMENT], later.plan.devices)
    assert later.evaluation.makespan_seconds <= 1.5 * state.evaluation.makespan_seconds


@pytest.mark.parametrize("updates", [0, 2])
def test_the_placer_ends_at_or_below_the_portfolio_and_repeats(updates: int) -> None:
    given = problem(6)
    placer = replace(
        untrained_placer(CONFIG, seed=1),
        effort=Effort(max_passes=4, max_steps=4, max_updates=updates, lr=1e-3),
    )
    placed = [placer(given, Budget(1e9), 3, silent) for _ in range(2)]
    floor = Instance("sample", given, seed=3).portfolio
    assert placed[0].best.rank_key <= floor.rank_key
    assert placed[0].best.plan == placed[1].best.plan
    assert placed[0].evaluations > len(placed[0].candidates)
    seconds = [value for _, value in placed[0].progress]
    assert seconds == sorted(seconds, reverse=True)


def test_fine_tuning_leaves_the_policy_alone() -> None:
    torch.manual_seed(0)
    policy = Policy(CONFIG.policy)
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    seen: list[Policy] = []
    placer = PolicyPlacer(policy, CONFIG, Effort(max_passes=3, max_steps=3), hand_over=seen.append)
    placer.fine_tuned(updates=2, lr=1e-2)(problem(7), Budget(1e9), 0, silent)
    assert all(torch.equal(before[name], value) for name, value in policy.state_dict().items())
    tuned = seen[0].state_dict()
    assert any(not torch.equal(before[name], value) for name, value in tuned.items())


def test_one_device_leaves_nothing_to_decide() -> None:
    placed = untrained_placer(CONFIG, 0)(problem(8, devices=1), Budget(1e9), 0, silent)
    assert placed.best.plan.devices.max() == 0


def test_pins_and_memory_hold_where_the_start_does_not_fit() -> None:
    graph = random_graph(11, 60)
    names = graph.op_names
    rules = Constraints(pins={names[5]: "d2"}, forbidden={names[9]: ("d0",)})
    roomy = Problem(graph, toy_cluster(3, bytes_per_second=1e3), rules)
    alone = Plan.of(np.where(np.arange(60) == 5, 2, 1).astype(np.int32))
    most = max(roomy.evaluate(alone).peak_bytes)
    tight = Problem(
        graph, toy_cluster(3, memory_bytes=int(most * 0.7), bytes_per_second=1e3), rules
    )
    subject = group_instance(Prepared(Instance("tight", tight)), (4, 12), 0)
    start = begin(subject, CONFIG.rules, alone)
    assert not start.evaluation.feasible
    torch.manual_seed(0)
    policy = Policy(CONFIG.policy)
    found = guided_search(policy, start, Budget(1e9), 0, CONFIG, lambda _: None, 20, 100)
    reached = tight.evaluate(found.best_plan)  # refuses a plan that breaks a constraint
    assert reached.excess_bytes < start.evaluation.excess_bytes
    assert found.best_plan.devices[5] == 2
    assert found.best_plan.devices[9] != 0


def test_much_time_makes_several_families(monkeypatch: pytest.MonkeyPatch) -> None:
    guide = GuideConfig(family_evaluations=1000, most_families=3)
    assert [guide.families(count) for count in (10, 1999, 2000, 1e9)] == [1, 1, 2, 3]
    state = state_of(problem(9))
    annealers: list[int] = []
    start = Annealer.start

    def watched(annealer: Annealer, *given: Any) -> Chain:
        annealers.append(annealer.hierarchy.level_count)
        return start(annealer, *given)

    monkeypatch.setattr(Annealer, "start", watched)
    torch.manual_seed(0)
    policy = Policy(CONFIG.policy)
    guide = replace(guide, starts=2, starts_evaluations=100)
    config, told = replace(CONFIG, guide=guide), list[Guided]()
    runs = [
        guided_search(policy, state, Budget(1e9), 1, config, told.append, 40, 100) for _ in range(2)
    ]
    # The plan that is given; three times two chains and one on; one more.
    assert len(annealers) == 2 * (1 + 3 * 3 + 1)
    assert runs[0].steps == 40
    assert runs[0].best_plan == runs[1].best_plan
    best = [guided.chain.best_energy for guided in told[:40]]
    assert best == sorted(best, reverse=True)
