"""What is read off a trace, by hand and against the plain sources; the compiled network."""

import numpy as np
import pytest
import torch
from graph_samples import random_graph, toy_cluster
from hypothesis import given, settings
from hypothesis import strategies as st
from known_optima import two_chains

from agent.learning.config import MoveConfig
from agent.learning.moves import (
    Lessons,
    draw_lessons,
    learn_moves,
    make_kernel_problem,
    search_for_lessons,
)
from agent.learning.ranking import ranking_area
from agent.policy.move_network import MoveNetwork
from envs.features.trace_features import OP_TRACE_FEATURES, trace_features
from graphs.kinds import Storage
from placement.annealing.anneal import Annealer, Chain
from placement.annealing.fusing.fused_problem import fuse_problem
from placement.annealing.guided_anneal import Guidance, GuidedAnnealer, Harvest
from placement.annealing.hierarchy import build_hierarchy
from placement.annealing.move_features import (
    BLIND_COLUMNS,
    MOVE_COLUMNS,
    Reading,
    make_reading,
    read_trace,
)
from placement.annealing.move_scorer import MoveScorer, blank_scorer, score_move
from placement.problem import Problem
from simulator.compiled import compiled
from simulator.event_engine.state import make_engine_state, make_recording
from simulator.plan import Plan


def problem(seed: int = 0, ops: int = 60, devices: int = 3) -> Problem:
    return Problem(random_graph(seed, ops), toy_cluster(devices, bytes_per_second=1e3))


def random_plan(given: Problem, seed: int) -> Plan:
    units = np.random.default_rng(seed).integers(given.cluster.device_count, size=given.unit_count)
    return Plan.of(units[given.unit_of].astype(np.int32))


