"""The objective throughput on the command line: steps that overlap, and what they come to."""

import json
from pathlib import Path
from typing import Any

import pytest
from graph_samples import graph_of, op
from onnx import TensorProto, helper, save

from agent.cli.app import run
from agent.cli.carried_state import state_between_steps
from agent.cli.throughput_flags import nearest_divisors
from graphs.graph_file import write_graph
from graphs.kinds import OpKind, Phase

CLUSTER = ("-c", "2xv100-pcie")
THROUGHPUT = ("--objective", "throughput", "--budget", "0.3")


@pytest.fixture
def chain(tmp_path: Path) -> str:
    """Eight equal ops in a row: no placement makes one step faster, two devices double steps."""
    records = (op(f"a{i}", 1e12, (f"a{i - 1}",) if i else (), 1000) for i in range(8))
    path = tmp_path / "chain.gwgraph"
    write_graph(graph_of(*records), path)
    return str(path)


@pytest.fixture
def thirsty(tmp_path: Path) -> str:
    """An input of 300,000 bytes that is there as soon as a step is let in, and waits to be read."""
    path = tmp_path / "thirsty.gwgraph"
    write_graph(
        graph_of(
            op("x", 0, (), 300_000, kind=OpKind.CONSTANT),
            op("a", 1e12, ("x",), 8),
            op("b", 1e12, ("a",), 8),
        ),
        path,
    )
    return str(path)


@pytest.fixture
def training(tmp_path: Path) -> str:
    """Two layers forward and backward, each with an update."""
    back = Phase.BACKWARD
    records = [
        op("f0", 1e12, (), 1000),
        op("f1", 1e12, ("f0",), 1000),
        op("b1", 1e12, ("f1",), 1000, phase=back),
        op("b0", 1e12, ("b1", "f0"), 1000, phase=back),
        op("u1", 1, ("b1",), 8, kind=OpKind.OPTIMIZER_UPDATE, phase=Phase.UPDATE),
        op("u0", 1, ("b0",), 8, kind=OpKind.OPTIMIZER_UPDATE, phase=Phase.UPDATE),
    ]
    path = tmp_path / "training.gwgraph"
    write_graph(graph_of(*records), path)
    return str(path)


