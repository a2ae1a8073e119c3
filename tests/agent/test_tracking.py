"""Trackers: a local record in any case, W&B without a network, no run lost to a tracker."""

import importlib
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb
from graph_samples import graph_of, op, toy_cluster

from agent.runs.tracking.jsonl import JsonLines, read_lines
from agent.runs.tracking.open_tracker import TRACKERS, check_choice, open_tracker
from agent.runs.tracking.options import TrackOptions
from agent.runs.tracking.plan_pictures import device_rows, placement_picture, track_plan
from agent.runs.tracking.several import Several
from agent.runs.tracking.tracker import Silent, Tracker, aligned
from agent.runs.tracking.wandb_tracker import WandbTracker, flatten, has_key
from envs.instance import Instance
from graphs.errors import GraphwrightError
from placement.problem import Problem
from simulator.plan import Plan

PIXELS = np.zeros((4, 6, 3), np.uint8)
ROWS: list[dict[str, Any]] = [
    {"graph": "a", "ratio": 0.9},
    {"graph": "b", "ratio": 0.8, "files": "c"},
]


def tell_everything(tracker: Tracker, policy: Path) -> None:
    tracker.log(1, {"loss": 0.5})
    tracker.log(2, {"loss": 0.25, "validation/ratio": 0.9})
    tracker.log(3, {"validation/ratio": 0.95})
    tracker.table("validation/graphs", ROWS, 3)
    tracker.image("plan/gantt", PIXELS, 3)
    tracker.artifact("policy of mine", "policy", policy, {"round": 3})
    tracker.summary({"final/rounds": 3})
    tracker.close()


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    folder = tmp_path / "run" / "best"
    folder.mkdir(parents=True)
    (folder / "policy.json").write_text('{"who": "a policy of this test"}')
    return folder


def test_rows_of_a_table_may_lack_what_others_have() -> None:
    rows = [{"graph": "a"}, {"graph": "b", "files": "c"}]
    assert aligned(rows) == (["graph", "files"], [["a", None], ["b", "c"]])


def test_every_tracker_is_one() -> None:
    assert isinstance(Silent(), Tracker)
    assert isinstance(Several([]), Tracker)
    assert isinstance(JsonLines, type)
    assert all(hasattr(WandbTracker, name) for name in ("log", "table", "image", "artifact"))


@pytest.mark.parametrize("track", ["none", "wandb"])
def test_the_local_record_is_always_there(track: str, policy: Path) -> None:
    folder = policy.parent
    tell_everything(open_tracker(folder, {}, TrackOptions(track)), policy)
    lines = read_lines(folder)
    assert [line["figures"] for line in lines if "figures" in line] == [
        {"loss": 0.5},
        {"loss": 0.25, "validation/ratio": 0.9},
        {"validation/ratio": 0.95},
    ]
    assert {"step": 3, "table": "validation/graphs", "rows": ROWS} in lines
    (picture,) = [line for line in lines if "picture" in line]
    assert (folder / picture["path"]).read_bytes().startswith(b"\x89PNG")
    (artifact,) = [line for line in lines if "artifact" in line]
    assert (artifact["path"], artifact["metadata"]) == ("best", {"round": 3})
    assert {"step": 3, "summary": {"final/rounds": 3}} in lines


def test_a_line_is_on_disk_when_it_was_told(tmp_path: Path) -> None:
    tracker = JsonLines(tmp_path)
    tracker.log(1, {"loss": 0.5})
    assert read_lines(tmp_path) == [{"step": 1, "figures": {"loss": 0.5}}]
    tracker.close()


def test_lines_are_json_whatever_is_told(tmp_path: Path) -> None:
    tracker = JsonLines(tmp_path)
    figures: dict[str, Any] = {"best": np.float32(0.5), "count": np.int64(3)}
    tracker.log(1, {"loss": float("nan"), **figures})
    tracker.table("t", [{"path": Path("a"), "cost": float("inf"), "none": None}], 1)
    tracker.close()

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    text = (tmp_path / "metrics.jsonl").read_text().splitlines()
    first, second = (json.loads(line, parse_constant=refuse) for line in text)
    assert first["figures"] == {"loss": None, "best": 0.5, "count": 3}
    assert second["rows"] == [{"path": "a", "cost": None, "none": None}]