def read(given: Problem, plan: Plan) -> Reading:
    arrays = given.simulator.program.arrays
    reading = make_reading(arrays, given.cluster.memory_bytes)
    recording = make_recording(
        given.graph.op_count, len(arrays.tensor_bytes), len(arrays.consumers)
    )
    devices, ranks = plan.devices.copy(), plan.ranks.copy()
    read_trace(arrays, make_engine_state(arrays), recording, devices, ranks, reading)
    return reading


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 4))
def test_slack_is_that_of_the_observed_trace(seed: int, devices: int) -> None:
    sample = problem(seed, 40, devices)
    plan = random_plan(sample, seed)
    trace = sample.simulator.trace(plan)
    reading = read(sample, plan)
    wanted = trace_features(sample, plan, trace).ops[:, OP_TRACE_FEATURES.index("slack")]
    graph = sample.graph
    waits = np.ones(graph.op_count, bool)  # nothing waits for weights in the engine
    waits[graph.tensor_producers[graph.tensor_storage == Storage.WEIGHT]] = False
    assert (reading.slack / trace.makespan_seconds)[waits] == pytest.approx(wanted[waits], abs=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_busy_time_and_peaks_are_the_trace_s(seed: int) -> None:
    sample = problem(seed, 40)
    plan = random_plan(sample, seed)
    trace = sample.simulator.trace(plan)
    reading = read(sample, plan)
    assert reading.busy[:, -1] == pytest.approx(trace.busy_seconds)
    assert (np.diff(reading.busy, axis=1) >= -1e-12).all()
    assert (np.diff(reading.busy, axis=1) <= trace.makespan_seconds / 64 * (1 + 1e-9)).all()
    assert np.array_equal(reading.peak, trace.peak_bytes)
    taken = trace.transfer_arrival - trace.transfer_start
    assert reading.sent == pytest.approx(np.bincount(trace.transfer_sources, taken, 3))
    assert reading.received == pytest.approx(np.bincount(trace.transfer_targets, taken, 3))


def one_move(given: Problem, plan: Plan, seed: int = 0) -> tuple[np.ndarray, Chain, Chain]:
    annealer = Annealer(given, build_hierarchy(given, 0, ()), neighbour_share=0.0)
    start = annealer.start(plan.devices, plan.ranks, seed)
    harvest = Harvest(np.zeros((1, len(MOVE_COLUMNS)), np.float32), np.zeros(1, np.float32))
    guided = GuidedAnnealer(annealer, blank_scorer(), Guidance(1, 2.0, 0.1, 1))
    moved = start
    while moved.evaluations == 0:
        moved = guided.advance(moved, 1, 1e9, 1.0, harvest)
    assert harvest.changes[0] == pytest.approx(moved.energy - start.energy, abs=1e-6)
    return harvest.features[0], start, moved


def test_features_of_a_move_by_hand() -> None:
    given, _ = two_chains()
    ops = given.graph.op_count
    row, start, moved = one_move(given, Plan.of(np.zeros(ops, np.int32)))
    told = dict(zip(MOVE_COLUMNS, row.tolist(), strict=True))
    assert (start.devices != moved.devices).sum() == 1
    op = int(np.flatnonzero(start.devices != moved.devices)[0])
    span = np.exp(start.energy)
    share = given.seconds[op, 0] / span
    assert told["moved_count"] == 0.0
    assert told["moved_share"] == 1.0
    assert told["busy_here"] == pytest.approx(1.0)
    assert told["busy_there"] == 0.0
    assert told["busy_there_after"] == pytest.approx(share)
    assert told["least_slack"] == 0.0, "one device without a pause has no slack"
    assert told["seconds_here"] == pytest.approx((np.log10(share) + 7) / 7, abs=1e-5)
    assert told["critical_here"] == told["seconds_here"]
    assert told["pull_now"] == told["push_now"] == 0.0
    assert told["last_end"] - told["first_start"] == pytest.approx(share, abs=1e-5)
    assert told["was_tried"] == 0.0


def test_a_rejected_move_is_not_tried_again_before_something_changes() -> None:
    given, _ = two_chains()
    half = Plan.of(np.repeat([0, 1], 6).astype(np.int32))  # the best there is
    annealer = Annealer(given, build_hierarchy(given, 0, ()), neighbour_share=0.0)
    guided = GuidedAnnealer(annealer, blank_scorer(), Guidance(8, 2.0, 0.1, 1))
    chain = annealer.start(half.devices, half.ranks, 0)
    worse = guided.advance(chain, 500, 0.0, 0.0)
    assert worse.evaluations <= 12 * (given.cluster.device_count - 1)
    assert worse.accepted == 0


@compiled
def _score_rows(scorer: MoveScorer, rows: np.ndarray, out: np.ndarray) -> None:
    for index in range(out.size):
        out[index] = score_move(scorer, rows[index])


@pytest.mark.parametrize("reads_trace", [True, False])
def test_compiled_scores_are_the_network_s(reads_trace: bool) -> None:
    torch.manual_seed(0)
    network = MoveNetwork((16, 8), reads_trace)
    rows = np.random.default_rng(0).normal(size=(50, len(MOVE_COLUMNS))).astype(np.float32)
    network.standardise(rows * 3 + 1)
    out = np.zeros(50)
    _score_rows(network.as_scorer(), rows, out)
    assert out == pytest.approx(network(torch.from_numpy(rows)).detach().numpy(), abs=1e-4)
    hidden = [name not in BLIND_COLUMNS for name in MOVE_COLUMNS]
    changed = rows + np.where(hidden, 1.0, 0.0).astype(np.float32)
    again = network(torch.from_numpy(changed)).detach().numpy()
    assert np.allclose(out, again, atol=1e-4) != reads_trace


@pytest.mark.slow
def test_the_network_learns_what_improves_and_finds_it_sooner() -> None:
    """On unseen graphs of the same kind, at equal numbers of simulations."""
    config = MoveConfig(least_evaluations=300, most_evaluations=2000, kept=2000)
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    network = MoveNetwork((32, 16))
    lessons = Lessons.none()
    for seed in range(12):
        sample = problem(seed, 80)
        hierarchy = build_hierarchy(sample, 0, (8,))
        plan = random_plan(sample, seed)
        found, _ = search_for_lessons(
            network.as_scorer(),
            sample,
            hierarchy,
            plan,
            Guidance(16, 2.0, 0.1, 1),
            0.02,
            config,
            rng,
        )
        lessons = lessons.and_then(found, 100_000)
    network.standardise(lessons.features.astype(np.float32))
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(300):
        learn_moves(network, optimizer, [draw_lessons(lessons, 1024, rng)], config)
    areas, gains = [], []
    for seed in range(100, 108):
        sample = problem(seed, 80)
        hierarchy = build_hierarchy(sample, 0, (8,))
        plan = random_plan(sample, seed)
        unseen, _ = search_for_lessons(
            MoveNetwork((4, 4)).as_scorer(),
            sample,
            hierarchy,
            plan,
            Guidance(16, 2.0, 0.1, 1),
            0.02,
            config,
            rng,
        )
        scores = network(torch.from_numpy(unseen.features.astype(np.float32)))
        areas.append(ranking_area(scores.detach().double().numpy(), unseen.improving))
        ends = []
        for scorer in (network.as_scorer(), blank_scorer()):
            annealer = Annealer(sample, hierarchy)
            chain = annealer.start(plan.devices, plan.ranks, 0)
            guided = GuidedAnnealer(annealer, scorer, Guidance(16, 2.0, 0.1, 1))
            while chain.evaluations < 60:
                chain = guided.advance(chain, 1, 0.0, 0.0)
            ends.append(chain.best_energy)
        gains.append(ends[0] - ends[1])
    assert np.nanmean(areas) > 0.8
    assert np.mean(gains) < -0.02, "after 60 simulations the taught one is ahead"


def test_searches_of_kernels_teach_too() -> None:
    sample = problem(3, 80)
    start = random_plan(sample, 3)
    kernels, hierarchy, plan = make_kernel_problem(sample, start, 0)
    assert kernels.graph.op_count < 80
    fused = fuse_problem(sample, start)
    assert kernels.evaluate(plan) == fused.kernels.evaluate(fused.kernels.known_plans[0])
    config = MoveConfig(least_evaluations=300, most_evaluations=600)
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    lessons, chain = search_for_lessons(
        MoveNetwork((4, 4)).as_scorer(),
        kernels,
        hierarchy,
        plan,
        Guidance(16, 2.0, 0.1, 1),
        0.02,
        config,
        rng,
    )
    assert len(lessons.changes) == chain.evaluations
    assert lessons.improving.any()
    assert chain.best_energy < np.log(kernels.evaluate(plan).makespan_seconds)


def test_lessons_keep_the_last() -> None:
    first = Lessons(np.zeros((3, 2), np.float16), np.array([1.0, 2.0, 3.0], np.float32))
    both = first.and_then(Lessons(np.ones((2, 2), np.float16), np.full(2, 4.0, np.float32)), 4)
    assert both.changes.tolist() == [2.0, 3.0, 4.0, 4.0]
    assert len(both.features) == 4
