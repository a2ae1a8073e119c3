"""What slots teach: the same wherever they are worked out, the costly ones first."""

import json
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dying_searches import DyingSearches
from training_samples import largest_difference, tiny_config, tiny_flags, write_models

from agent.cli.app import run as command
from agent.config import TrainConfig
from agent.learning import moves
from agent.learning.config import MoveConfig
from agent.runs import package_code as code
from agent.runs.tracking.tracker import Silent
from agent.tasks.in_process import InProcess
from agent.tasks.perform import packed, perform, result_of
from agent.tasks.process_pool import ProcessPool
from agent.tasks.task_runner import TaskError
from agent.training import move_phase, slots
from agent.training.batch import Batch
from agent.training.gathering import HandedOut, InTurns, costly_first
from agent.training.loop import pretrain
from agent.training.phases import phase_of
from agent.training.searches import Searches
from agent.training.shares import even_shares, in_order
from agent.training.slots import Slot
from agent.training.starts import Starts
from agent.training.trials import Trials
from agent.training.workers import Workers
from placement.annealing.move_scorer import blank_scorer


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("there") / "models")


@pytest.fixture(scope="module")
def config(models: Path) -> TrainConfig:
    tiny = tiny_config(models)
    agent = replace(tiny.agent, moves=MoveConfig(3e-3, 300, 600, updates=4))
    return replace(tiny, agent=agent, graphs_per_batch=4)


def test_shares_are_even_in_number_and_about_even_in_cost() -> None:
    owners = even_shares([9, 1, 5, 5, 2, 2], 2)
    assert sorted(owners) == [0, 0, 0, 1, 1, 1]
    assert sum(cost for cost, owner in zip([9, 1, 5, 5, 2, 2], owners, strict=True) if owner) == 12
    # One large graph beside small ones: the count decides.
    assert even_shares([100, 1, 1, 1], 2).count(0) == 2
    assert even_shares([3, 1, 2], 1) == [0, 0, 0]
    assert even_shares([1] * 6, 3) == in_order(6, 3) == [0, 1, 2, 0, 1, 2]


def test_each_slot_is_learned_from_by_one_worker(config: TrainConfig) -> None:
    generated = replace(config, suite="train", graphs_per_batch=8)
    starts, phase = Starts(generated), phase_of(generated, 0)
    most, most_in_order = 0, 0
    for number in range(5):
        batches = [
            Batch(generated, workers, number, starts, phase, InTurns(workers))
            for workers in (Workers(0, 2), Workers(1, 2))
        ]
        assert sorted(batches[0].slots + batches[1].slots) == list(range(8))
        ops = [starts.asked(number, slot)[0] for slot in range(8)]
        loads = [sum(ops[slot] for slot in one.slots) for one in batches]
        most += max(loads)
        most_in_order += max(sum(ops[::2]), sum(ops[1::2]))
        assert max(loads) < 0.55 * sum(ops)
    assert most < 0.95 * most_in_order
    assert not starts.episodes._kept, "no graph is built to share them"


class TakesTurns(Workers):
    """The first of two workers, which gets some turns, and is sent what the other one did."""

    def turns(self, total: int) -> Iterator[int]:
        assert total == 4
        return iter((0, 2))

    def exchange(self, outgoing: Sequence[Sequence[Any]]) -> list[Any]:
        # The first turn is slot 1, which the other one learns from; the third is slot 2.
        assert [list(items) for items in outgoing] == [[(2, "slot 2")], [(1, "slot 1")]]
        return [*outgoing[0], (0, "slot 0")]


class Named(Searches):
    """Instead of what it teaches, says which slot it was."""

    def work_out(self, slot: Slot) -> Any:
        return f"slot {slot.number}"

    def cost(self, slot: Slot) -> float:
        return [1.0, 4.0, 2.0, 4.0][slot.number]


def test_what_was_done_for_another_worker_is_sent_to_it(config: TrainConfig) -> None:
    wanted = [Slot(0, number) for number in range(4)]
    job = Named(config, blank_scorer())
    assert [slot.number for slot in costly_first(job, wanted)] == [1, 3, 2, 0]
    found: Mapping[int, Any] = InTurns(TakesTurns(0, 2)).gather(job, wanted, in_order(4, 2))
    assert found == {0: "slot 0", 2: "slot 2"}