def told(capsys: pytest.CaptureFixture[str], *tokens: str) -> tuple[int, dict[str, Any]]:
    code = run([*tokens, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_place_tells_and_writes_steps_that_overlap(
    chain: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    flags = (*CLUSTER, *THROUGHPUT, "--in-flight", "3", "--batch", "16", "--out", str(out))
    code, found = told(capsys, "place", chain, *flags)
    assert code == 0
    assert found["feasible"]
    one = found["splits"]["one device"]
    assert found["period_seconds"] == pytest.approx(one / 2, rel=1e-3)
    assert found["period_bound_seconds"] <= found["period_seconds"] < found["latency_seconds"]
    assert (found["in_flight"], found["micro_batches"], found["order"]) == (3, 1, "oldest-first")
    assert found["samples_per_second"] == pytest.approx(16 / found["period_seconds"])
    assert [stage["ops"] for stage in found["stages"]] == [4, 4]
    # A step holds two tensors of 1000 bytes where it is computed; three steps overlap.
    assert max(found["peak_bytes"].values()) > 2000
    predicted = json.loads((out / "plan.json").read_text())["predicted"]
    for key in ("objective", "period_seconds", "latency_seconds", "in_flight", "micro_batches"):
        assert predicted[key] == found[key]
    trace = json.loads((out / "trace.json").read_text())
    assert trace["otherData"]["in_flight"] == 3
    names = {event.get("name", "") for event in trace["traceEvents"]}
    assert {"step 0: a0", "step 2: a7"} <= names
    assert "at most 3 on the way" in (out / "report.html").read_text()


def test_place_shows_periods_memory_and_samples(
    training: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (*CLUSTER, *THROUGHPUT, "--micro-batches", "4", "--batch", "32")
    assert run(["place", training, *words]) == 0
    text = capsys.readouterr().out
    assert "fullest device" in text
    assert " in flight, " in text
    assert "one of 4 micro-batches: the whole training step takes" in text
    assert "samples a second, 8 in each step" in text
    code, found = told(capsys, "place", training, *words)
    assert code == 0
    assert found["whole_step_seconds"] == pytest.approx(4 * found["period_seconds"])
    assert found["samples_per_second"] == pytest.approx(8 / found["period_seconds"])


def test_a_split_model_hops_through_the_host(
    chain: str, thirsty: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {}
    for form in ((), ("--for", "onnx-split")):
        code, values = told(capsys, "place", chain, *CLUSTER, *THROUGHPUT, *form)
        assert code == 0
        found[values["transfers"]] = values
    assert set(found) == {"channels", "hops"}
    # A device that sends is busy with it: the same cut takes longer.
    assert found["hops"]["period_seconds"] > found["channels"]["period_seconds"]
    assert found["hops"]["in_flight"] == 4
    many = ("--for", "onnx-split", "--in-flight", "8")
    code, values = told(capsys, "place", thirsty, "-c", "2xv100-pcie@1MiB", *THROUGHPUT, *many)
    assert code == 3
    assert "steps in flight do not fit in memory" in values["error"]


def test_what_does_not_fit_or_divide_is_one_message(
    chain: str, thirsty: str, training: str, capsys: pytest.CaptureFixture[str]
) -> None:
    throughput = (*CLUSTER, *THROUGHPUT)
    code, found = told(
        capsys, "place", thirsty, "-c", "2xv100-pcie@1MiB", *THROUGHPUT, "--in-flight", "8"
    )
    assert code == 3
    assert "at most 3 fit" in found["error"]
    code, found = told(capsys, "place", thirsty, "-c", "2xv100-pcie@1MiB", *THROUGHPUT)
    assert (code, found["in_flight"]) == (0, 3)
    for model, flags, message in (
        (
            training,
            (*throughput, "--batch", "30", "--micro-batches", "8"),
            "--micro-batches 6 or 10",
        ),
        (chain, (*throughput, "--in-flight", "0"), "--in-flight 0: give at least 1"),
        (chain, (*throughput, "--in-flight", "1000000"), "10,000 at most"),
        (chain, (*throughput, "--micro-batches", "4"), "updates nothing"),
        (training, throughput, "micro-batches"),
        (chain, (*throughput, "--fuse"), "search of its own"),
        (chain, (*throughput, "--min-gain", "2%"), "leave out --min-gain"),
        (chain, (*CLUSTER, "--in-flight", "4"), "add --objective throughput"),
        (chain, (*CLUSTER, "--batch", "4"), "goes with --objective throughput"),
    ):
        code, found = told(capsys, "place", model, *flags)
        assert (code, message in found["error"]) == (2, True), found["error"]


def test_nearest_divisors() -> None:
    assert nearest_divisors(30, 8) == [6, 10]
    assert nearest_divisors(7, 3) == [1, 7]
    assert nearest_divisors(12, 20) == [12]
    assert nearest_divisors(36, 8) == [6, 9]


def test_state_between_steps_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shape = [8, 8]
    names = ("x", "past_key_values.0.key", "y", "present.0.key")
    x, past, y, present = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in names
    )
    nodes = [
        helper.make_node("MatMul", ["x", "past_key_values.0.key"], ["present.0.key"]),
        helper.make_node("MatMul", ["present.0.key", "x"], ["y"]),
    ]
    model = tmp_path / "cached.onnx"
    graph = helper.make_graph(nodes, "cached", [x, past], [y, present])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), model)
    assert state_between_steps(str(model)) == [("past_key_values.0.key", "present.0.key")]
    code, found = told(capsys, "place", str(model), *CLUSTER, *THROUGHPUT)
    assert code == 0
    assert found["state_between_steps"] == [["past_key_values.0.key", "present.0.key"]]
    assert run(["place", str(model), *CLUSTER, *THROUGHPUT]) == 0
    assert "steps of one sequence wait for each other" in capsys.readouterr().out


def test_compare_runs_the_steps_of_every_plan(
    chain: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (*CLUSTER, *THROUGHPUT, "--in-flight", "4")
    code, found = told(capsys, "compare", chain, *words)
    assert code == 0
    rows = {(row["plan"], row["made_for"]): row for row in found["plans"]}
    splits = {"equal layers", "equal bytes", "equal flops", "balanced DP", "contiguous"}
    assert {(name, "throughput") for name in (*splits, "one device", "search")} <= set(rows)
    assert {(name, "latency") for name in ("single", "portfolio", "search")} <= set(rows)
    assert {row["in_flight"] for row in rows.values()} == {4}
    best, alone = found["plans"][0], rows["single", "latency"]
    assert found["chosen"] in {name for name, kind in rows if kind == "throughput"}
    # A latency placer keeps a chain on one device; half of it on each makes twice the steps.
    assert best["period_seconds"] == pytest.approx(alone["period_seconds"] / 2, rel=1e-3)
    assert alone["period_seconds"] == rows["one device", "throughput"]["period_seconds"]
    assert alone["makespan_seconds"] == pytest.approx(alone["period_seconds"])
    assert best["makespan_seconds"] > alone["makespan_seconds"]
    assert run(["compare", chain, *words, "--placer", "heft"]) == 0
    text = capsys.readouterr().out
    assert "steps/s" in text
    assert "heft" in text
    assert "portfolio" not in text


def test_compare_of_a_folder_has_a_column_for_each_cut(
    chain: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ("--suite", str(Path(chain).parent))
    code, found = told(capsys, "compare", *folder, *CLUSTER, *THROUGHPUT)
    assert code == 0
    (row,) = found["rows"]
    assert {"equal layers", "portfolio"} <= {plan["plan"] for plan in row["plans"]}
    assert run(["compare", *folder, *CLUSTER, *THROUGHPUT]) == 0
    text = capsys.readouterr().out
    assert "place / one device: geometric mean 0.500, 1 of 1 pairs where both fit" in text
    assert "portfolio (latency)" in text


def test_sweep_tells_steps_per_second_of_each_cluster(
    chain: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = told(capsys, "sweep-clusters", chain, "--count", "1", "2", *THROUGHPUT)
    assert code == 0
    one, two = found["clusters"]
    assert (one["cluster"], one["split"]) == ("1xv100-pcie", "one device")
    assert two["steps_per_second"] == pytest.approx(2 * one["steps_per_second"], rel=1e-3)
    assert two["cost"] == pytest.approx(2 * two["period_seconds"])
    assert run(["sweep-clusters", chain, "--count", "1", "2", *THROUGHPUT]) == 0
    assert "steps/s" in capsys.readouterr().out


def test_latency_flags_are_refused_where_steps_overlap(
    chain: str, training: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, message in (
        (("compare", chain, *CLUSTER, *THROUGHPUT, "--out", "x"), "prints a table only"),
        (("compare", training, *CLUSTER, *THROUGHPUT), "waits for the parameters"),
        (("compare", chain, *CLUSTER, *THROUGHPUT, "--micro-batches", "2"), "updates nothing"),
        (("compare", chain, *CLUSTER, "--in-flight", "2"), "add --objective throughput"),
        (("sweep-clusters", chain, *THROUGHPUT, "--placer", "heft"), "leave out --placer"),
        (("sweep-clusters", training, *THROUGHPUT), "waits for the parameters"),
    ):
        code, found = told(capsys, *words)
        assert (code, message in found["error"]) == (2, True), found["error"]
