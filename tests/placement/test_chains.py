"""Several chains of one search: what they exchange, that nothing depends on who is faster, ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from planted_files import ROOT

from placement.annealing.anneal import Annealer, Chain
from placement.annealing.guided_anneal import Guidance
from placement.annealing.hierarchy import build_hierarchy
from placement.annealing.move_scorer import blank_scorer
from placement.chains.chain_team import LocalTeam, ProcessTeam, TeamError, local_team
from placement.chains.messages import Moves
from placement.chains.shared_anneal import EXCHANGE_ROUNDS, Pace, anneal_together, exchanged
from placement.placer import Budget, WallBudget, silent
from placement.placers.portfolio import portfolio
from placement.placers.shared_search import MakeTeam, SharedSearch, chain_seeds
from placement.placers.warm_up import warm_up
from placement.problem import Problem
from placement.suites import Headroom, Pair


@pytest.fixture(scope="module")
def problem() -> Problem:
    warm_up()
    return Pair("rnnlm:5:300", "4xv100-pcie", Headroom.SLOW_LINKS).problem()


@pytest.fixture(scope="module")
def team() -> Iterator[ProcessTeam]:
    with ProcessTeam(2) as started:
        yield started


def chains_of(problem: Problem, count: int) -> list[Chain]:
    best = portfolio(problem, Budget(5.0), 0, silent).best.plan
    annealer = Annealer(problem, build_hierarchy(problem, 0))
    return [annealer.start(best.devices, best.ranks, seed) for seed in chain_seeds(0, count)]


def search(
    problem: Problem, make_team: MakeTeam, seed: int = 0, jobs: int = 2
) -> tuple[str, float]:
    placer = SharedSearch(jobs, max_rounds=12, moves=40, make_team=make_team)
    placed = placer(problem, Budget(1e6), seed, silent)
    return placed.best.plan.digest, placed.best.evaluation.makespan_seconds


def test_processes_find_what_one_process_finds_and_again_the_same(
    problem: Problem, team: ProcessTeam
) -> None:
    here = search(problem, local_team)
    there = [search(problem, lambda asked, _: team.opened(asked)) for _ in range(2)]
    assert there == [here, here]
    assert search(problem, local_team, seed=1) != here


def test_guided_chains_in_processes_find_what_they_find_here(
    problem: Problem, team: ProcessTeam
) -> None:
    moves = Moves(build_hierarchy(problem, 0), 0.5, blank_scorer(4), Guidance(8, 2.0, 0.1, 4))
    ends = []
    with team.opened(problem) as opened:
        for each in (LocalTeam(problem, 2), opened):
            each.use(moves)
            pace = Pace(each, Budget(1e6), 11, 30)
            ends.append(
                anneal_together(
                    each, chains_of(problem, 2), pace, 0.02, 1.0, 1.0, 11, lambda _: None
                )
            )
    assert [chain.best_plan for chain in ends[0]] == [chain.best_plan for chain in ends[1]]
    assert [chain.random_state for chain in ends[0]] == [chain.random_state for chain in ends[1]]
    assert opened.cpu_seconds > 0


def test_the_result_is_never_worse_than_the_portfolio_and_counts_all_plans(
    problem: Problem,
) -> None:
    floor = portfolio(problem, Budget(5.0), 0, silent)
    placed = SharedSearch(3, max_rounds=10, moves=30, make_team=local_team)(
        problem, Budget(1e6), 0, silent
    )
    assert placed.best.rank_key <= floor.best.rank_key
    times = [seconds for _, seconds in placed.progress]
    assert times == sorted(times, reverse=True)
    assert floor.evaluations < placed.evaluations <= floor.evaluations + 3 * 10 * 30


def test_chains_that_lag_adopt_the_best_and_keep_their_draws(problem: Problem) -> None:
    first, second, third = chains_of(problem, 3)
    devices = np.zeros_like(first.devices)
    best = replace(first, best_devices=devices, best_energy=-9.0, devices=devices, energy=-8.0)
    near = replace(second, best_energy=-8.95, energy=-8.9)
    far = replace(third, best_energy=-7.0, energy=-7.0)
    after, adopted = exchanged([best, near, far], temperature=0.1)
    assert adopted == [False, False, True]
    assert after[:2] == [best, near]
    assert after[2].energy == after[2].best_energy == -9.0
    assert np.array_equal(after[2].devices, devices)
    assert after[2].random_state == third.random_state
    assert after[2].evaluations == third.evaluations
    # In the cold all go on from the best.
    assert exchanged([best, near, far], temperature=0.0)[1] == [False, True, True]


def test_chains_meet_after_rounds_only_and_stay_apart_where_they_are_to(problem: Problem) -> None:
    told: list[list[bool]] = []

    class Watched(LocalTeam):
        def advance(self, chains, moves, temperature, heat, fresh):  # type: ignore[no-untyped-def]
            told.append(list(fresh))
            return super().advance(chains, moves, temperature, heat, fresh)

    for exchange in (True, False):
        told.clear()
        watched = Watched(problem, 2)
        watched.use(Moves(build_hierarchy(problem, 0), 0.5))
        pace = Pace(watched, Budget(1e6), 3 * EXCHANGE_ROUNDS, 20)
        anneal_together(
            watched, chains_of(problem, 2), pace, 1e-9, 1.0, 1.0, 15, lambda _: None, exchange
        )
        assert len(told) == 3 * EXCHANGE_ROUNDS
        assert told[0] == [True, True]
        fresh = [number for number, each in enumerate(told) if any(each)]
        assert set(fresh) <= ({0, EXCHANGE_ROUNDS, 2 * EXCHANGE_ROUNDS} if exchange else {0})
        assert len(fresh) > 1 if exchange else fresh == [0]


def test_seeds_of_chains_differ_and_the_first_has_the_searchs_own() -> None:
    seeds = chain_seeds(7, 4) + chain_seeds(7, 4, already=4)
    assert seeds[0] == 7
    assert len(set(seeds)) == 8


def test_cpu_seconds_of_all_processes_count_but_not_where_the_clock_does(problem: Problem) -> None:
    class Spent(LocalTeam):
        cpu_seconds = 0.0

    spent = Spent(problem, 1)
    by_cpu, by_clock = Pace(spent, Budget(100.0)), Pace(spent, WallBudget(100.0))
    spent.cpu_seconds = 50.0
    assert 0.4 < by_cpu.progress < 0.6
    assert by_clock.progress < 0.4
    spent.cpu_seconds = 101.0
    assert by_cpu.progress == 1.0


def test_nothing_is_searched_for_below_the_least_energy(problem: Problem) -> None:
    pace = Pace(LocalTeam(problem, 1), Budget(1e6), 5, least_energy=-4.0)
    (chain,) = chains_of(problem, 1)
    pace.count([replace(chain, best_energy=-3.9)], 0.0, 0.0)
    assert pace.progress == 0.2
    pace.count([replace(chain, best_energy=-4.1)], 0.0, 0.0)
    assert pace.progress == 1.0


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def until(condition: Callable[[], bool]) -> bool:
    for _ in range(600):
        if condition():
            return True
        time.sleep(0.05)
    return condition()


def test_a_process_that_is_killed_ends_the_search_with_a_reason(problem: Problem) -> None:
    with ProcessTeam(2) as team, team.opened(problem):
        team.use(Moves(build_hierarchy(problem, 0), 0.5))
        first, second = team.process_ids
        os.kill(first, signal.SIGKILL)
        with pytest.raises(TeamError, match=r"chain 0.*SIGKILL"):
            team.advance(chains_of(problem, 2), 10, 0.0, 0.0, [True, True])
    assert until(lambda: not alive(second))


_PARENT = """
import os, sys, time
sys.path[:0] = [{root!r}]
from placement.chains.chain_team import ProcessTeam
team = ProcessTeam(2)
print(*team.process_ids, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="others notice when they answer")
def test_processes_end_with_a_parent_that_is_killed() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-P", "-c", _PARENT.format(root=str(ROOT))], stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    children = [int(word) for word in parent.stdout.readline().split()]
    assert all(alive(child) for child in children)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert until(lambda: not any(alive(child) for child in children))
