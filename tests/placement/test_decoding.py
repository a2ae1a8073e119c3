"""The list decoder: by hand, against plain Python, and what it is asked."""

from typing import Any

import numpy as np
import pytest
from graph_samples import graph_of, op, random_cluster, random_graph, toy_cluster
from hypothesis import example, given, settings
from hypothesis import strategies as st

from graphs.catalogue import resolve
from graphs.errors import GraphwrightError
from graphs.kinds import OpKind
from placement.decoding.alike import alike_devices
from placement.decoding.choices import make_choices
from placement.decoding.columns import DECISION_COLUMNS
from placement.decoding.decoder import decode
from placement.decoding.drawing import Decoder, make_decoder, plain_scorer
from placement.decoding.styles import Noise, draw_styles, pick
from placement.placers.warm_up import warm_up
from placement.problem import Problem
from simulator.cluster_file import load_cluster
from simulator.errors import KernelInputError

AT = {name: index for index, name in enumerate(DECISION_COLUMNS)}


def weights(**columns: float) -> np.ndarray:
    row = np.zeros((1, len(DECISION_COLUMNS)), np.float32)
    for name, value in columns.items():
        row[0, AT[name]] = value
    return row


def greedy(decoder: Decoder, rows: np.ndarray) -> np.ndarray:
    """The device of each op, the best device each time."""
    styles = draw_styles(
        decoder.problem, np.zeros(1, np.int32), Noise((0.0,), (1.0,), 0.0),
        np.random.default_rng(0), 1,
    )  # fmt: skip
    return decoder.devices(decoder.draw(plain_scorer(decoder, rows), styles, 0).chosen[0])


def by_hand_earliest_finish(problem: Problem) -> np.ndarray:
    """Earliest finish with contended links, in plain Python; memory does not bind."""
    choices, p = make_choices(problem), problem.simulator.program.arrays
    alike, seconds = alike_devices(problem), problem.seconds
    count = problem.cluster.device_count
    finish: dict[int, float] = {}
    chosen: dict[int, int] = {}
    arrival: dict[tuple[int, int], float] = {}
    channel_free: dict[int, float] = {}
    free = [0.0] * count
    where: dict[int, int] = {}

    def inputs(reader: int) -> list[int]:
        edges = p.input_edges[p.input_offsets[reader] : p.input_offsets[reader + 1]]
        return [int(p.edge_tensors[edge]) for edge in edges]

    def arrive(tensor: int, device: int, commit: bool) -> float:
        producer = int(p.tensor_producers[tensor])
        source, when = where.get(producer, -1), finish[producer]
        if source in (-1, device):
            return when
        if (tensor, device) in arrival:
            return arrival[tensor, device]
        channels = [int(c) for c in p.link_channels[source, device] if c >= 0]
        begin = max([when, *(channel_free.get(c, 0.0) for c in channels)])
        ends = begin + p.tensor_bytes[tensor] / p.link_bytes_per_second[source, device]
        there = ends + p.link_latency_seconds[source, device]
        if commit:
            for c in channels:
                channel_free[c] = ends
            arrival[tensor, device] = there
        return there

    for at in choices.order.tolist():
        choice = int(choices.choice_of[at])
        if choice not in chosen and choices.decider[choice] == at:
            best, best_end = -1, np.inf
            for device in range(count):
                unused = device not in chosen.values()
                twins = [o for o in range(alike[device], device) if alike[o] == alike[device]]
                stands_back = unused and any(o not in chosen.values() for o in twins)
                if not choices.allowed[choice, device] or stands_back:
                    continue
                # The kernel sees contention, and that latency comes with the transfer.
                ready = max([0.0, *(arrive(t, device, commit=False) for t in inputs(at))])
                end = max(ready, free[device]) + seconds[at, device]
                # Differences below a ten-millionth of the bound count as none, and a picosecond is
                # the least bound: random graphs may take next to no time.
                if end < best_end - 1e-7 * max(problem.bounds.seconds, 1e-12):
                    best, best_end = device, end
            chosen[choice] = best
            for earlier in choices.order.tolist():
                if earlier == at:
                    break
                if choices.choice_of[earlier] == choice:
                    where[earlier] = best
        device = chosen.get(choice, -1)
        if device < 0:
            finish[at] = max([0.0, *(finish[int(p.tensor_producers[t])] for t in inputs(at))])
            continue
        ready = max([0.0, *(arrive(t, device, commit=True) for t in inputs(at))])
        lasting = seconds[at, device]
        where[at] = device
        finish[at] = ready
        if lasting > 0:
            finish[at] = free[device] = max(ready, free[device]) + lasting
    return np.array([chosen[int(c)] for c in choices.choice_of])


