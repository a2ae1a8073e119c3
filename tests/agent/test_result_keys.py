"""What `evaluate` and `compare --suite` take from a store, and what they work out anew."""

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from graph_samples import graph_of, op

from agent.cli.app import run as command
from agent.config import AgentConfig
from agent.evaluation import result_keys
from agent.evaluation.evaluation_job import Entrants, EvaluationJob, evaluated
from agent.evaluation.result_keys import RESULTS_VERSION, cluster_digest, suite_key
from agent.evaluation.runs import Origin
from agent.evaluation.stored_rows import keep_suite_row
from agent.policy.config import PolicyConfig
from agent.policy.network import Policy
from agent.runs.checkpoint import Checkpoint, save_checkpoint
from agent.runs.result_store import ResultStore, StoreError
from agent.tasks.in_process import InProcess
from graphs.errors import GraphwrightError
from graphs.graph_file import write_graph
from placement.annealing.anneal import Annealer
from placement.annealing.hierarchy import Hierarchy
from placement.place import place_problem
from placement.placer import Budget, OnProgress, Placed
from placement.placers.registry import SEARCHES, get_placer
from placement.problem import Problem
from placement.suites import Headroom, Pair
from placement.suites.results import measure_placer
from simulator.clusters.calibration import Calibration
from simulator.clusters.kernel_times import KernelTimes
from simulator.clusters.presets import preset


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def chains(length: int) -> Any:
    records = [
        op(f"{chain}{step}", 1e12, (f"{chain}{step - 1}",) if step else (), 1000)
        for chain in "abc"
        for step in range(length)
    ]
    return graph_of(*records)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    models = tmp_path / "models"
    models.mkdir()
    write_graph(chains(4), models / "one.gwgraph")
    return models


#: Each decision of the placer `counted`.
DECIDED: list[tuple[int, float]] = []


def counted(problem: Problem, budget: Budget, seed: int, on_progress: OnProgress) -> Placed:
    """The single device, counted."""
    DECIDED.append((seed, budget.cpu_seconds))
    return get_placer("single")(problem, budget, seed, on_progress)


@pytest.fixture(autouse=True)
def placer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SEARCHES, "counted", counted)
    DECIDED.clear()


Ask = Callable[..., dict[str, Any]]


@pytest.fixture(params=["evaluate", "compare"])
def ask(request: pytest.FixtureRequest, folder: Path, tmp_path: Path, capsys: Any) -> Ask:
    """Either command on the folder; what it printed."""

    def do(**changed: str) -> dict[str, Any]:
        flags = {"budget": "0.2s", "seed": "0", "cluster": "2xv100-pcie", **changed}
        store = ["--store", str(tmp_path / "results.sqlite"), "--json", "--budget", flags["budget"]]
        if request.param == "evaluate":
            words = ["--graphs", str(folder), "--clusters", flags["cluster"]]
            words += ["--seeds", flags["seed"], "--only", "counted"]
        else:
            words = ["--suite", str(folder), "--cluster", flags["cluster"]]
            words += ["--seed", flags["seed"], "--placer", "counted"]
        code = command([request.param, *words, *store])
        found = json.loads(capsys.readouterr().out)
        assert code in (0, 3), found
        return dict(found)

    return do


