"""Files are written whole or not at all, wherever the disk, a link or a signal gets in the way."""

import ast
import errno
import json
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from graph_samples import graph_of, op
from planted_files import ROOT

from agent.cli import app
from agent.cli.app import run
from agent.runs.tracking.jsonl import METRICS, JsonLines, read_lines
from graphs.errors import GraphwrightError
from graphs.graph_file import write_graph
from graphs.whole_files import (
    add_line,
    open_to_append,
    whole_file,
    whole_folder,
    write_by_name,
    write_whole,
)

PRECIOUS = "precious"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "chain.gwgraph"
    write_graph(graph_of(op("a", 1e12), op("b", 1e12, ("a",))), path)
    return path


def command(folder: Path, words: list[str], **pipes: Any) -> "subprocess.CompletedProcess[bytes]":
    """Run `graphwright` with the given pipes."""
    script = folder / "graphwright"
    script.write_text("import sys\nfrom agent.cli import main\nsys.exit(main())\n")
    return subprocess.run(
        [sys.executable, str(script), *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False, **pipes,
    )  # fmt: skip


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_is_written_is_there_with_the_usual_mode(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    before = os.umask(0o027)
    try:
        write_whole(path, "text \u00fc")
    finally:
        os.umask(before)
    assert path.read_text(encoding="utf-8") == "text \u00fc"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o604)
    write_whole(path, b"bytes")
    assert path.read_bytes() == b"bytes"
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
    assert list(path.parent.iterdir()) == [path]
    long = tmp_path / ("n" * 255)
    write_whole(long, "as long as a name may be")
    assert long.is_file()


def test_a_link_is_replaced_and_what_it_points_to_stays(tmp_path: Path) -> None:
    behind = tmp_path / "behind"
    behind.write_text(PRECIOUS)
    for at, target in enumerate((behind, tmp_path / "nowhere")):
        link = tmp_path / f"link{at}"
        link.symlink_to(target)
        write_whole(link, "new")
        assert not link.is_symlink()
        assert link.read_text() == "new"
    assert behind.read_text() == PRECIOUS
    assert not (tmp_path / "nowhere").exists()


def test_devices_are_written_to_and_stay_devices(tmp_path: Path) -> None:
    link = tmp_path / "null"
    link.symlink_to(os.devnull)
    write_whole(Path(os.devnull), "nothing")
    write_whole(link, "nothing")
    assert link.is_symlink()
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)
    with pytest.raises(OSError, match="/dev/full"):
        write_whole(Path("/dev/full"), "x")


@pytest.mark.parametrize("when", ["writing", "synchronising", "renaming"])
def test_a_fault_leaves_what_was_there(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_text(PRECIOUS)
    if when == "synchronising":
        monkeypatch.setattr(os, "fsync", full_disk)
    if when == "renaming":
        monkeypatch.setattr(Path, "replace", full_disk)

    def write(file: Any) -> None:
        file.write(b"half")
        if when == "writing":
            full_disk()

    with pytest.raises(OSError, match="No space left") as raised, whole_file(path) as file:
        write(file)
    assert raised.value.filename == str(path)
    with pytest.raises(OSError, match="No space left") as raised:
        write_by_name(path, lambda partial: write(partial.open("wb")))
    assert raised.value.filename == str(path)
    assert path.read_text() == PRECIOUS
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("signal", [KeyboardInterrupt, SystemExit])
def test_an_interruption_leaves_nothing_behind(signal: type[BaseException], tmp_path: Path) -> None:
    with pytest.raises(signal), whole_file(tmp_path / "file") as file:
        file.write(b"half")
        raise signal
    with pytest.raises(signal), whole_folder(tmp_path / "folder") as folder:
        (folder / "half").touch()
        raise signal
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised, whole_file(tmp_path / "file"):
        (tmp_path / "other").read_bytes()
    assert raised.value.filename == str(tmp_path / "other")


def test_folders_take_their_place_whole(tmp_path: Path) -> None:
    folder, old = tmp_path / "folder", tmp_path / ".folder.old"
    for text in ("first", "second"):
        with whole_folder(folder, old) as part:
            (part / "inside").write_text(text)
        assert (folder / "inside").read_text() == text
    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    with whole_folder(folder, old) as part:
        (part / "inside").write_text("third")
    assert (elsewhere / "inside").read_text() == "second"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "folder"]
    with pytest.raises(OSError, match="folder"), whole_folder(folder) as part:
        (part / "inside").write_text("there is one already")
    assert (folder / "inside").read_text() == "third"


def test_nothing_is_added_to_what_a_link_points_to(tmp_path: Path) -> None:
    (tmp_path / "behind").write_text(PRECIOUS)
    (tmp_path / "rows").symlink_to(tmp_path / "behind")
    with pytest.raises(GraphwrightError, match="link to another file"):
        open_to_append(tmp_path / "rows")
    assert (tmp_path / "behind").read_text() == PRECIOUS
    with open_to_append(tmp_path / "lines") as file:
        add_line(file, "one")
        assert (tmp_path / "lines").read_text() == "one\n"


