"""Streams of requests through a split model: order, errors, early ends, how many are on the way."""

import gc
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from device_models import core_cluster
from exported_models import CLUSTER, normal, save, shared_weight_model, value
from graph_samples import graph_of, op, toy_cluster
from onnx import helper
from split_runs import runner_module, split_of

import graphs
from placement.export.split_forecast import SESSION_SECONDS, forecast_split
from placement.problem import Problem
from simulator.plan import Plan

#: Two branches that cross between three devices and meet again: six parts.
PLACES = {"a": 0, "b": 1, "c": 2, "d": 1, "e": 0, "f": 2, "sum": 0}
#: Only so that a test that would hang ends; nothing is expected to take this long.
PATIENCE_SECONDS = 60


def crossing_model(path: Path) -> Path:
    node = helper.make_node
    nodes = [
        node("MatMul", ["x", "w"], ["a"], name="a"),
        node("Tanh", ["a"], ["b"], name="b"),
        node("MatMul", ["a", "w"], ["c"], name="c"),
        node("MatMul", ["b", "w"], ["d"], name="d"),
        node("Add", ["b", "c"], ["e"], name="e"),
        node("Mul", ["d", "e"], ["f"], name="f"),
        node("Add", ["f", "e"], ["y"], name="sum"),
    ]
    outputs = [value("y", "batch", 32), value("d", "batch", 32)]
    weights = {"w": normal(32, 32) / 6}
    return save(path, nodes, [value("x", "batch", 32)], outputs, weights)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return crossing_model(tmp_path / "model.onnx")


@pytest.fixture
def runner(model: Path, tmp_path: Path) -> ModuleType:
    return runner_module(split_of(model, tmp_path / "out", PLACES))


def requests(count: int) -> list[dict[str, np.ndarray]]:
    """All different, in sizes that differ too."""
    return [{"x": normal(2 + seed % 3, 32, seed=seed)} for seed in range(count)]


WRONG = {"x": normal(2, 31)}


@pytest.mark.parametrize("in_flight", [None, 1, 2, 7, 40])
def test_outputs_come_in_order_and_equal_the_original(
    model: Path, runner: ModuleType, in_flight: int | None
) -> None:
    whole = ort.InferenceSession(str(model))
    with runner.SplitModel(cpu=True) as split:
        assert len(split.devices) == 3
        assert len(split.parts) >= 6
        many = requests(20)
        got = list(split.stream(iter(many), in_flight))
        assert len(got) == 20
        for feeds, outputs in zip(many, got, strict=True):
            wanted = dict(zip(("y", "d"), whole.run(["y", "d"], feeds), strict=True))
            assert list(outputs) == ["y", "d"]
            for name, array in wanted.items():
                np.testing.assert_allclose(outputs[name], array, rtol=1e-4, atol=1e-5)
                np.testing.assert_array_equal(outputs[name], split.run(feeds)[name])


@pytest.mark.parametrize(("in_flight", "bound"), [(1, 1), (3, 3), (6, 6), (None, 4)])
def test_as_many_requests_as_said_are_on_the_way(
    runner: ModuleType, in_flight: int | None, bound: int
) -> None:
    given: Counter[str] = Counter()
    most = 0

    def counted() -> Iterator[dict[str, np.ndarray]]:
        nonlocal most
        for feeds in requests(15):
            given["taken"] += 1
            most = max(most, given["taken"] - given["came"])
            yield feeds

    with runner.SplitModel(cpu=True) as split:
        stream = split.stream(counted(), in_flight)
        assert given["taken"] == 0  # nothing is taken before it is asked for
        for _ in stream:
            given["came"] += 1
            assert given["taken"] <= min(given["came"] - 1 + bound, 15)
    assert given == {"taken": 15, "came": 15}
    assert most == bound


def test_endless_feeds_are_taken_as_they_are_needed(runner: ModuleType) -> None:
    def endless() -> Iterator[dict[str, np.ndarray]]:
        while True:
            yield {"x": normal(2, 32)}

    with runner.SplitModel(cpu=True) as split:
        stream = split.stream(endless())
        assert len([next(stream) for _ in range(9)]) == 9


