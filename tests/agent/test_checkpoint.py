"""Checkpoints: numbers come back as they were, damage is noticed, interruption harmless."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from training_samples import largest_difference, tiny_policy

from agent.runs.checkpoint import (
    Checkpoint,
    load_checkpoint,
    optimizer_state,
    restore_optimizer,
    save_checkpoint,
)
from agent.runs.policy_file import CheckpointError
from agent.runs.unbuilt_policy import find_policy


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    policy, config = tiny_policy()
    return save_checkpoint(tmp_path / "saved", Checkpoint(policy, config, {"round": 3}))


def rewrite(folder: Path, **changes: object) -> None:
    path = folder / "policy.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_policy_comes_back_as_it_was(saved: Path) -> None:
    policy, config = tiny_policy()
    found = load_checkpoint(saved)
    assert found.config == config
    assert found.about == {"round": 3}
    assert found.optimizer is None
    for name, value in policy.state_dict().items():
        assert torch.equal(found.policy.state_dict()[name], value)
    assert {path.name for path in saved.iterdir()} == {"policy.json", "policy.safetensors"}


def test_the_optimizer_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    def step(policy: torch.nn.Module, optimizer: torch.optim.Adam, factor: float) -> None:
        terms = [(value * factor).sin().sum() for value in policy.parameters()]
        loss = torch.stack(terms).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    policy, config = tiny_policy()
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.01)
    step(policy, optimizer, 1.0)
    state = optimizer_state(policy, optimizer)
    save_checkpoint(tmp_path / "half", Checkpoint(policy, config, {}, state))
    found = load_checkpoint(tmp_path / "half")
    again = torch.optim.Adam(found.policy.parameters(), lr=0.01)
    restore_optimizer(found.policy, again, found.optimizer or {})
    for factor in (2.0, 3.0):
        step(policy, optimizer, factor)
        step(found.policy, again, factor)
    state, other = optimizer_state(policy, optimizer), optimizer_state(found.policy, again)
    save_checkpoint(tmp_path / "one", Checkpoint(policy, config, {}, state))
    save_checkpoint(tmp_path / "two", Checkpoint(found.policy, config, {}, other))
    assert largest_difference(tmp_path / "one", tmp_path / "two") == 0.0


@pytest.mark.parametrize("name", ["policy.safetensors", "policy.json"])
def test_a_damaged_file_is_noticed(saved: Path, name: str) -> None:
    path = saved / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(saved)


def test_another_version_is_refused(saved: Path) -> None:
    rewrite(saved, format=99)
    with pytest.raises(CheckpointError, match="a policy of format 99; this version reads format"):
        load_checkpoint(saved)


def test_other_features_are_refused(saved: Path) -> None:
    columns = json.loads((saved / "policy.json").read_text())["columns"]
    columns["ops"][0], columns["ops"][1] = columns["ops"][1], columns["ops"][0]
    rewrite(saved, columns=columns)
    with pytest.raises(CheckpointError, match="other features"):
        load_checkpoint(saved)


def test_weights_of_another_network_are_refused(saved: Path) -> None:
    config = json.loads((saved / "policy.json").read_text())["config"]
    config["policy"]["width"] = 32
    rewrite(saved, config=config)
    with pytest.raises(CheckpointError, match="disagree"):
        load_checkpoint(saved)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_no_numbers_are_refused(saved: Path, value: float) -> None:
    weights = load_file(saved / "policy.safetensors")
    name = max(weights, key=lambda one: weights[one].numel())
    weights[name].view(-1)[3] = value
    save_file(weights, saved / "policy.safetensors")
    with pytest.raises(CheckpointError, match="not finite"):
        load_checkpoint(saved)


def test_unknown_settings_are_refused(saved: Path) -> None:
    config = json.loads((saved / "policy.json").read_text())["config"]
    config["policy"]["wdith"] = 32
    rewrite(saved, config=config)
    with pytest.raises(CheckpointError, match=r"unknown setting policy\.wdith"):
        load_checkpoint(saved)


def test_no_checkpoint_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no policy there; give a folder"):
        load_checkpoint(tmp_path)


def test_an_interrupted_write_leaves_the_checkpoint_before(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, config = tiny_policy(seed=1)
    monkeypatch.setattr("agent.runs.checkpoint.json.dumps", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_checkpoint(saved, Checkpoint(policy, config, {"round": 4}))
    assert load_checkpoint(saved).about == {"round": 3}
    monkeypatch.undo()
    save_checkpoint(saved, Checkpoint(policy, config, {"round": 4}))
    assert load_checkpoint(saved).about == {"round": 4}
    assert [path.name for path in saved.parent.iterdir()] == ["saved"]


def test_interrupted_between_two_renames_the_old_one_is_found(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, config = tiny_policy(seed=1)
    rename = Path.rename

    def only_the_first(path: Path, target: Path) -> Path:
        if path.name.endswith(".partial"):
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", only_the_first)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(saved, Checkpoint(policy, config, {"round": 4}))
    monkeypatch.undo()
    assert not saved.exists()
    assert load_checkpoint(saved).about == {"round": 3}
    save_checkpoint(saved, Checkpoint(policy, config, {"round": 5}))
    assert load_checkpoint(saved).about == {"round": 5}


def test_what_is_no_checkpoint_is_not_replaced(tmp_path: Path) -> None:
    policy, config = tiny_policy()
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(CheckpointError, match="holds other things than a policy"):
        save_checkpoint(tmp_path, Checkpoint(policy, config, {}))
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "no settings"),
        (["policy"], "no settings"),
        (7.5, "no settings"),
        ({"policy": {"width": 10**9, "heads": 1}}, "width is 1000000000; give 1 to 16384"),
        ({"policy": {"heads": 0}}, "heads is 0; give 1 to"),
        ({"policy": {"sage_layers": 10**6}}, "sage_layers is 1000000; give 0 to 64"),
        ({"policy": {"attention_layers": -1}}, "attention_layers is -1; give 0 to 64"),
        ({"policy": {"move_widths": [2**31, 4]}}, "move_widths is 2147483648; give 1 to"),
        ({"policy": {"width": 16384, "heads": 1, "sage_layers": 64}}, "disagree about"),
    ],
)
def test_settings_of_no_sensible_network_are_refused(
    saved: Path, config: object, message: str
) -> None:
    rewrite(saved, config=config)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(saved)


@pytest.mark.parametrize("shape", [(), (1,), (1, 8), (200, 8), (3, 8, 2)])
def test_rows_of_kinds_of_another_shape_are_refused(saved: Path, shape: tuple[int, ...]) -> None:
    weights = load_file(saved / "policy.safetensors")
    save_file({**weights, "encoder.kind.weight": torch.zeros(shape)}, saved / "policy.safetensors")
    with pytest.raises(CheckpointError, match="disagree about"):
        load_checkpoint(saved)


def test_notes_that_are_no_object_are_none(saved: Path) -> None:
    rewrite(saved, about=[1])
    assert load_checkpoint(saved).about == {}


def test_a_policy_that_is_not_built_scores_moves_the_same(saved: Path) -> None:
    unbuilt, built = find_policy(saved), load_checkpoint(saved)
    assert unbuilt.config == built.config
    for mine, theirs in zip(unbuilt.moves.as_scorer(), built.policy.moves.as_scorer(), strict=True):
        assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
        assert mine.tobytes() == theirs.tobytes()
        assert mine.flags["C_CONTIGUOUS"]
    whole = unbuilt.network.state_dict()
    assert all(torch.equal(value, whole[n]) for n, value in built.policy.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("moves.first.bias"), "disagree about moves.first.bias"),
        (lambda weights: weights.update({"moves.scale": torch.zeros(3)}), "disagree about moves"),
        (lambda weights: weights["moves.last.bias"].fill_(torch.inf), "last.bias are not finite"),
        (lambda weights: weights["encoder.mix.bias"].fill_(torch.nan), "mix.bias are not finite"),
    ],
)
def test_a_policy_that_is_not_built_is_looked_at(
    saved: Path, change: Callable[[dict[str, torch.Tensor]], object], message: str
) -> None:
    weights = load_file(saved / "policy.safetensors")
    change(weights)
    save_file(weights, saved / "policy.safetensors")
    with pytest.raises(CheckpointError, match=message):
        find_policy(saved)


@pytest.mark.parametrize("name", ["policy.json", "policy.safetensors"])
def test_a_policy_that_is_not_built_may_be_damaged(saved: Path, name: str) -> None:
    (saved / name).write_bytes(b"{")
    with pytest.raises(CheckpointError, match="cannot be read"):
        find_policy(saved)
    (saved / name).unlink()
    with pytest.raises(CheckpointError):
        find_policy(saved)
