"""What compiled kernels must not be given is refused by name, before it gets there."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from graph_samples import random_cluster, random_devices, random_graph, toy_cluster, with_hosts

from placement.annealing.anneal import Annealer, Chain
from placement.annealing.guided_anneal import Guidance, GuidedAnnealer, Harvest
from placement.annealing.hierarchy import Hierarchy, build_hierarchy
from placement.annealing.move_features import MOVE_COLUMNS
from placement.annealing.move_scorer import blank_scorer
from placement.heuristics.list_scheduling import ListScheduling, schedule
from placement.priorities import upward_ranks
from placement.problem import Problem
from simulator.errors import KernelInputError
from simulator.event_engine.kernel import run_kernel
from simulator.event_engine.program import ProgramArrays, check_program
from simulator.event_engine.state import NO_RECORDING, check_recording, make_recording
from simulator.fusion import xla_like_groups
from simulator.kernel_checks import check_offsets, check_plan, check_ranks
from simulator.plan import Plan
from simulator.simulator import Simulator

OPS, DEVICES = 40, 3
GUIDANCE = Guidance(2, 2.0, 0.1, 1)


def problem(seed: int = 0) -> Problem:
    return Problem(random_graph(seed, OPS), toy_cluster(DEVICES, bytes_per_second=1e3))


def program() -> ProgramArrays:
    return problem().simulator.program.arrays


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


@pytest.mark.parametrize(
    ("devices", "ranks", "peak", "message"),
    [
        (ints(0, 1), ints(1, 0, 2), 2, r"devices has shape \(2,\); it must have \(3,\)"),
        (np.zeros(3), ints(1, 0, 2), 2, "devices is float64; it must be an array of int32"),
        (ints(0, 9, 9, 9, 1, 9)[::2], ints(1, 0, 2), 2, "devices is not laid out row by row"),
        (ints(0, 2, 1), ints(1, 0, 2), 2, r"devices\[1\] is 2; it must be from 0 to 1"),
        (ints(0, -1, 1), ints(1, 0, 2), 2, r"devices\[1\] is -1; it must be from 0 to 1"),
        (ints(0, 1, 1), ints(1, 3, 2), 2, r"ranks\[1\] is 3; it must be from 0 to 2"),
        (ints(0, 1, 1), ints(1, 0, 1), 2, "ranks has 1 more than once; it must be a permutation"),
        (ints(0, 1, 1), ints(1, 0, 2), 3, r"peak has shape \(3,\); it must have \(2,\)"),
    ],
)
def test_plans_that_cannot_be_run(
    devices: np.ndarray, ranks: np.ndarray, peak: int, message: str
) -> None:
    check_plan(ints(0, 1, 1), ints(1, 0, 2), np.zeros(2, np.int64), (3, 2))
    with pytest.raises(KernelInputError, match=message):
        check_plan(devices, ranks, np.zeros(peak, np.int64), (3, 2))


def test_arrays_that_cannot_be_written() -> None:
    ranks = ints(1, 0, 2)
    ranks.setflags(write=False)
    with pytest.raises(KernelInputError, match="ranks is read-only; it must be writable"):
        check_plan(ints(0, 1, 1), ranks, np.zeros(2, np.int64), (3, 2))


def test_nothing_at_all_is_fine() -> None:
    check_ranks("ranks", ints())
    check_offsets("offsets", ints(0), 0)


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        (ints(), "goes from nowhere; it must go from 0 to 5"),
        (ints(1, 5), "goes from 1 to 5; it must go from 0 to 5"),
        (ints(0, 6), "goes from 0 to 6; it must go from 0 to 5"),
        (ints(0, 4, 3, 5), r"offsets\[2\] is 3, less than the 4 before it"),
    ],
)
def test_offsets_that_lead_astray(offsets: np.ndarray, message: str) -> None:
    with pytest.raises(KernelInputError, match=message):
        check_offsets("offsets", offsets, 5)


def lengthened(values: np.ndarray) -> np.ndarray:
    return np.append(values, values[-1:])


@pytest.mark.parametrize(
    ("field", "damage", "message"),
    [
        ("consumers", lambda v: v + OPS, rf"consumers\[0\] is \d+; it must be from 0 to {OPS - 1}"),
        ("edge_tensors", lambda v: v - 9, r"edge_tensors\[0\] is -\d; it must be from 0"),
        ("alias_edges", lambda v: v - 1, r"alias_edges\[\d+\] is -2; it must be from -1"),
        ("link_channels", lambda v: v + 99, r"link_channels\[0\] is 98; it must be from -1 to 5"),
        ("input_offsets", lambda v: v[::-1].copy(), "input_offsets goes from"),
        ("weight_offsets", lambda v: v + 1, "weight_offsets goes from 1"),
        ("tensor_bytes", lengthened, r"tensor_bytes has shape .*; axis 0 must be"),
        ("host", lambda v: np.zeros((2, v.shape[1])), "host has 2 rows; it must have one for each"),
        ("seconds", np.asfortranarray, "seconds is not laid out row by row"),
        ("alone", lambda v: v.astype(bool), "alone is bool; it must be an array of uint8"),
        ("seconds", lambda v: v[:, 0].copy(), "seconds has 1 axes; it must have 2"),
    ],
)
def test_programs_whose_indices_lead_nowhere(field: str, damage: object, message: str) -> None:
    sound = program()
    check_program(sound)
    damaged = sound._replace(**{field: damage(getattr(sound, field))})  # type: ignore[operator]
    with pytest.raises(KernelInputError, match=f"ProgramArrays.{message}"):
        check_program(damaged)


def test_recordings_have_room_for_all_that_happens_or_for_nothing() -> None:
    p = program()
    ops, tensors, edges = len(p.seconds), len(p.tensor_bytes), len(p.consumers)
    check_recording(NO_RECORDING, p)
    check_recording(make_recording(ops, tensors, edges), p)
    with pytest.raises(KernelInputError, match=r"Recording.op_ready .* there are 40 ops"):
        check_recording(make_recording(ops - 1, tensors, edges), p)
    with pytest.raises(KernelInputError, match=r"Recording.copy_tensor .* copies"):
        check_recording(make_recording(ops, tensors, edges - 1), p)


def annealer(given: Problem) -> tuple[Annealer, Chain]:
    made = Annealer(given, build_hierarchy(given, 0, (4,)))
    return made, made.start(np.zeros(OPS, np.int32), np.arange(OPS, dtype=np.int32), 0)


def test_chains_of_other_clusters_and_graphs() -> None:
    made, chain = annealer(problem())
    beyond = replace(chain, devices=np.full(OPS, DEVICES, np.int32))
    with pytest.raises(KernelInputError, match=r"devices\[0\] is 3; it must be from 0 to 2"):
        made.advance(beyond, 1, 0.0)
    with pytest.raises(KernelInputError, match=r"ranks\[0\] is 99"):
        made.energy(chain.devices, np.full(OPS, 99, np.int32))
    ranks = ints(*range(OPS - 1))
    shorter = Chain(ranks * 0, ranks, 0.0, ranks * 0, ranks, 0.0, 1)
    with pytest.raises(KernelInputError, match=r"Walk.devices .* there are 40 ops"):
        made.advance(shorter, 1, 0.0)


@pytest.mark.parametrize(
    ("field", "damage", "message"),
    [
        ("members", lambda v: v + 1, "members.* must be from 0 to 39"),
        ("member_offsets", lambda v: np.sort(v)[::-1].copy(), "member_offsets goes from"),
        ("allowed", lambda v: v[:, :2].copy(), r"MoveGroups.allowed .* there are 3 devices"),
        ("level_offsets", lambda v: np.sort([*v, v[1]]), "groups of each level.* is 0"),
    ],
)
def test_groups_of_other_graphs_and_clusters(field: str, damage: object, message: str) -> None:
    given = problem()
    sound = build_hierarchy(given, 0, (4,))
    damaged: Hierarchy = replace(sound, **{field: damage(getattr(sound, field))})  # type: ignore[operator]
    with pytest.raises(KernelInputError, match=message):
        Annealer(given, damaged)


def test_scorers_and_harvests_of_other_widths() -> None:
    made, chain = annealer(problem())
    narrow = blank_scorer(2)
    with pytest.raises(KernelInputError, match=r"MoveScorer.second .* there are 2 width"):
        GuidedAnnealer(made, narrow._replace(second=blank_scorer(3).second), GUIDANCE)
    guided = GuidedAnnealer(made, narrow, GUIDANCE)
    with pytest.raises(KernelInputError, match=r"MoveScorer.first .* there are 2 width"):
        guided.take(blank_scorer(1))
    columns = len(MOVE_COLUMNS)
    short = Harvest(np.zeros((4, columns), np.float32), np.zeros(5, np.float32))
    with pytest.raises(KernelInputError, match=r"Harvest.changes .* there are 4 tries"):
        guided.advance(chain, 1, 0.0, 0.0, short)


def test_orders_that_leave_ops_out_or_turn_edges_round() -> None:
    given = problem()
    order = np.arange(OPS, dtype=np.int32)
    with pytest.raises(KernelInputError, match="order has shape"):
        schedule(given, order[1:], ListScheduling())
    with pytest.raises(KernelInputError, match="order has 1 more than once"):
        schedule(given, np.where(order == 0, 1, order).astype(np.int32), ListScheduling())
    with pytest.raises(KernelInputError, match=r"order has op \d+ before an op that it reads from"):
        schedule(given, order[::-1], ListScheduling())


def test_kernels_are_compiled_for_one_kind_of_array() -> None:
    """A plan's arrays are read-only, a fused program's are others: neither compiles anew."""
    for seed in range(2):
        graph, cluster = random_graph(seed, OPS), random_cluster(seed)
        cluster = with_hosts(cluster, seed) if seed else cluster
        devices = random_devices(graph, cluster, seed)
        simulator = Simulator.of(graph, cluster)
        for fusion in (None, xla_like_groups(graph, devices)):
            simulator.trace(Plan.of(devices, None, fusion))
            simulator.evaluate(Plan.of(devices, None, fusion))
    given = problem()
    made, chain = annealer(given)
    guided = GuidedAnnealer(made, blank_scorer(2), GUIDANCE)
    upward_ranks(given, chain.devices)
    schedule(given, np.arange(OPS, dtype=np.int32), ListScheduling(), np.ones(DEVICES, bool))
    for temperature in (0, 0.5):
        made.advance(chain, 1, temperature)
        guided.advance(chain, 1, temperature, temperature)
    from placement import priorities
    from placement.annealing import anneal, guided_anneal
    from placement.heuristics import list_scheduling

    dispatchers: tuple[Any, ...] = (  # numba, which makes them, has no types
        run_kernel,
        anneal._advance,
        guided_anneal._advance,
        list_scheduling._schedule,
        priorities._ranks_by_placement,
    )
    for kernel in dispatchers:
        # Other tests of this process may have run several steps, which are compiled apart.
        single = [given for given in kernel.signatures if "Slots(UniTuple" not in str(given)]
        assert len(single) == 1, kernel.signatures
