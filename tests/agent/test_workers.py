"""Several processes: they train what one would, one of them writes, and none is waited for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from training_samples import largest_difference, tiny_config, tiny_flags, write_models

from agent.runs.tracking.jsonl import read_lines
from agent.runs.tracking.tracker import Silent
from agent.training.loop import pretrain
from agent.training.workers import Workers
from graphs.errors import GraphwrightError

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


def torchrun(*tokens: str, temporary: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Two workers over gloo; `temporary` is where they leave what they say of their faults."""
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *tokens]
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT, env=ENVIRONMENT | ({} if temporary is None else {"TMPDIR": str(temporary)}),
        capture_output=True, text=True, check=False, timeout=3600,
    )  # fmt: skip


@pytest.mark.slow
def test_two_workers_train_what_one_does_with_the_whole_batch(models: Path, tmp_path: Path) -> None:
    script = tmp_path / "steady.py"
    # Where a gradient is zero but for rounding, Adam makes a whole step of the rounding.
    script.write_text(
        "import sys\n"
        "from functools import partial\n"
        "import torch\n"
        "torch.optim.Adam = partial(torch.optim.Adam, eps=1e-3)\n"
        "from agent.cli.app import run\n"
        "sys.exit(run(sys.argv[1:]))\n"
    )
    flags = [*tiny_flags(models, rounds=4), "--track=none", "--json"]
    flags[flags.index("--graphs-per-batch=2")] = "--graphs-per-batch=4"
    done = torchrun(str(script), "train", *flags, f"--out={tmp_path / 'two'}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1, "one worker speaks for all"
    assert json.loads(done.stdout)["rounds"] == 4
    alone = [sys.executable, str(script), "train", *flags, f"--out={tmp_path / 'one'}"]
    subprocess.run(alone, cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True, timeout=3600)
    # The first worker stores what it learned from itself, not the lessons of the others.
    assert (
        largest_difference(tmp_path / "two/checkpoint", tmp_path / "one/checkpoint", False) < 1e-5
    )
    two, one = read_lines(tmp_path / "two"), read_lines(tmp_path / "one")
    for mine, theirs in zip(two, one, strict=True):
        assert mine["step"] == theirs["step"]
        for name in {"loss", "outcome_loss", "validation/ratio"} & mine.get("figures", {}).keys():
            assert mine["figures"][name] == pytest.approx(theirs["figures"][name], rel=1e-4), name
    assert json.loads((tmp_path / "two/config.json").read_text())["workers"] == 2


@pytest.mark.slow
def test_it_does_not_matter_which_worker_is_slow(models: Path, tmp_path: Path) -> None:
    for quick in (0, 1):
        script = tmp_path / f"quick_{quick}.py"
        # One worker takes every turn, and the other is given what its own slots teach.
        script.write_text(
            "import sys\n"
            "from agent.cli.app import run\n"
            "from agent.training.workers import Workers\n"
            f"Workers.turns = lambda self, n: iter(range(n) if self.rank == {quick} else ())\n"
            "sys.exit(run(sys.argv[1:]))\n"
        )
        flags = [*tiny_flags(models), "--track=none", f"--out={tmp_path / str(quick)}"]
        done = torchrun(str(script), "train", *flags)
        assert done.returncode == 0, done.stderr
    assert largest_difference(tmp_path / "0/checkpoint", tmp_path / "1/checkpoint") == 0.0


def test_each_turn_is_taken_once_and_what_is_sent_arrives(tmp_path: Path) -> None:
    script = tmp_path / "turns.py"
    script.write_text(
        "import pathlib, sys\n"
        "from agent.training.workers import join_workers, leave_workers\n"
        "workers = join_workers('cpu')\n"
        "taken = []\n"
        "for _ in range(2):\n"
        "    mine = list(workers.turns(50))\n"
        "    taken.append(workers.gather_items(mine))\n"
        "other = 1 - workers.rank\n"
        "letters = [[], []]\n"
        "letters[workers.rank] = ['kept']\n"
        "letters[other] = [('from', workers.rank)] * (3 * workers.rank)\n"
        "come = [workers.exchange(letters), workers.exchange([[], []])]\n"
        "found = [*map(sorted, taken), come]\n"
        "pathlib.Path(sys.argv[1], str(workers.rank)).write_text(repr(found))\n"
        "leave_workers()\n"
    )
    done = torchrun(str(script), str(tmp_path))
    assert done.returncode == 0, done.stderr
    first, second = ((tmp_path / str(rank)).read_text() for rank in (0, 1))
    all_of_them = list(range(50))
    assert first == repr([all_of_them, all_of_them, [["kept", *[("from", 1)] * 3], []]])
    assert second == repr([all_of_them, all_of_them, [["kept"], []]])


@pytest.mark.slow
def test_a_worker_without_any_move_to_try_keeps_up_with_the_others(
    models: Path, tmp_path: Path
) -> None:
    script = tmp_path / "one_device.py"
    # Each worker has one graph of a batch; the first one's is on one device every time.
    script.write_text(
        "import sys\n"
        "from agent.cli.app import run\n"
        "from agent.training.starts import Starts\n"
        "from placement.suites import Pair\n"
        "draw = Starts.draw\n"
        "def drawn(self, number, slot):\n"
        "    wanted = 1 if slot == 0 else 4\n"
        "    for other in range(100):\n"
        "        state = draw(self, number + 1000 * other, slot)\n"
        "        if state.instance.problem.cluster.device_count == wanted:\n"
        "            return state\n"
        "    raise AssertionError('no such pair drawn')\n"
        "Starts.draw = drawn\n"
        "sys.exit(run(sys.argv[1:]))\n"
    )
    flags = [flag for flag in tiny_flags(models, rounds=3) if "share=" not in flag]
    flags += ["--move-share=0", "--outcome-share=1", "--clusters=1xa100-pcie@16GiB"]
    flags += ["--track=none", "--json", f"--out={tmp_path / 'out'}"]
    done = torchrun(str(script), "train", *flags)
    assert done.returncode == 0, done.stderr
    losses = [
        line["figures"]["outcome_loss"]
        for line in read_lines(tmp_path / "out")
        if "outcome_loss" in line.get("figures", {})
    ]
    assert len(losses) == 3
    assert min(losses) > 0


def test_one_worker_that_fails_ends_all(models: Path, tmp_path: Path) -> None:
    script = tmp_path / "one_fails.py"
    script.write_text(
        "import sys\n"
        "from agent.cli.app import run\n"
        "from agent.training.loop import Pretraining\n"
        "run_round = Pretraining.run_round\n"
        "def failing(self):\n"
        "    if self.workers.rank == 1 and self.round == 1:\n"
        "        raise OSError('no space left')\n"
        "    return run_round(self)\n"
        "Pretraining.run_round = failing\n"
        "sys.exit(run(sys.argv[1:]))\n"
    )
    flags = [*tiny_flags(models, rounds=50), "--track=none"]
    done = torchrun(str(script), "train", *flags, f"--out={tmp_path / 'out'}", temporary=tmp_path)
    assert done.returncode != 0
    assert "no space left" in done.stderr
    rounds = [line for line in read_lines(tmp_path / "out") if "lr" in line.get("figures", {})]
    assert len(rounds) == 1


def test_a_batch_that_cannot_be_shared_evenly_is_refused(models: Path, tmp_path: Path) -> None:
    with pytest.raises(GraphwrightError, match="is 3, which 2 workers cannot share evenly"):
        Workers(0, 2).check_shares(3)
    with pytest.raises(GraphwrightError, match="cannot share evenly"):
        pretrain(tiny_config(models), tmp_path, Silent(), workers=Workers(0, 4))
    Workers(0, 2).check_shares(4)


def test_alone_nothing_is_shared() -> None:
    alone = Workers()
    assert alone.is_first
    assert alone.mean({"loss": 0.5}) == {"loss": 0.5}
    assert alone.any(True)
    assert not alone.any(False)
