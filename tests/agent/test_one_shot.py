"""The one-shot policy: its network and its decoder agree; it learns; runs, checkpoints, placers."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from graph_samples import graph_of, op, random_graph, toy_cluster
from known_optima import one_right_order, two_chains

from agent.cli.app import run
from agent.decoding.checkpoint import OneShotCheckpoint, load_one_shot, save_one_shot
from agent.decoding.config import DrawConfig, LearnConfig, OneShotConfig, OneShotTraining
from agent.decoding.learning import learn_from_plans
from agent.decoding.levels import LevelChances, Levels, draw_levels, neutral_levels
from agent.decoding.network import LEVEL_HEADS, OneShotPolicy
from agent.decoding.placer import SHIPPED, OneShotPlacer, one_shot_placer
from agent.decoding.sampling import draw_plans, greedy_plan, look_at, look_untaught, redraw_levels
from agent.decoding.stream import StreamConfig, draw_draft
from agent.decoding.studies import _compare_alike, study
from agent.decoding.subject import ALL_TASKS, choice_slices, collate_choices, make_subject
from agent.decoding.training import train_one_shot
from agent.decoding.tuning import tune_on
from agent.placing.registry import get_placer, placer_of
from agent.runs.policy_file import CheckpointError
from agent.runs.tracking.tracker import Silent
from envs.tasks import FUSED_LEVEL, NEUTRAL_LEVEL
from graphs.errors import GraphwrightError
from graphs.kinds import OpKind
from placement.constraints import Constraints
from placement.decoding.styles import Noise, draw_styles
from placement.placer import Budget, silent
from placement.problem import Problem
from simulator.cluster_file import load_cluster

TINY = OneShotConfig(width=16, heads=2, segment_ops=32, decoder_width=4, affinity_width=4)
SMALL_RUN = OneShotTraining(
    policy=TINY,
    draw=DrawConfig(plans=20, first=16, each=4),
    learn=LearnConfig(graphs=2, plans=24, learned=8, regions=2, redraws=4),
    stream=StreamConfig(("rnnlm", "layered"), 120, 200, suite=""),
    rounds=4,
    kept=6,
    validate_every=4,
    validation_suites=("validation",),
    validation_graphs=1,
    max_ops=700,
    save_every=2,
)


def policy_of(seed: int, loud: float = 0.0) -> OneShotPolicy:
    """An untrained policy; `loud` makes its heads speak."""
    torch.manual_seed(seed)
    policy = OneShotPolicy(TINY)
    if loud:
        with torch.no_grad():
            for layer in (policy.weights, policy.query, policy.choice, policy.device):
                layer.weight.normal_(std=loud)
            policy.out.normal_(std=loud)
    return policy


def difference(first: OneShotPolicy, second: OneShotPolicy) -> float:
    """The largest between any two weights."""
    other = second.state_dict()
    return max(float((one - other[name]).abs().max()) for name, one in first.state_dict().items())


@pytest.mark.parametrize("devices", [2, 4])
def test_the_decoder_scores_what_the_network_says(devices: int) -> None:
    """Of two graphs in one batch; the greedy device has the highest of torch's scores."""
    policy = policy_of(0, loud=0.5)
    subjects = [
        make_subject("one", Problem(random_graph(1, 50), toy_cluster(devices)), 0),
        make_subject("two", Problem(random_graph(2, 70), toy_cluster(3)), 0),
    ]
    said = policy(collate_choices(subjects, TINY.segment_ops))
    for number, (subject, where) in enumerate(zip(subjects, choice_slices(subjects), strict=True)):
        problem = subject.instance.problem
        count = problem.cluster.device_count
        styles = draw_styles(
            problem, np.arange(5, dtype=np.int32), Noise((0.0,)), np.random.default_rng(0), 5
        )
        drawn = subject.decoder.draw(said.scorer(number, where, count), styles, 0, recorded=5)
        scores = said.score(
            number,
            where,
            torch.arange(5),
            torch.from_numpy(drawn.columns),
            torch.from_numpy(drawn.considered),
        )
        taken = scores.gather(2, torch.from_numpy(drawn.chosen.astype(np.int64))[..., None])[..., 0]
        assert torch.allclose(taken, scores.max(dim=2).values, atol=1e-4)
        assert (drawn.considered.sum(axis=2) > 1).any()


