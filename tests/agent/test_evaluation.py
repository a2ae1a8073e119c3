"""The evaluation: statistics by hand, tables, contestants, and the command end to end."""

import importlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from graph_samples import graph_of, op
from known_optima import two_chains
from training_samples import write_chains

from agent.cli.app import run as command
from agent.config import AgentConfig, EpisodeConfig
from agent.evaluation.columns import COLUMNS
from agent.evaluation.contestants import (
    Attempt,
    contestants,
    control,
    greedy_attempt,
    policy_digest,
)
from agent.evaluation.ratios import stage_shares, times, with_headroom
from agent.evaluation.runs import EvaluationRow, Origin, run
from agent.evaluation.tables import Results, cell, csv_text, losses, markdown, plain, ratios
from agent.learning.config import SampleConfig
from agent.placing.policy_placer import PolicyPlacer
from agent.policy.config import PolicyConfig
from agent.policy.network import Policy
from agent.runs.checkpoint import Checkpoint, save_checkpoint
from envs.evaluator import TracedEvaluator, simulated
from envs.instance import Instance
from graphs.errors import GraphwrightError
from graphs.graph_file import write_graph
from placement.placer import Budget
from placement.placers.registry import SEARCHES
from placement.problem import Problem
from placement.suites import Headroom, Pair
from placement.suites.ratios import (
    MeanRatio,
    chance_of_none,
    holm,
    judged,
    pair_ratios,
    ratio,
)
from simulator.evaluation import BatchEvaluation, Evaluation
from simulator.plan import Plan
from simulator.traces.trace import Trace

PAIR = ("g", "c")


pytestmark = pytest.mark.usefixtures("one_thread")


#: Columns of the table unless others are asked for.
BY_DEFAULT = [name for name, column in COLUMNS.items() if not column.on_request]


