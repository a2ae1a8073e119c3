"""Programs per device: cut from one order, free of deadlock, replayed with known answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from placement.runtime.programs.device_program import (
    DeviceProgram,
    Receive,
    Run,
    Send,
    TensorUse,
    Transfer,
    cut_program,
)
from placement.runtime.programs.replay import replay
from simulator.errors import PlanError


def test_two_devices_that_depend_on_each_other() -> None:
    works = [
        TensorUse(("x",), ("a",)),
        TensorUse(("a",), ("b",)),
        TensorUse(("a", "b"), ("c",)),
        TensorUse(("c", "weight"), ("d",)),
    ]
    devices = np.array([0, 1, 0, 1], np.int32)
    program = cut_program(np.arange(4), devices, works, 2, {"x": 1})
    assert program.transfers == (
        Transfer("x", 1, 0),
        Transfer("a", 0, 1),
        Transfer("b", 1, 0),
        Transfer("c", 0, 1),
    )
    assert program.steps[0] == (
        Receive(0), Run((0,)), Send(1), Receive(2), Run((2,)), Send(3),
    )  # fmt: skip
    assert program.steps[1] == (Send(0), Receive(1), Run((1,)), Send(2), Receive(3), Run((3,)))


def test_a_tensor_goes_once_to_each_device_and_runs_are_as_long_as_can_be() -> None:
    works = [TensorUse((), ("a",)), *(TensorUse(("a",), (f"b{i}",)) for i in range(4))]
    program = cut_program(np.arange(5), np.array([0, 1, 1, 2, 0], np.int32), works, 3)
    assert len(program.transfers) == 2
    assert program.steps[1] == (Receive(0), Run((1, 2)))
    split = cut_program(np.arange(5), np.array([0, 1, 1, 2, 0], np.int32), works, 3, alone=range(5))
    assert split.steps[1] == (Receive(0), Run((1,)), Run((2,)))


def test_an_order_that_reads_before_it_writes_is_refused() -> None:
    works = [TensorUse((), ("a",)), TensorUse(("a",), ("b",))]
    with pytest.raises(PlanError, match="before 'a'"):
        cut_program(np.array([1, 0]), np.zeros(2, np.int32), works, 1)


def test_replay_overlaps_sending_with_nothing_and_waits_for_arrival() -> None:
    works = [TensorUse((), ("a",)), TensorUse((), ("b",)), TensorUse(("a", "b"), ("c",))]
    program = cut_program(np.arange(3), np.array([0, 1, 1], np.int32), works, 2)
    assert program.steps == ((Run((0,)), Send(0)), (Run((1,)), Receive(0), Run((2,))))
    times = (np.array([5.0, 1.0]), np.array([2.0, 0.5, 3.0]))
    line = replay(program, times, np.full((2, 2), 0.25))
    assert line.begin[1].tolist() == [0.0, 6.25, 6.75]
    assert line.seconds == 9.75


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 40))
def test_no_program_cut_from_one_order_waits_for_itself(seed: int, count: int, ops: int) -> None:
    random = np.random.default_rng(seed)
    works = [
        TensorUse(tuple(f"t{j}" for j in range(i) if random.random() < 3 / (i + 1)), (f"t{i}",))
        for i in range(ops)
    ]
    devices = random.integers(0, count, ops).astype(np.int32)
    program = cut_program(np.arange(ops), devices, works, count)
    seconds = [random.random(len(steps)) for steps in program.steps]
    line = replay(program, seconds)
    assert program.op_count == ops
    busiest = max(float(values.sum()) for values in seconds)
    total = sum(float(values.sum()) for values in seconds)
    assert busiest <= line.seconds + 1e-9 <= total + 1e-6
    _check_transfers(program)


def _check_transfers(program: DeviceProgram) -> None:
    """Each transfer is sent once by its source and received once by its target."""
    for device, steps in enumerate(program.steps):
        for step in steps:
            if isinstance(step, Send):
                assert program.transfers[step.transfer].source == device
            if isinstance(step, Receive):
                assert program.transfers[step.transfer].target == device
    flat = [step for steps in program.steps for step in steps]
    for kind in (Send, Receive):
        numbers = [step.transfer for step in flat if isinstance(step, kind)]
        assert sorted(numbers) == list(range(len(program.transfers)))


def test_a_fusion_group_is_one_run_that_waits_for_all_its_inputs() -> None:
    works = [
        TensorUse((), ("a",)),
        TensorUse((), ("b",)),
        TensorUse(("a",), ("c",)),
        TensorUse(("c", "b"), ("d",)),
        TensorUse(("d",), ("e",)),
    ]
    devices = np.array([0, 1, 0, 0, 0], np.int32)
    program = cut_program(np.arange(5), devices, works, 2, groups={2: 9, 3: 9})
    assert program.steps[0] == (
        Run((0,)), Receive(0), Run((2, 3), fused=True), Run((4,)),
    )  # fmt: skip