def test_graphs_of_a_batch_do_not_change_each_other() -> None:
    policy = policy_of(1, loud=0.3)
    problem = Problem(random_graph(3, 60), toy_cluster(2))
    alone = make_subject("alone", problem, 0)
    other = make_subject("other", Problem(random_graph(4, 90), toy_cluster(4)), 0)
    single = policy(collate_choices([alone], TINY.segment_ops))
    both = policy(collate_choices([other, alone], TINY.segment_ops))
    where = choice_slices([other, alone])[1]
    assert torch.allclose(single.choice_weights, both.choice_weights[where], atol=1e-4)
    assert torch.allclose(single.affinity, both.affinity[where, :2], atol=1e-4)
    assert torch.allclose(single.style_chances[0], both.style_chances[1], atol=1e-4)


def test_it_learns_the_best_plan_of_two_chains() -> None:
    """From weights that scatter the chains, to each chain on a device of its own, greedily."""
    problem, optimum = two_chains()
    subject = make_subject("chains", problem, 0)
    policy = policy_of(2)
    with torch.no_grad():
        policy.style_weights.zero_()
        policy.style_weights[:, 0] = 3.0  # the later an op would end, the better
    before = greedy_plan(look_at(policy, subject), subject)
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.02)
    config = LearnConfig(graphs=1, plans=48, learned=16, noise=Noise((0.5, 1.0, 2.0), (1.0,), 0.0))
    for step in range(80):
        learn_from_plans(policy, optimizer, [subject], [np.random.default_rng(step)], config)
    after = greedy_plan(look_at(policy, subject), subject)
    assert before.evaluation is not None
    assert before.evaluation.makespan_seconds > 1.5 * optimum
    assert after.evaluation is not None
    assert after.evaluation.makespan_seconds == pytest.approx(optimum)


def waiting_kernel() -> tuple[Problem, float]:
    """Two ops that may be one kernel, which has to wait for what another device makes.

    `near` runs from 0 to 4 while `far` does, then `last` from 4 to 5; as one kernel both would
    begin at 4 and end at 9.
    """
    graph = graph_of(
        op("near", 4.0, (), 0, OpKind.ELEMENTWISE),
        op("far", 4.0, (), 0),
        op("last", 1.0, ("near", "far"), 0, OpKind.ELEMENTWISE),
    )
    pins = {"near": "d0", "far": "d1", "last": "d0"}
    return Problem(graph, toy_cluster(2), Constraints(pins=pins)), 5.0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "by_heuristics"), [(one_right_order, 14.0), (waiting_kernel, 9.0)]
)
def test_it_learns_priorities_and_kernels(
    make: Callable[[], tuple[Problem, float]], by_heuristics: float
) -> None:
    """Where devices are given: against critical-path priority, and against fusing all there is."""
    problem, optimum = make()
    subject = make_subject("known", problem, 0, rules=ALL_TASKS)
    policy = policy_of(4)
    before = greedy_plan(look_at(policy, subject), subject)
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.02)
    config = LearnConfig(graphs=1, plans=64, learned=24, regions=2, redraws=8)
    for step in range(120):
        learn_from_plans(policy, optimizer, [subject], [np.random.default_rng(step)], config)
    after = greedy_plan(look_at(policy, subject), subject)
    assert before.evaluation is not None
    assert before.evaluation.makespan_seconds == pytest.approx(by_heuristics)
    assert after.evaluation is not None
    assert after.evaluation.makespan_seconds == pytest.approx(optimum)


