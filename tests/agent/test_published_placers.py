"""Placeto, GiPH and Doppler learn, keep to the rules, and look at what their papers say."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from counted_budget import Rounds
from graph_samples import device, graph_of, op, random_graph, toy_cluster
from known_optima import forced_split, fork_join, two_chains

from agent.baselines.doppler import DopplerConfig, DopplerPlacer, critical_path
from agent.baselines.giph import GiphConfig, GiphPlacer, relocations
from agent.baselines.gp_net import GpNet, options_of
from agent.baselines.group_episodes import GroupEpisodes
from agent.baselines.group_graph import group_graph
from agent.baselines.group_schedule import start_potentials
from agent.baselines.placeto import PlacetoConfig, PlacetoPlacer
from agent.baselines.reinforce import Update, gains, returns_to_go
from agent.evaluation.columns import COLUMNS, PUBLISHED
from agent.evaluation.contestants import contestants
from envs.instance import Instance
from envs.rewards import Telescoping
from placement.constraints import Constraints
from placement.placer import Placer, silent
from placement.priorities import upward_ranks
from placement.problem import Problem
from simulator.clusters.cluster import Cluster
from simulator.plan import Plan

PLACERS: dict[str, Placer] = {
    "placeto": PlacetoPlacer(),
    "giph": GiphPlacer(),
    "doppler": DopplerPlacer(),
}
#: Looks at the budget: after each step of an episode, or after each update.
LOOKS = {"placeto": 240, "giph": 240, "doppler": 40}
EACH = pytest.mark.parametrize("name", list(PLACERS))


def unlike_devices() -> tuple[Problem, float]:
    """Two chains on devices of which one is half as fast again: still one chain each."""
    fast = device("d1", flops_per_second=1.5)
    cluster = Cluster("unlike", (device("d0"), fast), toy_cluster(2).links)
    return Problem(two_chains(4)[0].graph, cluster), 4.0


PROBLEMS: dict[str, Callable[[], tuple[Problem, float]]] = {
    "two chains": lambda: two_chains(3),
    "fork-join": fork_join,
    "forced split": forced_split,
    "unlike devices": unlike_devices,
}
#: A fork and join asks for all that two chains do, and is tried each time.
EACH_PROBLEM = pytest.mark.parametrize(
    "problem",
    [
        pytest.param(make, id=name, marks=[pytest.mark.slow] if name == "two chains" else [])
        for name, make in PROBLEMS.items()
    ],
)


pytestmark = pytest.mark.usefixtures("one_thread")


def best_of_all(problem: Problem) -> float:
    """The shortest step time of all placements that fit."""
    ops, count = problem.graph.op_count, problem.cluster.device_count
    found = []
    for devices in itertools.product(range(count), repeat=ops):
        chosen = np.array(devices, np.int32)
        one = problem.evaluate(Plan.of(chosen, upward_ranks(problem, chosen)))
        found.append(one.makespan_seconds if one.feasible else np.inf)
    return min(found)


@EACH_PROBLEM
@EACH
def test_they_find_the_best_plan(name: str, problem: Callable[[], tuple[Problem, float]]) -> None:
    """Also where what is fastest without a look at memory does not fit (the forced split)."""
    given, optimum = problem()
    placed = PLACERS[name](given, Rounds(LOOKS[name]), 0, silent)
    assert placed.best.evaluation.feasible
    assert placed.best.evaluation.makespan_seconds == pytest.approx(optimum)
    assert best_of_all(given) == pytest.approx(optimum)


NOTHING = Update(lr=0.0)
#: Each that learns, the same without, and looks at the budget.
LEARNERS: dict[str, tuple[Placer, Placer, int]] = {
    "placeto": (PlacetoPlacer(), PlacetoPlacer(PlacetoConfig(update=NOTHING)), 800),
    "giph": (GiphPlacer(), GiphPlacer(GiphConfig(update=NOTHING)), 1600),
    "doppler": (
        DopplerPlacer(DopplerConfig(imitations=0)),
        DopplerPlacer(DopplerConfig(imitations=0, update=NOTHING)),
        100,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(LEARNERS))
def test_long_chains_are_split_by_learning_alone(name: str) -> None:
    """Of random plans 2 in a million do."""
    learns, does_not, looks = LEARNERS[name]
    problem, optimum = two_chains(10)
    learned, drawn = (
        placer(problem, Rounds(looks), 0, silent).best.evaluation.makespan_seconds
        for placer in (learns, does_not)
    )
    assert learned == pytest.approx(optimum)
    assert drawn > 1.2 * optimum


def test_doppler_is_as_good_as_what_it_imitates_at_once() -> None:
    problem, optimum = two_chains(10)
    taught = DopplerPlacer()(problem, Rounds(1), 0, silent)
    untaught = DopplerPlacer(DopplerConfig(imitations=0))(problem, Rounds(1), 0, silent)
    assert taught.evaluations == untaught.evaluations == 32
    assert taught.best.evaluation.makespan_seconds == pytest.approx(optimum)
    assert untaught.best.evaluation.makespan_seconds > optimum


@pytest.mark.slow
@EACH
def test_the_same_seed_gives_the_same_plan_and_no_heuristic_helps(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = Problem(random_graph(3, 60), toy_cluster(3))

    def refuse(_self: Instance) -> None:
        raise AssertionError("asked for a heuristic's plan")

    monkeypatch.setattr(Instance, "heuristic_plans", property(refuse))
    # Long enough that what was learned from the first episodes tells.
    looks = 2 if name == "doppler" else 150
    found = [PLACERS[name](problem, Rounds(looks), seed, silent) for seed in (1, 1, 2)]
    plans = [placed.best.plan for placed in found]
    assert plans[0] == plans[1]
    assert found[0].evaluations == found[1].evaluations
    assert plans[0] != plans[2]


@EACH
def test_units_stay_whole_on_devices_that_can_run_them(name: str) -> None:
    """Grouped, too, for there are more units than groups."""
    limited = replace(device("d1"), unsupported=frozenset({"matmul"}))
    cluster = toy_cluster(3)
    devices = (cluster.devices[0], limited, cluster.devices[2])
    constraints = Constraints(pins={"op7": "d2"}, forbidden={"op9": ("d0",)})
    graph = random_graph(5, 200)
    problem = Problem(graph, Cluster("limited", devices, cluster.links), constraints)
    assert problem.unit_count > 64
    placed = PLACERS[name](problem, Rounds(2 if name == "doppler" else 90), 0, silent)
    chosen = placed.best.plan.devices
    assert problem.unit_allowed[problem.unit_of, chosen].all()
    assert chosen[7] == 2
    for unit in range(problem.unit_count):
        assert len(set(chosen[problem.unit_of == unit].tolist())) == 1
    assert len(set(chosen.tolist())) > 1


@EACH
def test_with_one_device_there_is_one_plan(name: str) -> None:
    problem = Problem(random_graph(4, 30), toy_cluster(1))
    budget = Rounds(1e9)
    placed = PLACERS[name](problem, budget, 0, silent)
    assert placed.evaluations == 1
    assert not placed.best.plan.devices.any()


@EACH
def test_a_single_group_may_move(name: str) -> None:
    """The pinned one stays, and the other one has to move twice in a row."""
    records = [op("fixed", 1.0, (), 1), op("free", 1.0, ("fixed",), 1)]
    problem = Problem(graph_of(*records), toy_cluster(2), Constraints(pins={"fixed": "d1"}))
    placed = PLACERS[name](problem, Rounds(30), 0, silent)
    assert placed.best.plan.devices.tolist() == [1, 1]


def test_no_group_moves_twice_in_a_row_unless_no_other_can() -> None:
    records = [op("fixed", 1.0, (), 1), op("a", 1.0, ("fixed",), 1), op("b", 1.0, ("a",), 1)]
    for pins, expected in (
        ({"fixed": "d1"}, [[0, 0], [0, 0], [1, 0]]),
        ({"fixed": "d1", "b": "d1"}, [[0, 0], [0, 1], [0, 0]]),
    ):
        problem = Problem(graph_of(*records), toy_cluster(2), Constraints(pins=pins))
        groups = group_graph(problem, 64, 0)
        may = relocations(groups, np.array([[1, 0, 1]]), np.array([1]))
        assert may.reshape(3, 2).tolist() == expected


@pytest.mark.parametrize("name", ["placeto", "giph"])
def test_the_budget_ends_in_the_midst_of_an_episode(name: str) -> None:
    problem = Problem(random_graph(6, 60), toy_cluster(4))
    placed = PLACERS[name](problem, Rounds(5), 0, silent)
    assert placed.evaluations <= 8 * 6
    assert placed.progress[-1][1] == placed.best.evaluation.makespan_seconds


def test_groups_in_their_order_and_what_they_send() -> None:
    records = [
        op("a", 1.0, (), 3),
        op("b", 2.0, ("a",), 5),
        op("c", 3.0, ("a",), 7),
        op("d", 4.0, ("b", "c"), 0),
    ]
    groups = group_graph(Problem(graph_of(*records), toy_cluster(2)), 64, 0)
    assert groups.of_op.tolist() == [0, 1, 2, 3]
    assert groups.edges.T.tolist() == [[0, 1], [0, 2], [1, 3], [2, 3]]
    assert groups.edge_bytes.tolist() == [3.0, 3.0, 5.0, 7.0]
    assert groups.output_bytes.tolist() == [6.0, 5.0, 7.0, 0.0]
    assert groups.seconds[:, 0].tolist() == [1.0, 2.0, 3.0, 4.0]
    following = [np.flatnonzero(row).tolist() for row in groups.descends]
    assert following == [[1, 2, 3], [3], [3], []]


def test_groups_that_contracting_ties_in_a_circle_have_an_order() -> None:
    """A unit before and behind another one: edges point the same way whichever way bytes go."""
    records = [op("a", 1.0, (), 3), op("b", 1.0, ("a",), 5), op("c", 1.0, ("b",), 7)]
    constraints = Constraints(colocated=("a|c",))
    groups = group_graph(Problem(graph_of(*records), toy_cluster(2), constraints), 64, 0)
    assert groups.count == 2
    assert groups.edges.tolist() == [[0], [1]]
    assert groups.edge_bytes.tolist() == [8.0]


def test_units_with_other_devices_are_never_in_one_group() -> None:
    constraints = Constraints(pins={"op3": "d0", "op4": "d1"})
    problem = Problem(random_graph(8, 120), toy_cluster(2), constraints)
    groups = group_graph(problem, 4, 0)
    assert 4 < groups.count < 20
    assert (groups.allowed[groups.of_op] == problem.unit_allowed[problem.unit_of]).all()


def test_what_the_critical_path_heuristic_does() -> None:
    problem, _ = two_chains(5)
    groups = group_graph(problem, 64, 0)
    devices, decisions = critical_path(groups)
    first, second = devices[: groups.count // 2], devices[groups.count // 2 :]
    assert len(set(first.tolist())) == len(set(second.tolist())) == 1
    assert first[0] != second[0]
    # No group before what it reads.
    order = np.argsort(decisions.group.numpy())
    assert all(order[earlier] < order[later] for earlier, later in groups.edges.T)
    assert decisions.ready.gather(1, decisions.group[:, None]).all()


def test_start_potentials_by_hand() -> None:
    """`b` reads three bytes of `a`, and waits for `other` where it is."""
    records = [op("a", 1.0, (), 3), op("other", 6.0, (), 0), op("b", 1.0, ("a",), 0)]
    groups = group_graph(Problem(graph_of(*records), toy_cluster(2)), 64, 0)
    potential = start_potentials(groups, np.array([[0, 1, 1], [0, 1, 0]]))
    # On device 1 it would begin at 6 but has its input at 4; on device 0 it has it at 1.
    assert potential[0, 2].tolist() == [-5.0, -2.0]
    assert potential[1, 2].tolist() == [0.0, 3.0]


def test_scores_of_options_go_with_alike_devices() -> None:
    """Two placements that differ by the names of devices have scores that differ by these."""
    groups = group_graph(Problem(random_graph(9, 40), toy_cluster(3)), 64, 0)
    torch.manual_seed(0)
    network = GpNet(groups, 8, 2)
    devices = np.random.default_rng(0).integers(3, size=(1, groups.count))
    renamed = np.array([2, 0, 1])
    both = np.concatenate([devices, renamed[devices]])
    with torch.no_grad():
        scores = network(options_of(groups, both), torch.from_numpy(both))
    assert torch.allclose(scores[0], scores[1][:, renamed], atol=1e-5)
    assert scores.std() > 1e-4


def test_an_action_that_changes_nothing_is_free() -> None:
    problem, _ = two_chains(3)
    groups = group_graph(problem, 64, 0)
    episodes = GroupEpisodes(problem, groups, 2, Telescoping(), "sample", Rounds())
    devices = np.array([[0] * groups.count, [1] * groups.count])
    progress, _ = episodes.step(episodes.begin(2), devices)
    moved = devices.copy()
    moved[1, 3:] = 0
    after, rewards = episodes.step(progress, moved)
    assert episodes.evaluations == 3
    assert after[0] is progress[0]
    # Half on each device: half the time, so that the logarithm falls by that of two.
    assert rewards.tolist() == pytest.approx([0.0, np.log(2.0)])
    assert episodes.placed().best.evaluation.makespan_seconds == pytest.approx(3.0)


def test_returns_and_gains_by_hand() -> None:
    rewards = np.array([[1.0, 0.0], [2.0, 4.0]])
    returns = returns_to_go(rewards, 0.5)
    assert returns.tolist() == [[2.0, 2.0], [2.0, 4.0]]
    assert gains(returns).numpy() == pytest.approx(
        np.array([[0.0, 0.0], [-(2**0.5), 2**0.5]]), abs=1e-6
    )


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("placeto", PlacetoPlacer(PlacetoConfig(hops=3))),
        ("giph", GiphPlacer(GiphConfig(hops=3))),
        ("doppler", DopplerPlacer(DopplerConfig(hops=3))),
    ],
)
def test_rows_are_known_by_the_configuration(
    name: str, other: Placer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tuple(PLACERS) == PUBLISHED
    assert COLUMNS[name].on_request
    before = contestants((name,), None, 1)[0].column_digest
    assert before
    assert before == contestants((name,), None, 1)[0].column_digest
    kind = type(other)
    monkeypatch.setattr(f"{kind.__module__}.{kind.__name__}", lambda: other)
    assert contestants((name,), None, 1)[0].column_digest != before