def test_independent_ops_spread_and_a_chain_with_large_tensors_stays() -> None:
    spread = Problem(graph_of(op("a", 3.0), op("b", 3.0)), toy_cluster(2))
    assert sorted(greedy(make_decoder(spread), weights(lateness=-10))) == [0, 1]
    chain = [op(f"c{i}", 1.0, (f"c{i - 1}",) if i else (), 50) for i in range(4)]
    stays = Problem(graph_of(*chain), toy_cluster(2))
    assert greedy(make_decoder(stays), weights(lateness=-10)).tolist() == [0, 0, 0, 0]


def test_what_does_not_fit_goes_where_there_is_room() -> None:
    records = [
        op(f"o{i}", 1.0, (f"o{i - 1}",) if i else (), 1, resident_bytes=60) for i in range(2)
    ]
    problem = Problem(graph_of(*records), toy_cluster(2, memory_bytes=100))
    assert sorted(greedy(make_decoder(problem), weights(lateness=-10))) == [0, 1]


def test_sending_is_weighed() -> None:
    """Two devices would be faster; where sending counts much, one does all."""
    records = [op("a", 4.0, (), 2), op("b", 4.0, ("a",), 0), op("c", 4.0, ("a",), 0)]
    problem = Problem(graph_of(*records), toy_cluster(2))
    assert len(set(greedy(make_decoder(problem), weights(lateness=-10)))) == 2
    assert len(set(greedy(make_decoder(problem), weights(lateness=-1, sending=-50)))) == 1


def test_variables_and_views_go_with_their_readers() -> None:
    graph = graph_of(
        op("variable", 0.0, (), 8, kind=OpKind.VARIABLE),
        op("view", 0.0, ("variable",), 8, kind=OpKind.VIEW),
        op("early", 2.0, (), 1),
        op("late", 2.0, ("early", "view"), 1),
        op("shape", 0.0, ("early",), 1, kind=OpKind.VIEW),
    )
    choices = make_choices(Problem(graph, toy_cluster(2)))
    of = dict(zip(graph.op_names, choices.choice_of.tolist(), strict=True))
    assert choices.count == 2
    assert of["variable"] == of["view"] == of["late"]
    assert of["shape"] == of["early"]
    assert graph.op_names[choices.decider[of["late"]]] == "late"


@given(seed=st.integers(0, 10_000), ops=st.integers(2, 60))
@settings(max_examples=40, deadline=None)
def test_choices_are_in_order_and_cover_all(seed: int, ops: int) -> None:
    problem = Problem(random_graph(seed, ops), toy_cluster(3))
    choices = make_choices(problem)
    assert sorted(set(choices.choice_of.tolist())) == list(range(choices.count))
    place = np.argsort(choices.order)
    edges = problem.simulator.program.arrays
    assert (place[edges.tensor_producers[edges.edge_tensors]] < place[edges.consumers]).all()
    assert (np.diff(place[choices.decider]) > 0).all()
    for unit in range(problem.unit_count):
        assert len(set(choices.choice_of[problem.unit_of == unit].tolist())) == 1
    assert (choices.choice_of[choices.decider] == np.arange(choices.count)).all()


@given(seed=st.integers(0, 10_000), ops=st.integers(2, 50), toy=st.booleans())
@example(seed=574, ops=2, toy=True)
@example(seed=5375, ops=23, toy=True)  # a view is read before its device is chosen
@settings(max_examples=60, deadline=None)
def test_lateness_alone_is_earliest_finish(seed: int, ops: int, toy: bool) -> None:
    cluster = toy_cluster(3, bytes_per_second=3.0) if toy else random_cluster(seed)
    cluster = cluster.with_memory(1 << 40)
    problem = Problem(random_graph(seed, ops), cluster)
    found = greedy(make_decoder(problem), weights(lateness=-10))
    assert found.tolist() == by_hand_earliest_finish(problem).tolist()