def test_a_resumed_record_has_no_step_twice_and_no_half_line(tmp_path: Path) -> None:
    tracker = JsonLines(tmp_path)
    for step in range(1, 6):
        tracker.log(step, {"loss": step})
    tracker.summary({"final/rounds": 5})
    tracker.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "figu')
    tracker = JsonLines(tmp_path, resumed_at=3)
    tracker.log(4, {"loss": 40})
    tracker.close()
    assert [(line["step"], line["figures"]["loss"]) for line in read_lines(tmp_path)] == [
        (1, 1), (2, 2), (3, 3), (4, 40),
    ]  # fmt: skip


def test_what_is_not_known_or_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GraphwrightError, match="unknown tracker 'mlflow'; there are wandb, tens"):
        check_choice("mlflow")
    monkeypatch.setattr("agent.runs.tracking.tensorboard_tracker.find_spec", lambda _: None)
    with pytest.raises(GraphwrightError, match="pip install tensorboard"):
        check_choice("tensorboard")
    assert set(TRACKERS) == {"wandb", "tensorboard", "none"}


def wandb_records(folder: Path) -> list[Any]:
    """What W&B's own files of a run's folder hold, in order of the segments."""
    messages = importlib.import_module("wandb.proto.wandb_internal_pb2")  # has no types

    found = []
    for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        segment: list[Any] = []
        for _ in range(300):  # W&B's own process writes the file, a moment after we are done
            segment = [
                messages.Record.FromString(data) for data in leveldb_records(path.read_bytes())
            ]
            if any(record.HasField("exit") for record in segment):
                break
            time.sleep(0.1)
        found.extend(segment)
    return found


def leveldb_records(data: bytes) -> list[bytes]:
    """Records of a LevelDB log, which begins with W&B's own seven bytes."""
    block_bytes, last_parts = 32768, (1, 4)
    records, parts, at = [], [], 7
    while at + 7 <= len(data):
        if (left := block_bytes - at % block_bytes) < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        parts.append(data[at + 7 : at + 7 + length])
        at += 7 + length
        if kind in last_parts:
            records.append(b"".join(parts))
            parts = []
    return records


def test_wandb_offline_keeps_everything_in_the_run_folder(policy: Path) -> None:
    folder = policy.parent
    outside = {name: os.environ.get(name) for name in ("WANDB_DIR", "WANDB_DATA_DIR")}
    options = TrackOptions("wandb", "a-project", "a-group", "a-name", ("a-tag",), "train")
    tell_everything(open_tracker(folder, {"ppo": {"lr": 0.01}}, options), policy)
    assert {name: os.environ.get(name) for name in outside} == outside
    staged = [path for path in (folder / "wandb" / "data").rglob("*") if path.is_file()]
    assert "a policy of this test" in "".join(path.read_text() for path in staged)
    assert list(folder.glob("wandb/offline-run-*/files/media/images/plan/*.png"))
    records = wandb_records(folder)
    (run,) = [record.run for record in records if record.HasField("run")]
    assert (run.project, run.run_group, run.display_name) == ("a-project", "a-group", "a-name")
    assert (run.job_type, list(run.tags)) == ("train", ["a-tag"])
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["ppo.lr"] == 0.01
    metrics = {r.metric.name: r.metric for r in records if r.HasField("metric")}
    assert metrics["validation/ratio"].summary.min
    artifacts = {record.artifact.name: record.artifact.type for record in records}
    assert artifacts["policy-of-mine"] == "policy"


def test_wandb_resumed_offline_is_another_segment_of_the_same_run(policy: Path) -> None:
    folder = policy.parent
    for resumed_at in (None, 3):
        tracker = open_tracker(folder, {}, TrackOptions("wandb"), resumed_at)
        tracker.log(4, {"loss": 1.0})
        tracker.close()
    ids = {record.run.run_id for record in wandb_records(folder) if record.HasField("run")}
    assert ids == {(folder / "wandb" / "run_id.txt").read_text().strip()}
    told = [
        record.history.step.num for record in wandb_records(folder) if record.HasField("history")
    ]
    assert told == [4, 4]  # each segment counts as the run does, not from 0 anew


