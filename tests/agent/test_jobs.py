"""`place --jobs` and `--wall`: chains at once, what they count, and how they end."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from planted_files import ROOT

from agent.cli.app import run as command
from agent.placing.policy_placer import PolicyPlacer
from agent.placing.registry import get_placer
from agent.placing.shared_policy_placer import SharedPolicyPlacer
from graphs.errors import GraphwrightError
from placement.chains.chain_team import ProcessTeam, local_team
from placement.placer import Budget, Placed, silent
from placement.placers.portfolio import portfolio
from placement.placers.shared_search import MakeTeam
from placement.placers.warm_up import warm_up
from placement.problem import Problem
from placement.suites import Headroom, Pair

GRAPH = "rnnlm:5:300"


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def problem() -> Problem:
    warm_up()
    return Pair(GRAPH, "4xv100-pcie", Headroom.SLOW_LINKS).problem()


def policy() -> PolicyPlacer:
    placer = get_placer("policy")
    assert isinstance(placer, PolicyPlacer)
    return placer


def place(problem: Problem, make_team: MakeTeam, rounds: int, moves: int) -> Placed:
    shared = SharedPolicyPlacer(policy(), 2, rounds, moves, make_team)
    return shared(problem, Budget(1e6), 0, silent)


@pytest.mark.parametrize(("rounds", "moves"), [(12, 10), (40, 250)])
def test_the_policys_chains_in_processes_find_what_they_find_here(
    problem: Problem, rounds: int, moves: int
) -> None:
    # The second has time for chains that go ways of their own before.
    here = place(problem, local_team, rounds, moves)
    with ProcessTeam(2) as team:
        there = place(problem, lambda asked, _: team.opened(asked), rounds, moves)
    assert there.best.plan == here.best.plan
    assert there.evaluations == here.evaluations
    assert (here.elsewhere_cpu_seconds, there.elsewhere_cpu_seconds > 0) == (0.0, True)
    floor = portfolio(problem, Budget(5.0), 0, silent)
    assert there.best.rank_key < floor.best.rank_key
    assert [stage.name for stage in there.stages] == [
        "heuristics", "decoder's plans", "guided search",
    ]  # fmt: skip


def test_policies_that_learn_as_they_go_are_refused() -> None:
    with pytest.raises(GraphwrightError, match="--jobs"):
        SharedPolicyPlacer(policy().fine_tuned(3), 2)


@pytest.mark.parametrize("placer", ["search", "policy"])
def test_what_chains_spend_is_told_apart(placer: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["place", GRAPH, "-c", "4xv100-pcie", "--placer", placer, "--jobs", "2", "--json"]
    # CPU seconds: starting the processes does not count, however busy the machine is.
    assert command([*words, "--budget", "1s"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["feasible"]
    assert found["placer"] == placer
    assert (found["budget_seconds"], found["budget_clock"]) == (1.0, "cpu")
    spent = found["spent"]
    assert spent["other processes_cpu_seconds"] > 0
    assert found["search_seconds"] == pytest.approx(
        spent["search_cpu_seconds"] + spent["other processes_cpu_seconds"]
    )
    assert found["search_wall_seconds"] > 0


def test_a_budget_by_the_clock_and_what_is_not_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["place", GRAPH, "-c", "2xv100-pcie", "--placer", "search"]
    assert command([*words, "--wall", "0.2s", "--json"]) == 0
    by_clock = json.loads(capsys.readouterr().out)
    assert by_clock["budget_clock"] == "wall"
    assert "other processes_cpu_seconds" not in by_clock["spent"]
    assert command([*words, "--budget", "0.2s", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["budget_clock"] == "cpu"
    assert command([*words, "--wall", "0.2s"]) == 0
    assert " s by the clock, " in capsys.readouterr().out


def test_what_cannot_be_done_at_once_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["place", GRAPH, "-c", "2xv100-pcie", "--json"]
    for more, said in (
        (["--jobs", "0"], "--jobs 0"),
        (["--jobs", "2", "--placer", "heft"], "search and policy"),
        (["--jobs", "2", "--placer", "search", "--fuse"], "without --fuse"),
        (["--jobs", "2", "--objective", "throughput"], "leave out --jobs"),
        (["--wall", "1s", "--objective", "throughput"], "instead of --wall"),
        (["--wall", "1s", "--budget", "1s"], "give one of them"),
        (["--wall", "0s"], "--wall"),
    ):
        assert command([*words, *more]) == 2, more
        assert said in json.loads(capsys.readouterr().out)["error"], more


def children_of(process: int) -> list[int]:
    """Processes that another one started and that are alive."""
    found = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(child) for child in found if alive(int(child))]


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_a_signal_ends_a_search_with_all_its_processes(number: signal.Signals, code: int) -> None:
    process = subprocess.Popen(
        [
            sys.executable, "-P", "-m", "agent", "place", GRAPH, "-c", "4xv100-pcie",
            "--placer", "search", "--jobs", "2", "--wall", "300s",
        ],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(1200):
            if len(children := children_of(process.pid)) == 2:
                break
            time.sleep(0.05)
        assert len(children) == 2
        time.sleep(1.0)
        process.send_signal(number)
        assert process.wait(60) == code
    finally:
        process.kill()
        process.wait()
    for _ in range(200):
        if not any(alive(child) for child in children):
            break
        time.sleep(0.05)
    assert not any(alive(child) for child in children)
