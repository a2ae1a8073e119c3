"""Policies that are trained for throughput: what their checkpoints say, and where they are used."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from graph_samples import graph_of, op
from training_samples import tiny_config, write_models

from agent.cli.app import run
from agent.config import AgentConfig
from agent.evaluation.contestants import contestants, policy_digest
from agent.placing.policy_pipeline import PolicyPipelinePlacer
from agent.policy.network import Policy
from agent.runs.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from agent.runs.tracking.tracker import Silent
from agent.training.loop import pretrain
from agent.training.starts import Starts
from envs.overlapping import OverlapEvaluator
from graphs.errors import GraphwrightError
from placement.placer import Budget, silent
from placement.problem import Problem
from placement.throughput import Throughput
from simulator.clusters.presets import preset

CLUSTER = ("-c", "2xv100-pcie")


def tiny(objective: str = "throughput") -> AgentConfig:
    return replace(tiny_config(Path()).agent, objective=objective)


def told(capsys: pytest.CaptureFixture[str], *tokens: str) -> tuple[int, dict[str, Any]]:
    code = run([*tokens, "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    """A policy that says that it was trained for throughput."""
    torch.manual_seed(0)
    saved = Checkpoint(Policy(tiny().policy), tiny(), {"round": 0})
    return str(save_checkpoint(tmp_path / "policy", saved))


def test_training_scores_periods_and_the_checkpoint_says_so(tmp_path: Path) -> None:
    models = write_models(tmp_path / "models")
    config = tiny_config(models, rounds=2)
    config = replace(config, agent=replace(config.agent, objective="throughput", in_flight=3))
    state = Starts(config).draw(0, 0)
    found = OverlapEvaluator(state.instance.problem, Throughput(3)).evaluate(state.plan)
    assert state.evaluation.makespan_seconds == found.makespan_seconds
    assert found.makespan_seconds < state.instance.problem.evaluate(state.plan).makespan_seconds
    told_figures: list[dict[str, float]] = []

    class Listening(Silent):
        def log(self, step: int, values: Any) -> None:
            told_figures.append(dict(values))

    ended = pretrain(config, tmp_path / "run", Listening())
    # Policy gradients from the first round: no lessons of guided search.
    assert "entropy" in told_figures[1]
    stored = load_checkpoint(tmp_path / "run" / "checkpoint").config
    assert (stored.objective, stored.in_flight) == ("throughput", 3)
    assert not stored.guides_search
    assert ended.validation["validation/ratio"] > 0


def test_each_policy_is_for_its_own_objective(
    checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = write_models(tmp_path / "models")
    model = str(models / "wide.gwgraph")
    latency = str(
        save_checkpoint(
            tmp_path / "latency", Checkpoint(Policy(tiny().policy), tiny("latency"), {"round": 0})
        )
    )
    throughput = ("--objective", "throughput")
    suite = ("--graphs", str(models), "--clusters", "2xv100-pcie")
    trained_for = "was trained for throughput, not for latency"
    other_way = "was trained for latency, not for throughput"
    for words, message in (
        (("place", model, *CLUSTER, "--policy", checkpoint), trained_for),
        (("place", model, *CLUSTER, "--policy", latency, *throughput), other_way),
        (("compare", model, *CLUSTER, "--policy", checkpoint), trained_for),
        (("finetune", model, *CLUSTER, "--policy", checkpoint), trained_for),
        (
            ("place", model, *CLUSTER, "--policy", checkpoint, *throughput, "--for", "onnx-split"),
            "hop through the host",
        ),
        (
            ("evaluate", *suite, "--policy", latency, *throughput),
            other_way,
        ),
        (
            ("evaluate", *suite, "--only", "gdp", *throughput),
            "learns from the time of one step",
        ),
        (
            ("evaluate", *suite, "--only", "placeto", *throughput),
            "learns from the time of one step",
        ),
    ):
        code, found = told(capsys, *words)
        assert (code, message in found["error"]) == (2, True), found["error"]
    code, found = told(
        capsys, "place", model, *CLUSTER, *throughput, "--policy", checkpoint, "--budget", "1"
    )
    assert code == 0
    assert {"policy", "search from the policy's plan", "equal layers"} <= set(found["splits"])
    assert [stage["device"] for stage in found["stages"]] == ["v100:0", "v100:1"]


def test_a_policy_never_makes_the_pipeline_worse() -> None:
    records = [op(f"a{i}", 1e12, (f"a{i - 1}",) if i else (), 1000) for i in range(8)]
    problem = Problem(graph_of(*records), preset("2xv100-pcie"))
    torch.manual_seed(1)
    place = PolicyPipelinePlacer(Policy(tiny().policy), tiny(), Throughput(4))
    placed = place(problem, Budget(1.0), 0, silent)
    assert place.pipeline is not None
    period = place.pipeline.period_seconds
    assert period == pytest.approx(problem.seconds.min(axis=1).sum() / 2, rel=1e-3)
    times = [stage.makespan_seconds for stage in placed.stages]
    assert [stage.name for stage in placed.stages] == ["pipeline", "policy", "search"]
    assert times == sorted(times, reverse=True)
    found = OverlapEvaluator(problem, Throughput(4)).evaluate(placed.best.plan)
    assert found.makespan_seconds == pytest.approx(period)


def test_evaluate_scores_every_column_by_periods(
    checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = write_models(tmp_path / "models")
    out = tmp_path / "table"
    columns = ("single", "portfolio", "search", "untrained", "zero-shot")
    words = [
        *("evaluate", "--graphs", str(models), "--clusters", "2xv100-pcie", "--limit", "1"),
        *("--policy", checkpoint, "--only", *columns, "--seeds", "0", "--budget", "0.3"),
        *("--objective", "throughput", "--in-flight", "4", "--out", str(out)),
    ]
    code, found = told(capsys, *words)
    assert code == 0
    rows = {row["column"]: row for row in found["rows"]}
    assert set(rows) == set(columns)
    assert {row["objective"] for row in rows.values()} == {
        "throughput, 4 in flight, 8 micro-batches"
    }
    single = rows["single"]["makespan_seconds"]
    assert rows["portfolio"]["makespan_seconds"] < 0.6 * single
    for column in ("search", "untrained", "zero-shot"):
        assert rows[column]["makespan_seconds"] < 0.6 * single
        assert rows[column]["lower_bound_seconds"] <= rows[column]["makespan_seconds"] * (1 + 1e-9)
    assert "## Periods" in (out / "table.md").read_text()
    # The same command again takes its rows as they are; other steps in flight are other rows.
    assert told(capsys, *words)[1]["rows"] == found["rows"]
    assert len((out / "rows.jsonl").read_text().splitlines()) == len(columns)


@pytest.mark.slow
def test_finetune_learns_from_periods(
    checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(write_models(tmp_path / "models") / "wide.gwgraph")
    out = tmp_path / "tuned"
    words = ["finetune", model, *CLUSTER, "--policy", checkpoint, "--objective", "throughput"]
    code, found = told(capsys, *words, "--updates", "2", "--budget", "5", "--out", str(out))
    assert (code, found["objective"], found["updates"]) == (0, "throughput", 2)
    assert found["fine_tuned_seconds"] <= found["portfolio_seconds"]
    assert found["period_seconds"] <= found["makespan_seconds"] * (1 + 1e-9)
    predicted = json.loads((out / "plan.json").read_text())["predicted"]
    assert predicted["period_seconds"] == found["period_seconds"]
    assert load_checkpoint(out / "checkpoint").config.objective == "throughput"
    code, found = told(capsys, *words, "--measure")
    assert (code, "one step at a time" in found["error"]) == (2, True)


def test_settings_of_throughput() -> None:
    assert AgentConfig().guides_search
    assert AgentConfig().overlap is None
    assert tiny().overlap == Throughput(None, 8)
    with pytest.raises(GraphwrightError, match="there are latency, throughput"):
        AgentConfig(objective="speed")
    with pytest.raises(GraphwrightError, match="for throughput only"):
        AgentConfig(in_flight=3)
    names = [column.name for column in contestants((), None, 0, Throughput(2))]
    assert "portfolio" in names
    assert not {"gdp", "hdp"} & set(names)
    policy = Policy(tiny().policy)
    digests = {policy_digest(policy, tiny(each)) for each in ("latency", "throughput")}
    assert len(digests) == 2