def test_costs_are_known_before_anything_is_built(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    generated = replace(config, suite="train", clusters=(), max_ops=600)
    searched: list[int] = []
    draw = moves.draw_search

    def watched(*given: Any) -> moves.SearchDraw:
        drawn = draw(*given)
        searched.append(drawn.evaluations)
        return drawn

    job = Searches(generated, blank_scorer(), Starts(generated))
    asked = [(job.cost(Slot(0, n)), *job.starts.asked(0, n)) for n in range(200)]
    assert not job.starts.episodes._kept
    assert all(0 < cost <= 1000 * ops for cost, ops, devices in asked if devices == 1)
    assert len({devices > 1 for _, _, devices in asked}) == 2, "some have nothing to search"
    cost, ops, _ = next(one for one in asked if one[2] > 1)
    number = next(n for n, one in enumerate(asked) if one[2] > 1)
    monkeypatch.setattr(moves, "draw_search", watched)
    job(Slot(0, number))
    # What is drawn beforehand is what the search then does.
    mean = 300 / np.log(600 / 300)
    assert cost == pytest.approx(ops * (1000 + searched[0] + 0.5 * mean))
    assert Trials(generated, job.starts).cost(Slot(0, number)) == ops


class Packed(InProcess):
    """Does tasks here as other processes do them: with nothing but what is sent."""

    def run(self, job: Any, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        for number, task in reversed(list(enumerate(tasks))):
            yield number, result_of(perform(packed(job), packed(task)))


@pytest.fixture(scope="module")
def whole(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose learner did all by itself."""
    folder = tmp_path_factory.mktemp("whole")
    pretrain(config, folder, Silent())
    return folder / "checkpoint"


def test_a_run_ends_equal_whoever_searches_and_tries_moves(
    config: TrainConfig, whole: Path, tmp_path: Path
) -> None:
    pretrain(config, tmp_path, Silent(), runner=Packed())
    assert largest_difference(whole, tmp_path / "checkpoint") == 0.0
    for file in ("policy.safetensors", "optimizer.safetensors"):
        assert (whole / file).read_bytes() == (tmp_path / "checkpoint" / file).read_bytes()


@pytest.mark.slow
def test_a_run_ends_equal_though_it_went_on_elsewhere_and_a_process_died(
    config: TrainConfig,
    models: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(move_phase, "Searches", DyingSearches)
    order = models.parent / "die-0-2"
    order.touch()
    asked = iter(range(1, 100))
    with ProcessPool(2) as pool:
        stopped = pretrain(config, tmp_path, Silent(), stop=lambda: next(asked) >= 2, runner=pool)
    assert stopped.rounds == 2  # one of searches, one of moves that are tried
    assert not order.exists()
    torch.manual_seed(99)
    pretrain(config, tmp_path, Silent(), resume=tmp_path / "checkpoint")
    assert largest_difference(whole, tmp_path / "checkpoint") == 0.0


def test_other_files_and_other_code_are_refused(
    config: TrainConfig, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: Trials = pickle.loads(pickle.dumps(Trials(config, Starts(config))))
    assert sent._starts is None, "graphs are not sent"
    digest = sent.files(Slot(0, 0))
    assert len(digest) == 16
    assert len(sent(Slot(0, 0, digest))) == config.agent.episode.steps
    with pytest.raises(TaskError, match="need the same files at the same paths"):
        sent(Slot(0, 0, "0" * 16))
    monkeypatch.setattr(slots, "package_code", lambda: "other")
    with pytest.raises(TaskError, match="install the same version"):
        sent(Slot(0, 0, digest))


def test_slots_are_handed_out_with_what_their_files_hold(config: TrainConfig) -> None:
    handed: list[Slot] = []

    class Records(InProcess):
        def run(self, job: Any, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
            handed.extend(tasks)
            for number, task in reversed(list(enumerate(tasks))):
                yield number, job(task)

    job = Named(config, blank_scorer(), Starts(config))
    found: Mapping[int, Any] = HandedOut(Workers(1, 2), Records()).gather(
        job, [Slot(0, number) for number in range(4)], in_order(4, 2)
    )
    assert found == {1: "slot 1", 3: "slot 3"}
    assert [slot.files for slot in handed] == [job.files(slot) for slot in handed]
    assert all(slot.files for slot in handed)


def test_the_digest_of_the_code_changes_with_any_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for text in ("x = 1\n", "x = 2\n"):
        (tmp_path / "part").mkdir(exist_ok=True)
        (tmp_path / "part" / "one.py").write_text(text)
        monkeypatch.setattr(
            code,
            "find_spec",
            lambda name: type("Spec", (), {"submodule_search_locations": [str(tmp_path)]}),
        )
        code.package_code.cache_clear()
        found.append(code.package_code())
    monkeypatch.undo()
    code.package_code.cache_clear()
    assert len({*found, code.package_code()}) == 3


def test_flags_that_do_not_go_together_are_said(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    throughput = ("--objective=throughput", "--in-flight=2")
    for more, said in (
        (("--jobs", "0"), "--jobs 0"),
        (("--ray", "--jobs", "2"), "Ray has as many"),
        (("--ray", "a:1", "b:2"), "one address"),
        (("--jobs", "2", *throughput), "--jobs: all rounds of this run are policy gradients"),
        (("--ray", *throughput), "--ray: all rounds of this run are policy gradients"),
        (("--ray", "127.0.0.1:1"), "nothing answers"),
    ):
        flags = [*tiny_flags(models), "--json", f"--out={models.parent / 'out'}"]
        assert command(["train", *flags, *more]) == 2
        assert said in json.loads(capsys.readouterr().out)["error"]
    assert not (models.parent / "out").exists(), "nothing is begun that cannot go on"
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert command(["train", *tiny_flags(models), "--json", "--ray"]) == 2
    assert "give its address or auto" in json.loads(capsys.readouterr().out)["error"]
