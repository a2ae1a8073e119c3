"""Two measurements on one core take turns, whoever began and however the first one ends."""

import subprocess
import sys
from pathlib import Path

import pytest
from device_models import core_cluster
from planted_files import ROOT

from agent.runs import device_lock
from agent.runs.device_lock import devices_of, exclusive
from simulator import preset

HOLDS = (
    "import sys, pathlib; sys.path.insert(0, sys.argv[1])\n"
    "from agent.runs import device_lock\n"
    "device_lock._FOLDER = pathlib.Path(sys.argv[2])\n"
    "with device_lock.exclusive(['core-1', 'core-0'], lambda device: None):\n"
    "    print('held', flush=True); sys.stdin.read()"
)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_lock, "_FOLDER", tmp_path)


def other(folder: Path) -> "subprocess.Popen[str]":
    """Another process, which holds two cores."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(ROOT), str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("killed", [True, False])
def test_a_device_that_is_held_is_waited_for(tmp_path: Path, killed: bool) -> None:
    process = other(tmp_path)
    told: list[str] = []

    def end(device: str) -> None:
        told.append(device)
        if killed:
            process.kill()
        else:
            process.communicate("")

    with exclusive(["core-0", "core-2"], end):
        assert told == ["core-0"]
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_what_nobody_holds_is_not_waited_for(tmp_path: Path) -> None:
    told: list[str] = []
    with exclusive(["core-0"], told.append), exclusive(["core-1"], told.append):
        pass
    with exclusive(["core-0", "core-0"], told.append):
        pass
    assert told == []


def test_without_a_folder_nothing_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_lock, "_FOLDER", tmp_path / "none")
    with exclusive(["core-0"], pytest.fail), exclusive(["core-0"], pytest.fail):
        pass


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "graphwright-core-0.lock").symlink_to(tmp_path / "made")
    with exclusive(["core-0"], pytest.fail):
        assert not (tmp_path / "made").exists()


def test_names_are_of_pinned_cores_and_of_accelerators() -> None:
    assert devices_of(core_cluster(), (4, 7, 9)) == ("core-4", "core-7")
    assert devices_of(preset("2xv100-pcie"), (3,)) == (
        "core-3", "accelerator-0", "accelerator-1",
    )  # fmt: skip