def test_same_seed_same_plans_and_a_plan_alone_is_the_same() -> None:
    decoder = make_decoder(Problem(random_graph(3, 60), toy_cluster(3)))
    scorer = plain_scorer(decoder, weights(lateness=-1))
    styles = draw_styles(
        decoder.problem, np.zeros(6, np.int32), Noise((1.0,)), np.random.default_rng(0)
    )
    first = decoder.draw(scorer, styles, 5)
    assert np.array_equal(first.chosen, decoder.draw(scorer, styles, 5).chosen)
    assert not np.array_equal(first.chosen, decoder.draw(scorer, styles, 6).chosen)
    some = np.array([4, 1])
    again = decoder.draw(scorer, pick(styles, some), 5, recorded=2)
    assert np.array_equal(again.chosen, first.chosen[some])
    taken = decoder.draw(scorer, pick(styles, some), 5, first.chosen[some], recorded=2)
    assert np.array_equal(taken.columns, again.columns)
    assert np.array_equal(taken.considered, again.considered)


def test_what_is_given_is_taken_and_hints_are_seen() -> None:
    decoder = make_decoder(Problem(random_graph(4, 40), toy_cluster(3)))
    count = decoder.choices.count
    styles = draw_styles(
        decoder.problem, np.zeros(1, np.int32), Noise((0.0,)), np.random.default_rng(0), 1
    )
    given_devices = np.full((1, count), -1, np.int32)
    given_devices[0, ::2] = 2
    drawn = decoder.draw(plain_scorer(decoder, weights(lateness=-1)), styles, 0, given_devices)
    assert (drawn.chosen[0, ::2] == 2).all()
    hints = np.full((1, count), 2, np.int32)
    follow = plain_scorer(decoder, weights(is_hinted=5))
    # Alike devices are taken in the order of their numbers: the first unused stands for all.
    anchored = np.full((1, count), -1, np.int32)
    anchored[0, 0] = 2
    assert (decoder.draw(follow, styles, 0, anchored, hints).chosen == 2).all()


def test_alike_devices_and_their_order() -> None:
    def alike(cluster: str) -> list[int]:
        graph = graph_of(op("a", 1e9, (), 8), op("b", 1e9, ("a",), 8))
        return alike_devices(Problem(graph, load_cluster(cluster))).tolist()

    assert alike("4xa100-nvlink") == [0, 0, 0, 0]
    assert alike("1xa100+1xt4-pcie") == [0, 1]
    # Pairs share a switch, whose uplink leads to the other pair.
    assert alike("4xv100-pcie") == [0, 0, 2, 2]


def test_no_more_is_used_than_the_style_allows() -> None:
    decoder = make_decoder(Problem(random_graph(5, 80, groups=False), toy_cluster(4)))
    styles = draw_styles(
        decoder.problem, np.zeros(40, np.int32), Noise(fewer_devices=1.0), np.random.default_rng(1)
    )
    drawn = decoder.draw(plain_scorer(decoder, weights(lateness=-3)), styles, 0)
    used = [set(row.tolist()) for row in drawn.chosen]
    allowed = [set(np.flatnonzero(row).tolist()) for row in styles.devices]
    assert all(one <= other for one, other in zip(used, allowed, strict=True))
    assert {len(one) for one in allowed} == {1, 2, 3, 4}


def test_the_kernel_is_compiled_once_and_beforehand() -> None:
    """Real graphs need no other signature than the one that warming up compiles."""
    warm_up()
    kernel: Any = decode
    before = len(kernel.signatures)
    assert before >= 1
    problem = Problem(resolve("rnnlm:3:200"), load_cluster("4xv100-pcie"))
    greedy(make_decoder(problem), weights(lateness=-1))
    assert len(kernel.signatures) == before


def test_records_that_do_not_fit_are_refused() -> None:
    decoder = make_decoder(Problem(random_graph(6, 20), toy_cluster(2)))
    styles = draw_styles(decoder.problem, np.zeros(2, np.int32), Noise(), np.random.default_rng(0))
    scorer = plain_scorer(decoder, weights())
    with pytest.raises(KernelInputError, match="axis"):
        decoder.draw(scorer._replace(affinity=np.zeros((1, 2), np.float32)), styles, 0)
    with pytest.raises(KernelInputError, match=r"Styles\.style"):
        decoder.draw(scorer, styles._replace(style=np.ones(2, np.int32)), 0)
    with pytest.raises(KernelInputError, match="given"):
        wrong = np.full((2, decoder.choices.count), 2, np.int32)
        decoder.draw(scorer, styles, 0, wrong)
    with pytest.raises(KernelInputError, match="recorded"):
        decoder.draw(scorer, styles, 0, recorded=3)
    with pytest.raises(GraphwrightError, match="temperatures"):
        Noise(temperatures=())