def test_levels_are_the_heuristics_where_nothing_is_heard_and_the_likeliest_where_not_drawn() -> (
    None
):
    logs = np.log(np.array([[0.6, 0.1, 0.1, 0.1, 0.1], [0.1, 0.6, 0.1, 0.1, 0.1]], np.float32))
    chances = LevelChances(logs, np.log(np.full((2, 3), 1 / 3, np.float32)))
    rng = np.random.default_rng(0)
    never, always = np.zeros(400, bool), np.ones(400, bool)
    assert not np.concatenate(draw_levels(chances, always, never, rng)).any()
    likeliest = draw_levels(chances, never, always, rng)
    assert (likeliest.schedule == [0, 1]).all()
    drawn = draw_levels(chances, always, always, rng)
    assert (drawn.schedule == [0, 1]).mean() == pytest.approx(0.6, abs=0.1)
    assert set(np.unique(drawn.fusion)) == {0, 1, 2}
    levels = neutral_levels(1, 2).columns(0)
    assert [table.tolist() for table in levels] == [[NEUTRAL_LEVEL] * 2, [FUSED_LEVEL] * 2]


def test_a_redrawn_region_keeps_the_levels_of_all_else() -> None:
    subject = make_subject("g", Problem(random_graph(5, 60), toy_cluster(3)), 0, rules=ALL_TASKS)
    ops = subject.instance.problem.graph.op_count
    kept = neutral_levels(1, ops)
    drawn = Levels(*(np.full((4, ops), 2, np.int8) for _ in kept))
    is_open = np.random.default_rng(0).random((4, subject.decoder.choices.count)) < 0.3
    levels = redraw_levels(drawn, kept, subject, is_open)
    wanted = np.where(is_open[:, subject.decoder.choices.choice_of], 2, 0)
    assert (levels.schedule == wanted).all()
    assert (levels.fusion == wanted).all()


def test_what_was_learned_cannot_keep_out_the_tuned_styles() -> None:
    """A policy that says nonsense still has the control's greedy plans among its own."""
    subject = make_subject("g", Problem(random_graph(6, 150), toy_cluster(4)), 0)
    config = DrawConfig(plans=32, first=32, noise=Noise((0.0,), (1.0,), 0.0))
    loud = look_at(policy_of(7, loud=3.0), subject)
    mine = draw_plans(loud, subject, config, 1)
    control = draw_plans(look_untaught(subject), subject, replace(config, plans=16, first=16), 1)
    assert set(control.energies.tolist()) <= set(mine.energies.tolist())
    assert len(set(mine.energies.tolist()) - set(control.energies.tolist())) > 1


def test_a_region_teaches_about_its_own_choices_alone() -> None:
    subject = make_subject("g", Problem(random_graph(8, 120), toy_cluster(3)), 0, rules=ALL_TASKS)
    policy = policy_of(5)
    said = policy(collate_choices([subject], TINY.segment_ops))
    count = subject.decoder.choices.count
    config = LearnConfig(plans=32, learned=8, regions=12, redraws=6, redrawn=(0.1,))
    found = study(
        said.scorer(0, slice(0, count), 3), said.level_chances(slice(None)), subject, config,
        np.random.default_rng(0),
    )  # fmt: skip
    whole, *regions = found.lessons
    assert len(whole.choices) == count
    assert len(whole.worth) == 6  # one better and one worse of each of three temperatures
    assert regions
    for region in regions:
        assert 0 < len(region.choices) < count / 2
        assert np.array_equal(
            np.unique(subject.decoder.choices.choice_of[region.ops]), region.choices
        )
        assert region.considered.any(axis=2).all()
        assert region.worth.sum() == pytest.approx(0.0, abs=1e-9)


def test_drawing_is_reproducible_and_keeps_the_best() -> None:
    subject = make_subject("g", Problem(random_graph(5, 120), toy_cluster(3)), 0)
    config = DrawConfig(plans=40, first=20, each=4)
    look = look_untaught(subject)
    first, again = (draw_plans(look, subject, config, 7) for _ in range(2))
    assert np.array_equal(first.energies, again.energies)
    assert not np.array_equal(first.energies, draw_plans(look, subject, config, 8).energies)
    assert first.best.energy == first.energies.min()
    assert len(first.energies) == 40
    short = draw_plans(look, subject, config, 7, lambda: False)
    assert np.array_equal(short.energies, first.energies[:20])


