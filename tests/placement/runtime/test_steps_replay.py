"""Overlapping steps on paper: known answers, the rule by which devices choose, and no deadlock."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from placement.runtime.pipelines.replay import replay_steps
from placement.runtime.pipelines.source import feed_count
from placement.runtime.programs.device_program import DeviceProgram, TensorUse, cut_program
from placement.runtime.programs.replay import replay
from simulator.steps import StepSchedule

#: Two stages: a run and a send, then a receive and a run.
TWO_STAGES = cut_program(
    np.arange(2),
    np.array([0, 1], np.int32),
    [TensorUse((), ("a",)), TensorUse(("a",), ("b",))],
    2,
)


def every_step(values: list[float], steps: int) -> np.ndarray:
    return np.tile(np.array(values), (steps, 1))


def test_a_full_pipeline_takes_as_long_as_its_slowest_stage() -> None:
    seconds = [every_step([3.0, 1.0], 8), every_step([0.5, 5.0], 8)]
    found = replay_steps(TWO_STAGES, seconds, StepSchedule(8, 2))
    evaluation = found.evaluation()
    assert evaluation.period_seconds == 5.5
    assert found.end[1][0, -1] == 9.5
    # The first stage waits until a step has ended before it takes the next but one.
    assert found.release.tolist()[:4] == [0.0, 0.0, 9.5, 15.0]
    # Once it is full, the second device always works, and the first four of every 5.5 seconds.
    first, second = found.overlap()
    assert first[4:7] == pytest.approx(1.0)
    assert second[4:6, 1].tolist() == pytest.approx([0.8, 0.8], abs=0.11)
    alone = replay_steps(TWO_STAGES, seconds, StepSchedule(8, 1)).evaluation()
    assert alone.period_seconds == alone.latency_seconds == 9.5


def test_the_wire_is_nobodys_time() -> None:
    seconds = [every_step([3.0, 1.0], 6), every_step([0.5, 5.0], 6)]
    wire = np.full((2, 2), 2.0)
    found = replay_steps(TWO_STAGES, seconds, StepSchedule(6, 3), wire)
    assert found.begin[1][0, 0] == 6.0
    assert found.evaluation().period_seconds == 5.5


def test_devices_take_the_oldest_step_that_can_go_on() -> None:
    # Device 0 computes, lets device 1 compute, and ends the step.
    works = [
        TensorUse((), ("a",)),
        TensorUse(("a",), ("b",)),
        TensorUse(("b",), ("c",)),
    ]
    program = cut_program(np.arange(3), np.array([0, 1, 0], np.int32), works, 2)
    seconds = [every_step([2.0, 0.0, 0.0, 2.0], 4), every_step([0.0, 3.0, 0.0], 4)]
    found = replay_steps(program, seconds, StepSchedule(4, 3))
    # Three begin; the first goes on at 5, when its tensor is there and the third has begun.
    assert found.begin[0][:, 0].tolist()[:3] == [0.0, 2.0, 4.0]
    assert found.begin[0][0, 3] == 6.0
    assert found.begin[0][3, 0] == found.end[0][0, 3]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 25), st.integers(1, 6))
def test_no_plan_waits_for_itself(seed: int, devices: int, ops: int, in_flight: int) -> None:
    random = np.random.default_rng(seed)
    program = drawn_program(random, devices, ops)
    once = [random.random(len(pieces)) for pieces in program.steps]
    steps = 7
    seconds = [np.tile(values, (steps, 1)) for values in once]
    found = replay_steps(program, seconds, StepSchedule(steps, in_flight))
    busiest = max(float(values.sum()) for values in once) * steps
    alone = replay(program, once).seconds
    makespan = found.evaluation().makespan_seconds
    assert busiest - 1e-9 <= makespan <= alone * steps * (1 + 1e-9) * devices
    if in_flight == 1:
        assert makespan == pytest.approx(alone * steps)
    for begin, end, order in zip(found.begin, found.end, found.orders, strict=True):
        assert (np.diff(begin, axis=1) >= (end - begin)[:, :-1] - 1e-9).all()
        one_by_one = begin.ravel()[order][1:] >= end.ravel()[order][:-1] - 1e-9
        assert one_by_one.all()


def drawn_program(random: np.random.Generator, devices: int, ops: int) -> DeviceProgram:
    works = [
        TensorUse(tuple(f"t{j}" for j in range(i) if random.random() < 3 / (i + 1)), (f"t{i}",))
        for i in range(ops)
    ]
    placed = random.integers(0, devices, ops).astype(np.int32)
    return cut_program(np.arange(ops), placed, works, devices)


@pytest.mark.parametrize("in_flight", range(1, 20))
def test_neither_neighbours_nor_heirs_have_the_same_input(in_flight: int) -> None:
    feeds = feed_count(StepSchedule(100, in_flight))
    assert in_flight % feeds
    assert feeds > min(in_flight, 7)