def test_nothing_is_worked_out_twice_and_nothing_wrong_is_taken(
    ask: Ask, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ask()
    assert len(DECIDED) == 1
    assert ask()["rows"] == first["rows"]
    assert len(DECIDED) == 1
    for number, changed in enumerate(
        (
            {"seed": "1"},
            {"budget": "0.3s"},
            {"cluster": "4xv100-pcie"},
            {"cluster": "2xv100-pcie@8GiB"},
            {"cluster": "2xv100-pcie@tight:1.3"},
            {"cluster": "2xv100-pcie@tight:1.5"},
        ),
        2,
    ):
        ask(**changed)
        assert len(DECIDED) == number, changed
        ask(**changed)
        assert len(DECIDED) == number, changed
    before = len(DECIDED)
    monkeypatch.setattr(result_keys, "results_version", lambda: f"{RESULTS_VERSION + 1}")
    ask(), ask()
    assert len(DECIDED) == before + 1
    monkeypatch.undo()
    monkeypatch.setitem(SEARCHES, "counted", counted)
    # The same graph under another name and in another folder is the same graph.
    (folder / "one.gwgraph").rename(folder / "two.gwgraph")
    renamed = ask()["rows"][0]
    assert len(DECIDED) == before + 1
    assert Path(renamed["graph"]).name == "two.gwgraph"
    assert renamed["makespan_seconds"] == first["rows"][0]["makespan_seconds"]
    # Another graph under the old name is another one.
    write_graph(chains(5), folder / "three.gwgraph")
    assert len(ask()["rows"]) == 2
    assert len(DECIDED) == before + 2


def test_another_code_of_a_placer_that_is_no_column_is_another_placer(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "stored_placer.py"
    text = (
        "from placement.placers.registry import get_placer\n"
        "def mine(problem, budget, seed, on_progress):\n"
        "    return get_placer('counted_below')(problem, budget, seed, on_progress)\n"
    )
    module.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "stored_placer", raising=False)
    monkeypatch.setitem(SEARCHES, "counted_below", counted)
    monkeypatch.setitem(SEARCHES, "counted", importlib.import_module("stored_placer").mine)
    ask(), ask()
    assert len(DECIDED) == 1
    module.write_text(text + "# another one\n")
    ask(), ask()
    assert len(DECIDED) == 2


def test_plans_that_do_not_fit_are_results(ask: Ask) -> None:
    first = ask(cluster="2xv100-pcie@1KiB")
    again = ask(cluster="2xv100-pcie@1KiB")
    assert len(DECIDED) == 1
    assert again["rows"] == first["rows"]
    row = first["rows"][0]
    assert not row.get("feasible", False)
    assert row["makespan_seconds"] in ({"counted": None}, pytest.approx(row["makespan_seconds"]))


def test_what_fails_is_not_a_result(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(problem: Problem, budget: Budget, seed: int, on_progress: OnProgress) -> Placed:
        counted(problem, budget, seed, on_progress)
        raise GraphwrightError("the network was gone")

    monkeypatch.setitem(SEARCHES, "counted", failing)
    for _ in range(2):
        try:
            assert ask()["rows"][0]["failure"] == "the network was gone"
        except AssertionError as error:  # compare --suite ends with the error
            assert "the network was gone" in str(error)
    assert len(DECIDED) == 2


def policy_in(folder: Path, seed: int, width: int = 16) -> Path:
    config = AgentConfig(policy=PolicyConfig(width=width, pair_width=8, heads=2, segment_ops=16))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return save_checkpoint(folder, Checkpoint(Policy(config.policy), config, {}))


def test_another_policy_other_updates_and_other_threads_are_other_results(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.sqlite"
    first, second = policy_in(tmp_path / "a", 0), policy_in(tmp_path / "b", 1)

    def stored(*words: str) -> int:
        code = command([
            "evaluate", "--graphs", str(folder), "--clusters", "2xv100-pcie", "--budget", "0.05s",
            "--seeds", "0", "--only", "zero-shot-greedy", "fine-tuned", "--store", str(path),
            "--json", *words,
        ])  # fmt: skip
        assert code == 0, capsys.readouterr().out
        capsys.readouterr()
        with ResultStore(path) as store:
            return len(store)

    given = ("--policy", str(first), "--updates", "1")
    assert (stored(*given), stored(*given)) == (2, 2)
    assert stored("--policy", str(second), "--updates", "1") == 4
    assert stored("--policy", str(first), "--updates", "2") == 5  # of fine-tuned alone
    assert stored(*given, "--threads", "2") == 7


def test_rows_of_one_store_serve_tables_in_any_folder(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def lines(out: str) -> list[str]:
        words = ["--graphs", str(folder), "--clusters", "2xv100-pcie", "--seeds", "0", "1"]
        words += ["--only", "counted", "--store", str(tmp_path / "s"), "--out", str(tmp_path / out)]
        assert command(["evaluate", *words]) == 0
        capsys.readouterr()
        return (tmp_path / out / "rows.jsonl").read_text().splitlines()

    first = lines("a")
    assert lines("b") == first
    assert lines("b") == first
    assert len(DECIDED) == 2


def test_steps_that_overlap_are_other_results(folder: Path, tmp_path: Path) -> None:
    pair = Pair(str(folder / "one.gwgraph"), "2xv100-pcie", Headroom.SLOW_LINKS)
    job = EvaluationJob(Entrants(("counted",)), 0.1, Origin("s", "c", "abc"))
    contestant = job.contestants["counted"]
    latency, overlapping = (
        result_keys.evaluation_key(pair, contestant, 0, 0.1, objective)
        for objective in ("latency", "throughput, 2 in flight, 8 micro-batches")
    )
    assert latency != overlapping
    assert replace(overlapping, settings=latency.settings) == latency


def test_a_placer_that_stops_half_way_leaves_the_finished_rows(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(problem: Problem, budget: Budget, seed: int, told: OnProgress) -> Placed:
        if seed == 2:
            raise KeyboardInterrupt
        return counted(problem, budget, seed, told)

    pair = Pair(str(folder / "one.gwgraph"), "2xv100-pcie", Headroom.SLOW_LINKS)
    job = EvaluationJob(Entrants(("counted",)), 0.1, Origin("s", "c", "abc"))
    tasks = job.tasks([pair], [0, 1, 2])
    monkeypatch.setitem(SEARCHES, "counted", interrupted)
    job = EvaluationJob(Entrants(("counted",)), 0.1, Origin("s", "c", "abc"))
    with ResultStore(tmp_path / "s") as store:
        with pytest.raises(KeyboardInterrupt):
            evaluated(job, tasks, InProcess(), store=store)
        assert len(store) == 2


def test_a_calibration_is_part_of_the_cluster_with_all_that_was_measured() -> None:
    plain, graph = preset("2xv100-pcie"), chains(4)

    def calibrated(seconds: float) -> str:
        times = KernelTimes("m", "v100").with_graph(graph, np.full(graph.op_count, seconds))
        return cluster_digest(replace(plain, calibration=Calibration("m", "ort", times, "f.json")))

    assert cluster_digest(plain) == cluster_digest(replace(plain, name="other")) == plain.digest
    assert len({plain.digest, calibrated(1e-3), calibrated(2e-3)}) == 3
    assert calibrated(1e-3) == calibrated(1e-3)


def test_rows_of_another_graph_are_refused(folder: Path, tmp_path: Path) -> None:
    pair = Pair(str(folder / "one.gwgraph"), "2xv100-pcie", Headroom.SLOW_LINKS)
    row = measure_placer(pair, pair.problem(), "single", get_placer("single"), 0.1, 0)
    key = suite_key(pair, "single", get_placer("single"), 0.1, 0)
    with ResultStore(tmp_path / "s") as store:
        with pytest.raises(StoreError, match="digest"):
            keep_suite_row(store, key, pair, replace(row, digest="0" * 16), "")
        assert len(store) == 0


def test_what_a_store_cannot_keep_is_said(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text").write_text("no database, " * 20)
    at = ("--store", str(tmp_path / "text"), "--json")
    model = str(folder / "one.gwgraph")
    for words, said in (
        (("evaluate", "--graphs", str(folder), "--clusters", "2xv100-pcie", *at), "not a store"),
        (("compare", "--suite", str(folder), "--cluster", "2xv100-pcie", *at), "not a store"),
        (("compare", model, "--cluster", "2xv100-pcie", *at), "are for the rows of --suite"),
        (
            ("compare", "--suite", str(folder), "--objective", "throughput", *at),
            "are for the rows of --suite",
        ),
    ):
        assert command(list(words)) == 2
        assert said in json.loads(capsys.readouterr().out)["error"]


#: What placers without a budget, and a short chain of annealing, come to, by `RESULTS_VERSION`.
#: METIS is left out: its plans are the library's, whose version a key has too.
PLANS: dict[int, dict[str, str]] = {
    1: {
        "single on 4xv100-pcie": "ff815eab1557238e 4.358520178e-03",
        "human-expert on 4xv100-pcie": "380c7230a97972cf 7.146568640e-03",
        "heft on 4xv100-pcie": "7089fa152e321539 1.329339930e-02",
        "eft on 4xv100-pcie": "1b45fd866288b830 3.048806554e-03",
        "m-sct on 4xv100-pcie": "59840a3a4ecae250 1.693203352e-02",
        "annealing on 4xv100-pcie": "f31eb9d5471ce7c7 -5.076401362",
        "single on 2xa100+2xv100-pcie": "0a516437f94e002e 3.323684325e-03",
        "human-expert on 2xa100+2xv100-pcie": "6519879823efb8f7 5.774393303e-03",
        "heft on 2xa100+2xv100-pcie": "e691b82e293119d7 6.973142583e-03",
        "eft on 2xa100+2xv100-pcie": "2ebf636061333fd3 2.394758536e-03",
        "m-sct on 2xa100+2xv100-pcie": "75132aa3fe1ddd36 9.729516360e-03",
        "annealing on 2xa100+2xv100-pcie": "ae463a9245fc80ad -5.123715968",
    },
}
# With the second version a guided search is told of plans that it refuses how long they take alone,
# and no longer whether they fit: these plans are the same.
PLANS[2] = PLANS[1]


def units_alone(problem: Problem) -> Hierarchy:
    """A single level, a group for each unit."""
    counts = np.bincount(problem.unit_of)
    return Hierarchy(
        np.array([0, len(counts)]),
        np.concatenate(([0], np.cumsum(counts))),
        np.argsort(problem.unit_of, kind="stable").astype(np.int32),
        problem.unit_allowed,
        np.zeros(1),
    )


def test_whoever_changes_results_raises_the_version() -> None:
    """Plans or step times that change make all stored results wrong: raise `RESULTS_VERSION`, and
    write down what these are now under the new number."""
    graph = Pair("rnnlm:5:300", "4xv100-pcie", Headroom.SLOW_LINKS).graph()
    found = {}
    for name in ("4xv100-pcie", "2xa100+2xv100-pcie"):
        problem = Problem(graph, preset(name))
        for placer in ("single", "human-expert", "heft", "eft", "m-sct"):
            placement = place_problem(problem, get_placer(placer), placer, 1.0, 0)
            seconds = placement.trace.makespan_seconds
            found[f"{placer} on {name}"] = f"{placement.plan.digest} {seconds:.9e}"
        annealer = Annealer(problem, units_alone(problem))
        chain = annealer.start(placement.plan.devices, placement.plan.ranks, 0)
        chain = annealer.reprioritise(annealer.advance(chain, 300, 0.002))
        found[f"annealing on {name}"] = f"{chain.best_plan.digest} {chain.best_energy:.9f}"
    assert found == PLANS[RESULTS_VERSION]
    assert max(PLANS) == RESULTS_VERSION