def test_placers_fit_memory_and_repeat() -> None:
    """A chain whose parameters fit on no device together."""
    records = [
        op(f"o{i}", 1.0, (f"o{i - 1}",) if i else (), 2, resident_bytes=30) for i in range(6)
    ]
    problem = Problem(graph_of(*records), toy_cluster(2, memory_bytes=110))
    draw = DrawConfig(plans=24, first=16, each=4)
    for placer in (
        OneShotPlacer(None, draw),
        OneShotPlacer(policy_of(3), draw),
        OneShotPlacer(policy_of(3), draw, greedy=True),
        OneShotPlacer(
            policy_of(3),
            draw,
            updates=2,
            learn=LearnConfig(plans=24, learned=8, regions=2, redraws=4),
        ),
    ):
        placed, again = (placer(problem, Budget(60.0), 1, silent) for _ in range(2))
        assert placed.best.evaluation.feasible
        assert placed.best.plan == again.best.plan


def test_tuning_leaves_the_policy_alone_and_counts_its_plans() -> None:
    subject = make_subject("g", Problem(random_graph(6, 80), toy_cluster(2)), 0)
    policy = policy_of(4)
    kept = {name: value.clone() for name, value in policy.state_dict().items()}
    tuned = tune_on(policy, subject, LearnConfig(plans=24, learned=8, regions=2, redraws=4), 3, 0)
    assert tuned.updates == 3
    assert tuned.plans == 72
    assert all(torch.equal(value, kept[name]) for name, value in policy.state_dict().items())
    assert any(
        not torch.equal(value, kept[name]) for name, value in tuned.policy.state_dict().items()
    )
    stopped = tune_on(
        policy,
        subject,
        LearnConfig(plans=24, learned=8, regions=2, redraws=4),
        3,
        0,
        go_on=lambda: False,
    )
    assert stopped.updates == 1


