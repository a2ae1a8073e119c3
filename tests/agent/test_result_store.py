"""The store of results: one file, many processes, nothing lost, nothing taken for another."""

import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from planted_files import ROOT

from agent.runs.result_store import ResultKey, ResultStore, StoreError

KEY = ResultKey(
    kind="suite", graph_digest="g", cluster_digest="c", memory_rule="", placer="heft",
    placer_digest="", budget_seconds=1.0, seed=0, settings="{}", policy_digest="", version="1",
)  # fmt: skip


def test_what_was_put_is_there_in_another_process_too(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "results.sqlite"
    with ResultStore(path) as store:
        assert store.get(KEY) is None
        assert store.put(KEY, {"makespan_seconds": None, "ops": 3}, 1.5, "abc") == {
            "makespan_seconds": None, "ops": 3,
        }  # fmt: skip
    with ResultStore(path) as again:
        assert again.get(KEY) == {"makespan_seconds": None, "ops": 3}
        assert (len(again), again.cpu_seconds) == (1, 1.5)


@pytest.mark.parametrize("name", [item.name for item in fields(ResultKey)])
def test_each_part_of_a_key_tells_results_apart(name: str, tmp_path: Path) -> None:
    value: Any = getattr(KEY, name)
    changed: dict[str, Any] = {name: value + (1 if isinstance(value, int | float) else "x")}
    other = replace(KEY, **changed)
    with ResultStore(tmp_path / "s") as store:
        store.put(KEY, {"value": 1}, 0.0)
        assert store.get(other) is None
        assert store.put(other, {"value": 2}, 0.0) == {"value": 2}
        assert store.get(KEY) == {"value": 1}


def test_the_first_result_of_a_key_stays(tmp_path: Path) -> None:
    with ResultStore(tmp_path / "s") as ours, ResultStore(tmp_path / "s") as theirs:
        ours.put(KEY, {"value": 1}, 0.0)
        assert theirs.put(KEY, {"value": 2}, 0.0) == {"value": 1}
        assert len(ours) == 1


def test_files_of_something_else_are_refused_and_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but long enough to have a header of a hundred bytes\n" * 4)
    foreign = tmp_path / "foreign.sqlite"
    with sqlite3.connect(foreign) as database:
        database.execute("CREATE TABLE results (value TEXT)")
    database.close()
    later = tmp_path / "later.sqlite"
    ResultStore(later).close()
    with sqlite3.connect(later) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    for path in (text, foreign, later):
        before = path.read_bytes()
        with pytest.raises(StoreError, match=r"not a store of results.*--store another file"):
            ResultStore(path)
        assert path.read_bytes() == before
    link = tmp_path / "link"
    link.symlink_to(later)
    with pytest.raises(StoreError, match="link"):
        ResultStore(link)
    with pytest.raises(StoreError, match="cannot be read or written"):
        ResultStore(tmp_path)


def test_damage_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with ResultStore(path) as store:
        store.put(KEY, {"makespan_seconds": 0.125}, 0.0)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE results SET value = replace(value, '0.125', '0.126')")
    database.close()
    with ResultStore(path) as store, pytest.raises(StoreError, match="not what was written"):
        store.get(KEY)
    # A page of nonsense in the middle.
    with ResultStore(path) as store:
        for seed in range(1, 200):
            store.put(replace(KEY, seed=seed), {"filler": "x" * 100}, 0.0)
    content = bytearray(path.read_bytes())
    for at in range(4096, len(content)):
        content[at] = 0x55
    path.write_bytes(content)
    with pytest.raises(StoreError), ResultStore(path) as store:
        for seed in range(200):
            store.get(replace(KEY, seed=seed))


_WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
sys.path[:0] = [{root!r}, {here!r}]
from test_result_store import KEY
from agent.runs.result_store import ResultStore
name, count = sys.argv[2], int(sys.argv[3])
with ResultStore(Path(sys.argv[1])) as store:
    for seed in range(count):
        store.put(replace(KEY, seed=seed), {{"by": name, "seed": seed}}, 1.0)
        print(seed, flush=True)
"""


def writer(path: Path, name: str, count: int) -> "subprocess.Popen[bytes]":
    script = _WRITER.format(root=str(ROOT), here=str(Path(__file__).parent))
    samples = str(ROOT / "tests" / "samples")
    return subprocess.Popen(
        [sys.executable, "-P", "-c", script, str(path), name, str(count)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{samples}"},
    )


def test_processes_that_open_and_fill_one_new_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "s"
    writers = [writer(path, f"w{number}", 40) for number in range(3)]
    for process in writers:
        process.communicate()
        assert process.returncode == 0
    with ResultStore(path) as store:
        assert len(store) == 40
        for seed in range(40):
            value = store.get(replace(KEY, seed=seed))
            assert value is not None
            assert value["seed"] == seed
            assert value["by"] in ("w0", "w1", "w2")


def test_a_writer_that_is_killed_loses_nothing_that_it_had_put(tmp_path: Path) -> None:
    path = tmp_path / "s"
    process = writer(path, "w", 1_000_000)
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(20)]
    process.send_signal(signal.SIGKILL)
    process.wait()
    said += process.stdout.readlines()
    whole = [int(line) for line in said if line.endswith(b"\n")]
    process.stdout.close()
    with ResultStore(path) as store:
        for seed in whole:
            assert store.get(replace(KEY, seed=seed)) == {"by": "w", "seed": seed}
        store.put(replace(KEY, seed=-1), {"by": "another"}, 0.0)
        assert len(store) >= len(whole) + 1


def test_numbers_that_json_has_not_are_not_written(tmp_path: Path) -> None:
    with ResultStore(tmp_path / "s") as store:
        with pytest.raises(ValueError, match="JSON compliant"):
            store.put(KEY, {"seconds": float("inf")}, 0.0)
        assert len(store) == 0