def test_a_fault_of_wandb_is_a_warning_and_the_run_goes_on(
    policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = open_tracker(policy.parent, {}, TrackOptions("wandb"))

    def broken(*_: object, **__: object) -> None:
        raise wandb.errors.CommError("wires crossed")

    monkeypatch.setattr(wandb.Run, "log", broken)
    with pytest.warns(RuntimeWarning, match="wires crossed") as caught:
        tell_everything(tracker, policy)
    assert len([item for item in caught if "W&B" in str(item.message)]) == 1
    assert len(read_lines(policy.parent)) == 7


def test_wandb_that_cannot_be_reached_is_used_offline(
    policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    init = wandb.init

    def unreachable(**given: Any) -> object:
        if given["mode"] == "online":
            raise wandb.errors.CommError("no route to host")
        return init(**given)

    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setattr(wandb, "init", unreachable)
    with pytest.warns(RuntimeWarning, match="kept offline"):
        tracker = open_tracker(policy.parent, {}, TrackOptions("wandb"))
    tell_everything(tracker, policy)
    assert wandb_records(policy.parent)


def test_a_key_is_found_where_wandb_looks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert not has_key()
    (tmp_path / "netrc").write_text("machine elsewhere.org login user password x\n")
    assert not has_key()
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password x\n")
    assert has_key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://own.server:8080")
    assert not has_key()
    monkeypatch.setenv("WANDB_API_KEY", "x")
    assert has_key()


def test_wandb_without_a_key_makes_no_connection(policy: Path) -> None:
    """Every way out leads to a socket of ours: W&B's server and every proxy."""
    server = socket.create_server(("127.0.0.1", 0))
    knocks: list[object] = []

    def listen() -> None:
        while True:
            try:
                knocks.append(server.accept())
            except OSError:
                return

    threading.Thread(target=listen, daemon=True).start()
    url = f"http://127.0.0.1:{server.getsockname()[1]}"
    code = (
        "from pathlib import Path\n"
        "from agent.runs.tracking.options import TrackOptions\n"
        "from agent.runs.tracking.wandb_tracker import WandbTracker\n"
        f"folder = Path({str(policy.parent)!r})\n"
        "tracker = WandbTracker(folder, {}, TrackOptions('wandb'))\n"
        "tracker.log(1, {'loss': 0.5})\n"
        "tracker.artifact('policy', 'policy', folder / 'best')\n"
        "tracker.close()\n"
    )
    ways = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "WANDB_BASE_URL")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("WANDB")
    }
    environment |= dict.fromkeys((*ways, *(way.lower() for way in ways)), url)
    environment |= {"HOME": str(policy.parent), "NETRC": str(policy.parent / "none")}
    environment.pop("no_proxy", None)
    environment.pop("NO_PROXY", None)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment, capture_output=True, text=True, check=False, timeout=3600,
        cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    server.close()
    assert done.returncode == 0, done.stderr
    assert wandb_records(policy.parent)
    assert knocks == []


def test_settings_are_named_as_sweeps_name_them() -> None:
    assert flatten({"ppo": {"lr": 0.1}, "rounds": 3, "moves": [1, 2]}) == {
        "ppo.lr": 0.1, "rounds": 3, "moves": [1, 2],
    }  # fmt: skip


def test_pictures_and_tables_show_the_plan(tmp_path: Path) -> None:
    records = [op(f"op{i}", 1.0, (f"op{i - 1}",) if i else (), 5) for i in range(6)]
    instance = Instance("sample", Problem(graph_of(*records), toy_cluster(2)))
    split = Plan.of(np.array([0, 0, 0, 0, 1, 1], np.int32))
    rows = device_rows(instance.problem.simulator.trace(split))
    assert [row["ops"] for row in rows] == [4, 2]
    assert [row["sent_bytes"] for row in rows] == [5.0, 0.0]
    one = Plan.of(np.zeros(6, np.int32))
    pictures = [placement_picture(instance, plan) for plan in (split, one)]
    assert pictures[0].shape == pictures[1].shape == (320, 960, 3)
    assert (pictures[0] != pictures[1]).any()
    tracker = JsonLines(tmp_path)
    track_plan(tracker, instance, split, 7)
    tracker.close()
    assert [line["step"] for line in read_lines(tmp_path)] == [7, 7, 7]