def small_checkpoint(seed: int = 0) -> Checkpoint:
    config = AgentConfig(
        policy=PolicyConfig(width=16, pair_width=8, heads=2, segment_ops=16),
        sample=SampleConfig(samples=8),
        episode=EpisodeConfig(steps=3, group_sizes=(4,)),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Checkpoint(Policy(config.policy), config, {})


def row(column: str, seconds: float, **changes: Any) -> EvaluationRow:
    base = EvaluationRow(
        suite="s", graph="g", cluster="c", headroom="slow-links", column=column, seed=0,
        budget_seconds=1.0, feasible=True, makespan_seconds=seconds, raw_seconds=seconds,
        raw_feasible=True, failure="", lower_bound_seconds=0.5, cpu_seconds=1.0, evaluations=10,
        updates=0, max_updates=0, origin="o", plan_digest="p", graph_digest="d",
        cluster_digest="e", policy_digest="", ops=7, devices=2, costs="roofline",
        command="graphwright evaluate", commit="abc",
    )  # fmt: skip
    return replace(base, **changes)


# Statistics


def test_the_geometric_mean_and_its_interval_by_hand() -> None:
    ours = {("a", "c"): {0: 1.0, 1: 2.0}, ("b", "c"): {0: 8.0, 1: 8.0}}
    theirs = {("a", "c"): {0: 2.0, 1: 2.0}, ("b", "c"): {0: 4.0, 1: 1.0}}
    # Pair a: 1/2 and 1, the mean is 2^-0.5; pair b: 2 and 8, the mean is 4: together 2^0.75.
    found = ratio("x", "y", ours, theirs)
    assert found.geometric_mean == pytest.approx(2**0.75)
    # Means -0.5 and 2 of powers of two: 1.25 from the middle each; Student's t of one is 12.706.
    assert found.low == pytest.approx(2 ** (0.75 - 12.7062 * 1.25), rel=1e-4)
    assert found.high == pytest.approx(2 ** (0.75 + 12.7062 * 1.25), rel=1e-4)
    assert (found.pairs, found.faster, found.slower) == (2, 1, 1)
    assert not found.outside_noise
    assert ratio("x", "y", ours, theirs) == found


def test_each_pair_counts_the_same_however_many_seeds_it_has() -> None:
    ours = {("a", "c"): {0: 1.0, 1: 1.0, 2: 1.0}, ("b", "c"): {0: 4.0}}
    theirs = {("a", "c"): {0: 1.0, 1: 1.0, 2: 1.0}, ("b", "c"): {0: 1.0}}
    assert ratio("x", "y", ours, theirs).geometric_mean == pytest.approx(2.0)


def test_no_verdict_on_fewer_than_three_pairs_whatever_they_say() -> None:
    for count in (1, 2, 3, 4):
        ours = {(f"{pair}", "c"): {0: 1.0} for pair in range(count)}
        theirs = {pair: {0: 2.0} for pair in ours}
        found = ratio("x", "y", ours, theirs)
        assert found.geometric_mean == pytest.approx(0.5)
        assert found.outside_noise == (count >= 3)
        assert bool(np.isnan(found.low)) == (count == 1)


@pytest.mark.parametrize("pairs", [3, 8, 30])
def test_one_in_twenty_verdicts_is_false_however_few_the_pairs(pairs: int) -> None:
    rng = np.random.default_rng(pairs)
    false = [chance_of_none(rng.normal(0.0, 0.1, pairs)) < 0.05 for _ in range(4000)]
    assert 0.035 < np.mean(false) < 0.065


def test_one_in_twenty_tables_has_a_false_verdict_however_many_the_columns() -> None:
    rng = np.random.default_rng(0)
    alone, together = [], []
    for _ in range(600):
        ours = rng.normal(0.0, 0.1, 8)
        columns = [
            MeanRatio("x", f"{number}", 1.0, 1.0, 1.0, 8, 0, 0, 0, 0, chance, chance < 0.05)
            for number in range(12)
            if (chance := chance_of_none(ours - rng.normal(0.0, 0.1, 8))) <= 1
        ]
        alone.append(any(item.outside_noise for item in columns))
        together.append(any(item.outside_noise for item in judged(columns)))
    assert np.mean(alone) > 0.15
    assert np.mean(together) < 0.065
    assert holm([0.001, 0.03, 0.02, 0.9]) == (True, False, False, False)
    assert holm([0.001, 0.016, 0.02, 0.9]) == (True, True, True, False)
    assert holm([]) == ()


def test_identical_columns_are_no_win_and_a_constant_ratio_is() -> None:
    rng = np.random.default_rng(0)
    ours = {(f"{i}", "c"): dict(enumerate(rng.random(3) + 1)) for i in range(10)}
    same = ratio("x", "y", ours, ours)
    assert (same.geometric_mean, same.low, same.high) == (1.0, 1.0, 1.0)
    assert not same.outside_noise
    less = {pair: {seed: 0.9 * value for seed, value in ts.items()} for pair, ts in ours.items()}
    found = ratio("x", "y", less, ours)
    assert found.geometric_mean == pytest.approx(0.9)
    assert found.outside_noise
    assert found.faster == 10


def test_noise_around_one_is_no_win_and_intervals_shrink_with_pairs() -> None:
    rng = np.random.default_rng(1)

    def noisy(pairs: int, mean: float) -> dict[tuple[str, str], dict[int, float]]:
        values = rng.normal(np.log(mean), 0.1, (pairs, 3))
        return {(f"{i}", "c"): dict(enumerate(np.exp(values[i]).tolist())) for i in range(pairs)}

    ones = {(f"{i}", "c"): {0: 1.0, 1: 1.0, 2: 1.0} for i in range(60)}
    few = ratio("x", "y", noisy(6, 1.0), {pair: ones[pair] for pair in list(ones)[:6]})
    many = ratio("x", "y", noisy(60, 0.9), ones)
    assert not few.outside_noise
    assert many.outside_noise
    assert many.high - many.low < few.high - few.low


def test_plans_that_do_not_fit_are_counted_not_averaged() -> None:
    ours = times([row("x", 1.0), row("x", 1.0, seed=1, feasible=False)])["x"]
    theirs = times([row("y", 2.0), row("y", 2.0, seed=1)])["y"]
    found = ratio("x", "y", ours, theirs)
    assert found.geometric_mean == pytest.approx(0.5)
    assert (found.only_column, found.only_against) == (0, 1)
    nothing = ratio("x", "y", {PAIR: {}}, theirs)
    assert nothing.pairs == 0
    assert not nothing.outside_noise


def test_a_pair_is_outside_the_noise_when_its_seeds_tell_and_there_are_enough() -> None:
    def apart(ours: list[float], theirs: list[float]) -> bool:
        mine, other = dict(enumerate(ours)), dict(enumerate(theirs))
        return pair_ratios({PAIR: mine}, {PAIR: other})[0].outside_noise

    assert not apart([1.0], [2.0])
    assert not apart([1.0, 1.0], [2.0, 2.0])
    assert apart([1.0, 1.1, 1.05], [2.0, 2.1, 2.2])
    assert not apart([1.0, 1.9, 1.5], [2.0, 2.0, 2.5])
    # With many pairs beside it, each has to be the surer.
    many = {(f"{number}", "c"): {0: 1.0, 1: 1.1, 2: 1.05} for number in range(40)}
    theirs = {pair: {0: 2.0, 1: 2.1, 2: 2.2} for pair in many}
    noise = {(f"{number}", "d"): {0: 1.0, 1: 1.01, 2: 0.99} for number in range(40)}
    assert not any(
        item.outside_noise
        for item in pair_ratios(
            {PAIR: {0: 1.0, 1: 1.3, 2: 1.05}, **noise},
            {PAIR: {0: 2.0, 1: 2.1, 2: 2.2}, **{pair: {0: 1.0, 1: 1.0, 2: 1.0} for pair in noise}},
        )
    )
    assert all(item.outside_noise for item in pair_ratios(dict(list(many.items())[:1]), theirs))


# Tables


def sample_rows() -> list[EvaluationRow]:
    values = {"portfolio": 1.0, "search": 0.8, "zero-shot": 0.9, "untrained": 1.0}
    rows = [
        row(column, seconds * (1 + 0.01 * seed), seed=seed)
        for column, seconds in values.items()
        for seed in (0, 1, 2)
    ]
    rows += [
        row(column, 2.0, graph="flat", headroom="none", seed=seed)
        for column in values
        for seed in (0, 1)
    ]
    rows.append(row("heft", np.inf, feasible=False, failure="d0 runs out of memory: peak 2"))
    return rows


def test_the_report_says_where_the_policy_loses_and_what_fails() -> None:
    rows = sample_rows()
    found = losses(rows)
    assert [item.graph for item in found["zero-shot", "search"]] == ["g"]
    assert found["zero-shot", "search"][0].ratio == pytest.approx(0.9 / 0.8)
    assert found["zero-shot", "portfolio"] == ()
    text = markdown(Results(tuple(rows)), "Title")
    assert "g on c: 1.125, outside the noise" in text
    assert "g on c: 1.125\n" in markdown(Results(tuple(r for r in rows if r.seed < 2)), "Title")
    assert "- heft on g, c: d0 runs out of memory (1)" in text
    assert "| g | c | 7 | fails | 1,010.0 (1,000.0-1,020.0) | 808.0 (800.0-816.0) |" in text
    assert "## Pairs with headroom" in text
    assert "graphwright evaluate" in text


def test_pairs_with_and_without_headroom_are_reported_apart() -> None:
    rows = sample_rows()
    by_name = {(item.column, item.against): item for item in ratios(with_headroom(rows, True))}
    flat = {(item.column, item.against): item for item in ratios(with_headroom(rows, False))}
    assert by_name["zero-shot", "portfolio"].geometric_mean == pytest.approx(0.9)
    assert flat["zero-shot", "portfolio"].geometric_mean == 1.0
    assert ("zero-shot", "untrained") in by_name
    assert ("search", "portfolio") in by_name


def test_kinds_of_headroom_are_reported_apart_and_two_of_them_together() -> None:
    kinds = ("slow-links", "tight-memory", "unlike-devices")
    rows = [
        row(column, seconds, graph=kind, headroom=kind)
        for kind, ours in zip(kinds, (0.5, 0.125, 0.9), strict=True)
        for column, seconds in (("portfolio", 1.0), ("zero-shot", ours))
    ]
    text = markdown(Results(tuple(rows)), "t")
    head = "| slow-links | tight-memory | unlike-devices | slow-links or tight-memory |"
    assert f"| column | against {head}" in text
    both = ratio("", "", {("a", "c"): {0: 0.5}, ("b", "c"): {0: 0.125}},
                 {("a", "c"): {0: 1.0}, ("b", "c"): {0: 1.0}})  # fmt: skip
    cells = ("0.500", "0.125", "0.900", f"0.250 ({both.low:.3f}-{both.high:.3f})")
    assert f"| zero-shot | portfolio | {' | '.join(cells)} |" in text.splitlines()


def test_what_each_stage_brought_by_hand() -> None:
    names = ("heuristics", "proposals", "guided search")
    # From 8 to 4 to 1: one of three halvings is the proposals'; 8 to 8 to 4: none of one.
    rows = [
        row("zero-shot", 1.0, stages=names, stage_seconds=(8.0, 4.0, 1.0)),
        row("zero-shot", 4.0, seed=1, stages=names, stage_seconds=(8.0, 8.0, 4.0)),
        row("zero-shot", 8.0, seed=2, stages=names, stage_seconds=(8.0, 8.0, 8.0)),
        row("zero-shot", 1.0, seed=3, stages=names, stage_seconds=(np.inf, 8.0, 1.0)),
        row("zero-shot", 1.0, seed=4),
    ]
    assert stage_shares(rows) == pytest.approx({"proposals": 1 / 6, "guided search": 5 / 6})
    text = markdown(Results(tuple(rows)), "t")
    assert "- zero-shot: proposals 17%, guided search 83%" in text
    assert "What each stage brought" not in markdown(Results((row("search", 1.0),)), "t")


def test_cells_say_how_many_seeds_fail() -> None:
    assert cell({0: 0.001, 1: 0.003}, 2) == "2.0 (1.0-3.0)"
    assert cell({0: 0.001}, 3) == "1.0, 2 of 3 fail"
    assert cell({}, 2) == "fails"
    assert cell(None, 0) == ""


def test_rows_survive_being_written() -> None:
    staged = row("zero-shot", 1.0, stages=("heuristics", "end"), stage_seconds=(np.inf, 1.0))
    for each in [*sample_rows(), staged]:
        assert (
            EvaluationRow.from_dict(json.loads(json.dumps(each.as_dict(), allow_nan=False))) == each
        )
    results = Results(tuple(sample_rows()))
    assert len(csv_text(results).splitlines()) == 1 + len(results.rows)
    assert plain(results)["losses"][0]["against"] == "search"
    assert markdown(Results(()), "Nothing") == "# Nothing\n\nNo rows.\n"


# Contestants


def test_greedy_is_one_episode_of_which_the_last_plan_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scored: list[Plan] = []
    trained = PolicyPlacer(small_checkpoint().policy, small_checkpoint().config)
    problem, _ = two_chains()

    class Counting:
        def __init__(self, inner: TracedEvaluator) -> None:
            self.inner = inner

        def evaluate(self, plan: Plan) -> Evaluation:
            scored.append(plan)
            return self.inner.evaluate(plan)

        def evaluate_many(self, plans: Sequence[Plan]) -> BatchEvaluation:
            raise AssertionError("greedy decisions draw no samples")

        def trace(self, plan: Plan) -> Trace:
            return self.inner.trace(plan)

    monkeypatch.setattr(
        Instance, "evaluator", property(lambda self: Counting(simulated(self.problem)))
    )
    attempt = greedy_attempt(trained, problem, 0)
    start = attempt.placed.candidates[0].plan
    assert attempt.raw is not None
    tried = [plan for plan in scored if plan != start]
    assert len(tried) == trained.config.episode.steps
    assert tried[-1] == attempt.raw.plan != start
    assert attempt.placed.evaluations == 3 + len(Instance("", problem).heuristic_plans)


def test_greedy_falls_back_to_the_portfolio_and_tells_what_it_decided() -> None:
    checkpoint = small_checkpoint()
    problem, optimum = two_chains()
    attempt = greedy_attempt(PolicyPlacer(checkpoint.policy, checkpoint.config), problem, 0)
    assert attempt.raw is not None
    # The portfolio is optimal; an untrained policy moves three groups away from that.
    assert attempt.raw.evaluation.makespan_seconds > optimum
    assert attempt.placed.best.evaluation.makespan_seconds == optimum


def test_the_untrained_control_has_a_network_of_its_own_for_each_seed() -> None:
    checkpoint = small_checkpoint()
    digests = {
        policy_digest(control(checkpoint.config, seed, checkpoint).network, checkpoint.config)
        for seed in (0, 1, 2)
    }
    assert len(digests) == 3
    assert policy_digest(checkpoint.policy, checkpoint.config) not in digests
    theirs = control(checkpoint.config, 1).network
    with pytest.raises(GraphwrightError, match="untrained"):
        control(checkpoint.config, 1, replace(checkpoint, policy=theirs))


def test_columns_that_need_a_policy_say_so() -> None:
    assert [each.name for each in contestants((), None, 1)] == [
        name for name, column in COLUMNS.items() if not column.uses_policy and not column.on_request
    ]
    assert [each.name for each in contestants((), small_checkpoint(), 1)] == BY_DEFAULT
    with pytest.raises(GraphwrightError, match="--policy"):
        contestants(("zero-shot",), None, 1)
    with pytest.raises(GraphwrightError, match="there are tensorflow"):
        contestants(("zero",), None, 1)


def test_what_a_contestant_cannot_do_is_a_row() -> None:
    problem, _ = two_chains()
    contestant = contestants(("single",), None, 0)[0]

    def refuse(_problem: Problem, _budget: Budget, _seed: int) -> Attempt:
        raise GraphwrightError("no device may run it")

    found = run(
        Pair("g", "c", Headroom.SLOW_LINKS), problem, replace(contestant, attempt=refuse), 3, 1.0,
        Origin("s", "command", "commit"),
    )  # fmt: skip
    assert not found.feasible
    assert found.failure == "no device may run it"
    assert (found.seed, found.plan_digest, found.makespan_seconds) == (3, "", np.inf)


# The command


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return write_chains(tmp_path / "models")


def evaluate(capsys: pytest.CaptureFixture[str], *tokens: str) -> tuple[int, dict[str, Any]]:
    code = command(["evaluate", *tokens, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_every_column_on_two_graphs_and_nothing_twice(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = save_checkpoint(tmp_path / "policy", small_checkpoint())
    out = tmp_path / "out"
    tokens = (
        "--policy", str(checkpoint), "--graphs", str(models), "--clusters", "2xv100-pcie",
        "--budget", "0.3s", "--seeds", "0", "--updates", "2", "--out", str(out),
    )  # fmt: skip
    code, found = evaluate(capsys, *tokens)
    assert code == 0
    assert found["columns"] == BY_DEFAULT
    assert len(found["rows"]) == 2 * len(BY_DEFAULT)
    for each in found["rows"]:
        assert each["feasible"]
        assert each["makespan_seconds"] >= each["lower_bound_seconds"] * (1 - 1e-9)
        assert len(each["graph_digest"]) == len(each["plan_digest"]) == 16
        assert each["command"].startswith("graphwright evaluate --policy")
        assert bool(each["policy_digest"]) == COLUMNS[each["column"]].uses_policy
        assert (each["updates"] > 0) == (each["column"] == "fine-tuned")
    assert sorted(path.name for path in out.iterdir() if not path.name.startswith("metrics")) == [
        "rows.jsonl", "table.csv", "table.json", "table.md",
    ]  # fmt: skip
    before = (out / "rows.jsonl").read_bytes()
    table = (out / "table.md").read_text()
    # A run that was killed leaves half a line, which is dropped; the rest is not measured again.
    (out / "rows.jsonl").write_bytes(before + b'{"suite": "x", "gra')
    code, again = evaluate(capsys, *tokens)
    assert code == 0
    assert (out / "rows.jsonl").read_bytes() == before
    assert (out / "table.md").read_text() == table
    assert again["rows"] == found["rows"]
    # Another seed adds its own rows only.
    evaluate(capsys, *tokens[:9], "2", *tokens[10:], "--only", "single", "heft")
    assert (out / "rows.jsonl").read_text().count("\n") == before.count(b"\n") + 4


def test_rows_of_another_file_control_or_placer_are_not_taken(
    models: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    module = tmp_path / "my_placer.py"
    module.write_text(
        "from placement.placers.registry import get_placer\n"
        "def mine(problem, budget, seed, on_progress):\n"
        "    'The single device, mine.'\n"
        "    return get_placer('single')(problem, budget, seed, on_progress)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(SEARCHES, "mine", importlib.import_module("my_placer").mine)
    small = small_checkpoint()
    policies = [
        str(save_checkpoint(tmp_path / name, replace(small, config=config)))
        for name, config in (
            ("a", small.config),
            ("b", replace(small.config, sample=SampleConfig(samples=9))),
        )
    ]

    def rows(policy: str = policies[0]) -> int:
        code, _ = evaluate(
            capsys, "--policy", policy, "--graphs", str(models), "--clusters", "2xv100-pcie",
            "--budget", "0.1s", "--seeds", "0", "--limit", "1", "--out", str(out),
            "--only", "single", "untrained", "mine",
        )  # fmt: skip
        assert code == 0
        return (out / "rows.jsonl").read_text().count("\n")

    assert (rows(), rows()) == (3, 3)
    assert rows(policies[1]) == 4  # the control of another configuration
    module.write_text(module.read_text() + "# another one\n")
    assert (rows(), rows()) == (5, 5)
    write_graph(graph_of(op("other", 1e12, (), 1000)), models / "chains-4.gwgraph")
    assert (rows(), rows()) == (8, 8)


def test_what_cannot_be_evaluated_is_said(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ("--graphs", str(models), "--clusters", "2xv100-pcie")
    for tokens, said in (
        ((), "--suite"),
        (("--suite", "paper", *folder), "--suite"),
        (("--suite", "paper", "--clusters", "2xv100-pcie"), "--clusters"),
        (("--suite", "nothing"), "no suite"),
        ((*folder, "--only", "zero-shot"), "--policy"),
        ((*folder, "--limit", "0"), "--limit"),
        ((*folder, "--headroom", "much"), "slow-links"),
        (("--suite", "paper", "--headroom", "none"), "no pair of kind none"),
        ((*folder, "--track", "wandb"), "--out"),
        ((*folder, "--track", "paper", "--out", str(tmp_path / "x")), "tracker"),
        ((*folder, "--policy", str(tmp_path)), "no policy there"),
        ((*folder, "--updates", "-1"), "--updates"),
    ):
        code, found = evaluate(capsys, *tokens)
        assert code == 2, tokens
        assert said in found["error"], tokens


def test_pairs_of_one_kind_alone(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = evaluate(
        capsys, "--suite", "test-families", "--headroom", "none", "fast-links", "--only", "single",
        "--seeds", "0", "--limit", "3",
    )  # fmt: skip
    assert code == 0
    assert [row["headroom"] in ("none", "fast-links") for row in found["rows"]] == [True] * 3
    assert "--headroom none fast-links --limit 3" in found["rows"][0]["command"]


def test_nothing_fits_is_exit_code_three(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = evaluate(
        capsys, "--graphs", str(models), "--clusters", "2xv100-pcie@1KiB", "--only", "single",
        "--seeds", "0", "--limit", "1",
    )  # fmt: skip
    assert code == 3
    assert found["rows"][0]["failure"]
    assert len(found["rows"]) == 1