def test_a_line_that_does_not_fit_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows"
    with open_to_append(path) as file:
        add_line(file, "one")
        write = os.write

        def half(descriptor: int, data: memoryview) -> int:
            if len(data) < 4:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(descriptor, data[: len(data) // 2])

        monkeypatch.setattr(os, "write", half)
        with pytest.raises(OSError, match="No space left") as caught:
            add_line(file, "a longer line")
        monkeypatch.undo()
        assert caught.value.filename == str(path)
        assert path.read_text() == "one\n"
        add_line(file, "two")
    assert path.read_text() == "one\ntwo\n"


@pytest.mark.parametrize(
    "words",
    [
        ["report", "--plan", "{out}/plan.json", "--out", "{link}"],
        ["simulate", "--plan", "{out}/plan.json", "--trace", "{link}"],
    ],
)
def test_verbs_do_not_write_through_links(words: list[str], model: Path, tmp_path: Path) -> None:
    out, link, behind = tmp_path / "out", tmp_path / "link", tmp_path / "behind"
    out.mkdir()
    behind.write_text(PRECIOUS)
    names = ("plan.json", "trace.json", "cluster.yaml", "report.html", "plan.json.partial")
    for path in (link, *(out / name for name in names)):
        path.symlink_to(behind)
    flags = [str(model), "--cluster", "2xv100-pcie"]
    assert run(["place", *flags, "--placer", "single", "--out", str(out)]) == 0
    given = [word.format(out=out, link=link) for word in words]
    assert run([given[0], *flags, *given[1:]]) == 0
    assert run(["graphs", "convert", str(model), "--out", str(tmp_path / "g.gwgraph")]) == 0
    assert behind.read_text() == PRECIOUS
    assert not link.is_symlink()


def test_a_full_disk_is_said_in_a_line(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr(os, "fsync", full_disk)
    words = ["place", str(model), "--cluster", "2xv100-pcie", "--placer", "single"]
    assert run([*words, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error == f"graphwright: {out / 'plan.json'}: No space left on device\n"
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("words", ["clusters list --json", "graphs list", "nonsense --json"])
def test_output_that_cannot_be_written_is_no_fault(words: str, tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = command(tmp_path, words.split(), stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    assert done.stderr.count(b"\n") == 1, done.stderr
    if "nonsense" not in words:
        assert done.stderr == b"graphwright: standard output: No space left on device\n"


def test_errors_that_cannot_be_written_leave_the_exit_code(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = command(tmp_path, ["nonsense", "--json"], stdout=full, stderr=full)
    assert done.returncode == 2


def test_a_terminal_of_few_signs_is_shown_codes(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    words = ["place", str(model), "--cluster", "2xv100-pcie", "--placer", "single"]
    done = command(tmp_path, words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    assert b"\\u2588" in done.stdout


def test_a_fault_is_told_where_its_details_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(app, "command_line", lambda: 1 / 0)
    monkeypatch.setattr(tempfile, "mkstemp", lambda **_: full_disk())
    monkeypatch.delenv("GRAPHWRIGHT_DEBUG", raising=False)
    assert run(["place", "--json"]) == 1
    shown = capsys.readouterr()
    for text in (shown.err, json.loads(shown.out)["error"]):
        assert "fault of graphwright" in text
        assert "ZeroDivisionError" in text
        assert "No space left" in text


def test_metrics_have_a_line_as_soon_as_there_is_a_file(tmp_path: Path) -> None:
    begun = JsonLines(tmp_path)
    assert not (tmp_path / METRICS).exists()
    begun.log(1, {"loss": 1.0})
    begun.log(2, {"loss": 2.0})
    begun.close()
    with (tmp_path / METRICS).open("a") as file:
        file.write('{"step": 3, "fig')
    resumed = JsonLines(tmp_path, 1)
    resumed.close()
    assert [line["step"] for line in read_lines(tmp_path)] == [1]
    JsonLines(tmp_path).close()
    assert read_lines(tmp_path) == []


def test_files_are_written_in_one_place() -> None:
    """Whoever writes otherwise leaves half a file on a full disk, or writes through a link."""
    own = {"graphs/whole_files.py"}
    scripts = {"placement/export/split_runner.py", "placement/export/pipeline_runner.py"}
    found = {}
    for package in ("graphs", "simulator", "placement", "envs", "agent"):
        for path in sorted((ROOT / package).rglob("*.py")):
            where = path.relative_to(ROOT).as_posix()
            writers = _writers(ast.parse(path.read_text(encoding="utf-8")))
            if writers and where not in own | scripts:
                found[where] = writers
    assert found == {
        "placement/export/onnx_weights.py": ["open"],  # by `new_beside`
        "graphs/import_child_process.py": ["open"],  # of the system's `/proc`
    }


def _writers(tree: ast.AST) -> list[str]:
    """Calls that write files under the very name that they get."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        name = name or getattr(node.func, "id", "")
        texts = [item.value for item in node.args if isinstance(item, ast.Constant)]
        modes = [text for text in texts if isinstance(text, str) and set(text) <= set("rwaxbt+")]
        writes = name == "open" and any(set(mode) & set("wax+") for mode in modes)
        if name in ("write_text", "write_bytes", "savez") or writes:
            found.append(name)
    return found