@pytest.mark.slow
def test_a_run_that_is_resumed_ends_with_the_same_policy(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    ended = train_one_shot(SMALL_RUN, whole, Silent())
    assert ended.rounds == 4
    assert ended.figures["validation/best_ratio"] > 0

    def stop_after(rounds: int) -> Any:
        left = iter([False] * (rounds - 1) + [True])
        return lambda: next(left)

    assert train_one_shot(SMALL_RUN, parts, Silent(), stop=stop_after(2)).rounds == 2
    resumed = train_one_shot(SMALL_RUN, parts, Silent(), resume=parts / "checkpoint")
    assert difference(ended.policy, resumed.policy) == 0.0
    start = OneShotPolicy(TINY)
    assert difference(ended.policy, start) > 0.0
    best = load_one_shot(whole / "best")
    assert best.about["round"] == 4


def test_priorities_and_kernels_can_be_learned_alone(tmp_path: Path) -> None:
    """Devices stay as the run that it starts from had them."""
    start = policy_of(8, loud=0.2)
    init = save_one_shot(tmp_path / "start", OneShotCheckpoint(start, SMALL_RUN, {}))
    config = replace(
        SMALL_RUN, rounds=2, all_tasks_share=1.0, learn=replace(SMALL_RUN.learn, levels_alone=True)
    )
    ended = train_one_shot(config, tmp_path / "run", Silent(), init=init)
    before, after = start.state_dict(), ended.policy.state_dict()
    for name, value in before.items():
        assert torch.equal(value, after[name]) != name.startswith(LEVEL_HEADS), name


def test_plans_are_compared_with_those_of_their_own_temperature() -> None:
    """Those with less noise are better, all of them: nothing is to be learned from that."""
    temperatures = np.repeat([0.3, 1.0], 8)
    energies = np.arange(16.0)
    is_drawn = np.ones(16, bool)
    picked, worth = _compare_alike(energies, temperatures, is_drawn, 8, np.random.default_rng(0))
    for each in (0.3, 1.0):
        assert worth[temperatures[picked] == each].sum() == pytest.approx(0.0)
    assert set(picked[worth > 0]) == {0, 1, 8, 9}


def test_checkpoints_come_back_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    checkpoint = OneShotCheckpoint(policy_of(5), SMALL_RUN, {"round": 3})
    folder = save_one_shot(tmp_path / "policy", checkpoint)
    back = load_one_shot(folder)
    assert back.training == SMALL_RUN
    assert difference(back.policy, checkpoint.policy) == 0.0
    meta = json.loads((folder / "one-shot.json").read_text())
    for key, value, said in (
        ("format", 99, "format 99"),
        ("columns", {}, "other features"),
        ("training", {"rounds": "many"}, "rounds"),
    ):
        (folder / "one-shot.json").write_text(json.dumps({**meta, key: value}))
        with pytest.raises(CheckpointError, match=said):
            load_one_shot(folder)
    (folder / "one-shot.json").write_text(json.dumps(meta))
    (folder / "one-shot.safetensors").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_one_shot(folder)
    with pytest.raises(CheckpointError, match="no one-shot policy"):
        load_one_shot(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="other things"):
        save_one_shot(other, checkpoint)


def test_the_stream_repeats_itself_and_never_sees_seeds_of_tests() -> None:
    config = StreamConfig(suite="")
    drafts = [draw_draft(config, 0, number) for number in range(200)]
    assert drafts == [draw_draft(config, 0, number) for number in range(200)]
    assert len({draft.name for draft in drafts}) > 190
    assert all(int(draft.graph_ref.split(":")[1]) < 10_000 for draft in drafts)
    assert all(load_cluster(draft.cluster_ref).device_count > 1 for draft in drafts)
    tight = next(draft for draft in drafts if draft.tight is not None)
    loose = replace(tight, tight=None).problem()
    assert tight.problem().cluster.memory_bytes.max() < loose.cluster.memory_bytes.max()
    with pytest.raises(GraphwrightError, match="suite_share"):
        StreamConfig(suite_share=2.0)


def test_the_command_trains_and_places(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    flags = [
        "--policy.width=16", "--policy.heads=2", "--policy.decoder-width=4", "--learn.graphs=1",
        "--learn.plans=16", "--learn.learned=4", "--stream.families", "layered", "--stream.suite=",
        "--stream.least-ops=120", "--stream.most-ops=150", "--kept=2", "--rounds=2",
        "--validation-graphs=1", "--max-ops=700", "--draw.plans=16", "--draw.first=16",
    ]  # fmt: skip
    assert run(["train-one-shot", *flags, f"--out={out}", "--track=none", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["rounds"] == 2
    assert told["best_ratio"] > 0
    assert placer_of(out) == "one-shot"
    assert run(["train-one-shot", f"--resume={out}", "--track=none", "--json"]) == 2
    assert "2 rounds already" in capsys.readouterr().out
    more = ["train-one-shot", f"--resume={out}", "--rounds=3", "--track=none", "--json"]
    assert run(more) == 0
    assert json.loads(capsys.readouterr().out)["rounds"] == 3
    place = ["place", "rnnlm:3:150", "-c", "2xv100-pcie", "--policy", str(out), "--json"]
    assert run([*place, "--out", str(tmp_path / "plan")]) == 0
    assert json.loads(capsys.readouterr().out)["placer"] == "one-shot"
    assert run([*place, "--placer=policy"]) == 2
    capsys.readouterr()
    evaluated = [
        "evaluate", "--suite=validation", "--limit=1", "--one-shot", str(out), "--seeds=0",
        "--only", "portfolio", "one-shot", "one-shot-greedy", "one-shot-untaught", "--json",
    ]  # fmt: skip
    assert run(evaluated) == 0
    rows = json.loads(capsys.readouterr().out)
    assert "one-shot-untaught" in json.dumps(rows)
    overlapping = ["--objective=throughput", "--only", "one-shot"]
    assert run(["evaluate", "--suite=validation", "--limit=1", *overlapping]) == 2


@pytest.mark.skipif(not SHIPPED.is_dir(), reason="no one-shot policy ships with this version")
def test_the_shipped_policy_places() -> None:
    problem = Problem(random_graph(7, 100), toy_cluster(3))
    placed = get_placer("one-shot")(problem, Budget(30.0), 0, silent)
    assert placed.best.evaluation.feasible
    assert placed.evaluations == one_shot_placer("one-shot", None).draw.plans