def test_devices_work_on_different_requests_at_once(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first device begins the second request while the first is on the second device."""
    run = runner._Part.run
    second_began = threading.Event()
    order: list[tuple[str, int]] = []

    def watched(part: Any, values: dict[str, Any]) -> Any:
        rows = next(iter(values.values())).shape()[0]
        order.append((part.device, rows))
        if "a" in part.outputs and rows == 2:
            second_began.set()
        if "b" in part.outputs and rows == 1:
            assert second_began.wait(PATIENCE_SECONDS)
        return run(part, values)

    monkeypatch.setattr(runner._Part, "run", watched)
    with runner.SplitModel(cpu=True) as split:
        many = [{"x": normal(rows, 32)} for rows in (1, 2)]
        rows = [len(outputs["y"]) for outputs in split.stream(many, 2)]
    assert rows == [1, 2]
    assert order[0] == ("cpu:0", 1)


def test_a_device_takes_the_earliest_request_and_its_parts_in_order(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the second device stands still, the first begins all requests."""
    run = runner._Part.run
    ahead = threading.Event()
    taken: dict[str, list[tuple[int, int]]] = {}

    def watched(part: Any, values: dict[str, Any]) -> Any:
        rows = next(iter(values.values())).shape()[0]
        taken.setdefault(part.device, []).append((rows, parts.index(part)))
        if "a" in part.outputs and rows == 4:
            ahead.set()
        if "b" in part.outputs and rows == 1:
            assert ahead.wait(PATIENCE_SECONDS)
        return run(part, values)

    monkeypatch.setattr(runner._Part, "run", watched)
    with runner.SplitModel(cpu=True) as split:
        parts = split.parts
        many = [{"x": normal(rows, 32)} for rows in (1, 2, 3, 4)]
        assert len(list(split.stream(many, 4))) == 4
    first = [part for rows, part in taken["cpu:0"][:4]]
    assert first == [0, 0, 0, 0]  # the first part of all four, for nothing else was ready
    for device, found in taken.items():
        for rows in (1, 2, 3, 4):
            mine = [part for row, part in found if row == rows]
            assert mine == [n for n, part in enumerate(parts) if part.device == device]
        for part in {part for _, part in found}:
            assert [row for row, n in found if n == part] == [1, 2, 3, 4]


def test_parts_of_a_request_keep_their_order_though_a_later_one_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = helper.make_node
    nodes = [
        node("Neg", ["x"], ["m"], name="m"),
        node("Tanh", ["x"], ["n"], name="n"),
        node("Exp", ["m"], ["g"], name="g"),
        node("Exp", ["n"], ["k"], name="k"),
        node("Neg", ["k"], ["h"], name="h"),
    ]
    outputs = [value("g", "batch", 32), value("h", "batch", 32)]
    path = save(tmp_path / "m.onnx", nodes, [value("x", "batch", 32)], outputs, {})
    places = {"m": 1, "n": 0, "g": 0, "k": 2, "h": 0}
    runner = runner_module(split_of(path, tmp_path / "out", places))
    run = runner._Part.run
    ran: list[str] = []
    is_ahead = threading.Event()

    def watched(part: Any, values: dict[str, Any]) -> Any:
        ran.extend(part.outputs)
        if "h" in part.outputs:
            is_ahead.set()
        if "m" in part.outputs:
            is_ahead.wait(0.3)  # time for the part that should wait to come first
        return run(part, values)

    monkeypatch.setattr(runner._Part, "run", watched)
    with runner.SplitModel(cpu=True) as split:
        assert len(split.parts) == 5
        list(split.stream(requests(1)))
    assert ran.index("g") < ran.index("h")


def test_a_part_and_its_binding_have_one_request_at_a_time(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runner._Part.run
    users: Counter[int] = Counter()
    threads: dict[str, set[str]] = {}
    lock = threading.Lock()

    def watched(part: Any, values: dict[str, Any]) -> Any:
        with lock:
            users[id(part)] += 1
            assert users[id(part)] == 1
            threads.setdefault(part.device, set()).add(threading.current_thread().name)
        outputs = run(part, values)
        with lock:
            users[id(part)] -= 1
        return outputs

    monkeypatch.setattr(runner._Part, "run", watched)
    with runner.SplitModel(cpu=True) as split, ThreadPoolExecutor(3) as callers:
        jobs = [callers.submit(list, split.stream(requests(20), 5)) for _ in range(3)]
        for job in jobs:
            assert len(job.result(timeout=PATIENCE_SECONDS)) == 20
    assert [len(names) for names in threads.values()] == [1, 1, 1]


def test_an_error_of_a_request_is_raised_when_its_turn_comes(runner: ModuleType) -> None:
    many = requests(12)
    many[5] = WRONG
    with runner.SplitModel(cpu=True) as split:
        stream = split.stream(many)
        assert [len(next(stream)["y"]) for _ in range(5)] == [len(f["x"]) for f in many[:5]]
        with pytest.raises(runner.SplitError, match=r"part00-cpu_0\.onnx on cpu:0: "):
            next(stream)
        with pytest.raises(StopIteration):
            next(stream)
        np.testing.assert_array_equal(next(split.stream(many[6:7]))["y"], split.run(many[6])["y"])


def test_an_error_of_a_request_can_be_given_in_its_place(runner: ModuleType) -> None:
    many: list[Any] = list(requests(12))
    many[0] = WRONG
    many[3] = {"x": normal(2, 32).astype(np.float64)}
    many[4] = {"z": normal(2, 32)}
    many[7] = ValueError("what an earlier stream gave")
    many[11] = WRONG
    with runner.SplitModel(cpu=True) as split:
        got = list(split.stream(many, errors="return"))
        assert len(got) == 12
        for index, outputs in enumerate(got):
            if index in {0, 3, 4, 7, 11}:
                assert isinstance(outputs, Exception)
            else:
                np.testing.assert_array_equal(outputs["y"], split.run(many[index])["y"])
    assert isinstance(got[0], runner.SplitError)
    assert "the model reads float32" in str(got[3])
    assert "missing inputs ['x'], unknown inputs ['z']" in str(got[4])


def test_an_error_in_the_midst_of_a_request_leaves_the_others(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the request still has to run is dropped, on devices that have not come to it too."""
    run = runner._Part.run
    ran: list[tuple[int, int]] = []
    is_past = threading.Event()

    def failing(part: Any, values: dict[str, Any]) -> Any:
        rows = next(iter(values.values())).shape()[0]
        ran.append((rows, parts.index(part)))
        if "c" in part.outputs and rows == 2:
            raise RuntimeError("out of memory")
        if "c" in part.outputs and rows == 3:
            is_past.set()
        if "b" in part.outputs and rows == 1:
            assert is_past.wait(PATIENCE_SECONDS)
        return run(part, values)

    monkeypatch.setattr(runner._Part, "run", failing)
    with runner.SplitModel(cpu=True) as split:
        parts = split.parts
        many = [{"x": normal(rows, 32)} for rows in range(1, 6)]
        got = list(split.stream(many, errors="return"))
    assert [type(item) for item in got] == [dict, runner.SplitError, dict, dict, dict]
    assert "v100:1: out of memory" in str(got[1])
    whole = list(range(len(parts)))
    for rows in (1, 3, 4, 5):
        assert sorted(part for row, part in ran if row == rows) == whole
    assert sorted(part for row, part in ran if row == 2) == [
        index for index, part in enumerate(parts) if {"a", "c"}.intersection(part.outputs)
    ]


@pytest.mark.parametrize("errors", ["raise", "return"])
def test_an_error_of_the_feeds_comes_after_what_they_gave(runner: ModuleType, errors: str) -> None:
    def broken() -> Iterator[dict[str, np.ndarray]]:
        yield from requests(4)
        raise OSError("the file ends here")

    with runner.SplitModel(cpu=True) as split:
        got = []
        with pytest.raises(OSError, match="the file ends here"):
            for outputs in split.stream(broken(), errors=errors):
                got.append(len(outputs["y"]))  # noqa: PERF401 - it raises midway
        assert got == [len(feeds["x"]) for feeds in requests(4)]
        assert len(list(split.stream(requests(5)))) == 5


@pytest.mark.parametrize("how", ["break", "close", "collected", "thrown"])
def test_to_leave_early_ends_the_work_and_keeps_the_model(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    run = runner._Part.run
    inside: Counter[str] = Counter()
    lock = threading.Lock()

    def watched(part: Any, values: dict[str, Any]) -> Any:
        with lock:
            inside["now"] += 1
            inside["ever"] += 1
        try:
            return run(part, values)
        finally:
            with lock:
                inside["now"] -= 1

    monkeypatch.setattr(runner._Part, "run", watched)
    before = threading.active_count()
    with runner.SplitModel(cpu=True) as split:
        stream = split.stream(requests(30), 10)
        next(stream)
        if how == "thrown":
            with pytest.raises(KeyboardInterrupt):
                stream.throw(KeyboardInterrupt())
        elif how == "close":
            stream.close()
        elif how == "break":
            for _ in stream:
                break
        del stream
        gc.collect()
        assert inside["now"] == 0
        ever = inside["ever"]
        assert ever < 11 * len(split.parts)
        for pool in split.pools.values():  # whatever still waits there does nothing
            pool.submit(int).result()
        assert inside["ever"] == ever
        assert threading.active_count() <= before + len(split.devices)
        assert not split._streams
        many = requests(6)
        got = list(split.stream(many))
        np.testing.assert_array_equal(got[5]["y"], split.run(many[5])["y"])
    assert threading.active_count() == before


def test_to_leave_waits_for_the_part_that_runs(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runner._Part.run
    begun, go_on = threading.Event(), threading.Event()
    ended: list[int] = []

    def slow(part: Any, values: dict[str, Any]) -> Any:
        rows = next(iter(values.values())).shape()[0]
        if rows == 2 and "y" in part.outputs:
            begun.set()
            assert go_on.wait(PATIENCE_SECONDS)
            ended.append(rows)
        return run(part, values)

    monkeypatch.setattr(runner._Part, "run", slow)
    with runner.SplitModel(cpu=True) as split, ThreadPoolExecutor(1) as other:
        stream = split.stream([{"x": normal(rows, 32)} for rows in (1, 2, 3)], 3)
        next(stream)
        assert begun.wait(PATIENCE_SECONDS)
        left = other.submit(stream.close)
        assert not wait([left], timeout=0.2).done
        go_on.set()
        left.result(timeout=PATIENCE_SECONDS)
        assert ended == [2]


def test_close_ends_open_streams(runner: ModuleType) -> None:
    split = runner.SplitModel(cpu=True)
    before = set(threading.enumerate())
    stream = split.stream(requests(30), 8, errors="return")
    next(stream)
    split.close()
    assert not any(t.is_alive() for t in split.workers)
    assert set(threading.enumerate()) <= before
    with pytest.raises(runner.SplitError, match="the model was closed"):
        list(stream)
    with pytest.raises(runner.SplitError, match="the model was closed"):
        next(split.stream(requests(1)))
    split.close()


def test_close_wakes_who_waits_for_outputs(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runner._Part.run
    begun, go_on = threading.Event(), threading.Event()

    def slow(part: Any, values: dict[str, Any]) -> Any:
        begun.set()
        assert go_on.wait(PATIENCE_SECONDS)
        return run(part, values)

    monkeypatch.setattr(runner._Part, "run", slow)
    split = runner.SplitModel(cpu=True)
    with ThreadPoolExecutor(2) as others:
        waiting = others.submit(list, split.stream(requests(3)))
        assert begun.wait(PATIENCE_SECONDS)
        closing = others.submit(split.close)
        while not split._is_closed:
            pass
        go_on.set()
        closing.result(timeout=PATIENCE_SECONDS)
        with pytest.raises(runner.SplitError, match="the model was closed"):
            waiting.result(timeout=PATIENCE_SECONDS)


def test_several_streams_and_runs_at_once(runner: ModuleType) -> None:
    many = requests(24)
    with runner.SplitModel(cpu=True) as split, ThreadPoolExecutor(6) as callers:
        wanted = [split.run(feeds)["y"] for feeds in many]
        streams = [
            callers.submit(lambda n: [o["y"] for o in split.stream(many, n)], n) for n in (1, 3, 9)
        ]
        runs = [callers.submit(split.run, feeds) for feeds in many]
        for job in streams:
            for got, array in zip(job.result(timeout=PATIENCE_SECONDS), wanted, strict=True):
                np.testing.assert_array_equal(got, array)
        for run, array in zip(runs, wanted, strict=True):
            np.testing.assert_array_equal(run.result(timeout=PATIENCE_SECONDS)["y"], array)


def test_a_stream_may_feed_another(runner: ModuleType) -> None:
    many = requests(10)
    with runner.SplitModel(cpu=True) as split:
        once = split.stream(many)
        twice = list(split.stream({"x": outputs["y"]} for outputs in once))
        for feeds, outputs in zip(many, twice, strict=True):
            wanted = split.run({"x": split.run(feeds)["y"]})
            np.testing.assert_array_equal(outputs["y"], wanted["y"])


def test_tensors_are_let_go_as_requests_end(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[set[str]] = []
    run = runner._Part.run

    def noted(part: Any, values: dict[str, Any]) -> Any:
        held.append(set(values))
        return run(part, values)

    monkeypatch.setattr(runner._Part, "run", noted)
    with runner.SplitModel(cpu=True) as split:
        list(split.stream(requests(1)))
    assert "x" in held[0]
    assert held[-1] <= {"d", "e", "f"}


def test_nothing_to_do_and_wrong_settings(runner: ModuleType) -> None:
    with runner.SplitModel(cpu=True) as split:
        assert list(split.stream([])) == []
        with pytest.raises(ValueError, match="in_flight is 0; give 1 or more"):
            split.stream(requests(1), 0)
        with pytest.raises(ValueError, match=r"errors is 'ignore'; give \"raise\" or \"return\""):
            split.stream(requests(1), errors="ignore")


def test_the_period_is_what_the_busiest_device_takes() -> None:
    graph = graph_of(
        op("x", 0, output_bytes=8),
        op("a", 2, ("x",), 8),
        op("b", 4, ("a",), 8),
        op("c", 3, ("b",), 8),
        op("d", 6, ("c",), 8),
    )
    problem = Problem(graph, toy_cluster(2))
    found = forecast_split(problem, Plan.of(np.array([0, 0, 1, 0, 1])))
    assert found.part_count == 4
    copies = found.period_seconds - (4 + 6 + 2 * SESSION_SECONDS)  # the second device's
    assert 0 < copies < 1e-3
    assert found.period_seconds < found.makespan_seconds
    alone = forecast_split(problem, Plan.of(np.zeros(5)))
    assert alone.period_seconds == alone.makespan_seconds


def test_the_manifest_predicts_the_period(runner: ModuleType, model: Path) -> None:
    assert runner.__file__ is not None
    manifest = json.loads((Path(runner.__file__).parent / "model.split.json").read_text())
    graph = graphs.load(model)
    plan = Plan.of(np.array([PLACES.get(name, 0) for name in graph.op_names]))
    wanted = forecast_split(Problem(graph, CLUSTER), plan).period_seconds
    assert manifest["predicted_period_seconds"] == wanted


def command(tmp_path: Path) -> tuple[list[str], Path]:
    model = shared_weight_model(tmp_path / "model.onnx")
    places = {"second": 1, "add": 1}
    script = split_of(model, tmp_path / "out", places, cluster=core_cluster())
    return [sys.executable, str(script)], model


def test_a_stream_by_command(tmp_path: Path) -> None:
    start, model = command(tmp_path)
    flags = ["--random", "--check", str(model), "--stream", "10", "--in-flight", "2"]
    done = subprocess.run([*start, *flags], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "of 10 requests as a stream: " in done.stdout
    manifest = json.loads((tmp_path / "out" / "model.split.json").read_text())
    period = manifest["predicted_period_seconds"]
    (said,) = [line for line in done.stdout.splitlines() if line.startswith("stream: ")]
    assert f"predicted {1 / period:.4g} steps/s, one each {1e3 * period:.3f} ms" in said
    assert "(10 steps after 5 to warm up, at most 2 on the way)" in said
    assert "split, one request after the other: " in done.stdout
    assert "original in one session on the CPU, 1 core: " in done.stdout
    feeds = tmp_path / "in.npz"
    np.savez(feeds, x=normal(2, 32))
    flags = ["--inputs", str(feeds), "--stream", "3"]
    done = subprocess.run([*start, *flags], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "at most 3 on the way" in done.stdout
    assert "original" not in done.stdout


def test_a_stream_by_command_finds_a_request_that_differs(tmp_path: Path) -> None:
    """The first request is equal; a later one, in which numbers are above zero, is not."""
    start, _ = command(tmp_path)
    node = helper.make_node
    other = save(
        tmp_path / "other.onnx",
        [
            node("MatMul", ["x", "w"], ["a"]), node("Relu", ["a"], ["b"]),
            node("MatMul", ["b", "w"], ["c"]), node("Add", ["c", "bias"], ["d"]),
            node("MatMul", ["d", "w"], ["e"]), node("Add", ["e", "a"], ["s"]),
            node("ReduceMax", ["x"], ["m"], keepdims=0), node("Greater", ["m", "t"], ["g"]),
            node("Cast", ["g"], ["k"], to=1), node("Add", ["s", "k"], ["y"]),
        ],
        [value("x", "batch", 32)], [value("y", "batch", 32), value("bias", 32)],
        {"w": normal(32, 32) / 6, "bias": normal(32, seed=1), "t": largest_of_the_first()},
    )  # fmt: skip
    flags = ["--random", "--check", str(other)]
    alone = subprocess.run([*start, *flags], capture_output=True, text=True, check=False)
    assert alone.returncode == 0, alone.stdout
    streamed = subprocess.run(
        [*start, *flags, "--stream", "8"], capture_output=True, text=True, check=False
    )
    assert streamed.returncode == 1
    assert "TOO LARGE" in streamed.stdout


def largest_of_the_first() -> np.ndarray:
    """Of the inputs that `--random` makes up first; others are larger."""
    found = np.random.default_rng(0).standard_normal((1, 32)).astype(np.float32)
    return np.asarray(found.max())


@pytest.mark.parametrize(
    "flags", [["--in-flight", "2"], ["--stream", "0"], ["--stream", "4", "--in-flight", "0"]]
)
def test_wrong_flags_are_refused(tmp_path: Path, flags: list[str]) -> None:
    start, _ = command(tmp_path)
    done = subprocess.run([*start, "--random", *flags], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert flags[-2] in done.stderr
