"""A model that breaks what reads it becomes an error; one that does not is read as ever."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import breaking_importers
import pytest
from planted_files import ROOT

from graphs import ModelError, load
from graphs.catalogue import resolve
from graphs.import_child import import_in_child
from graphs.import_limits import ImportLimits

SAMPLES = Path(breaking_importers.__file__).parent
CORPUS = ROOT / "tests" / "fuzz" / "corpus"

#: Runs one importer after the other in a fresh process, and prints what became of each.
_SCRIPT = """
import json, sys
from pathlib import Path
from graphs import import_child
from graphs.import_limits import ImportLimits

may_fork = import_child.may_fork()
if sys.argv[1] == "start":
    import_child.may_fork = lambda: False
told = {"may_fork": may_fork}
for name in sys.argv[3:]:
    limits = ImportLimits(400 << 20, 3.0 if name == "hangs" else 60.0)
    try:
        import_child.import_in_child(
            f"breaking_importers:{name}", Path(sys.argv[2]), {}, None, limits
        )
        told[name] = ["graph", ""]
    except Exception as error:
        told[name] = [type(error).__name__, str(error)]
print(json.dumps(told))
"""


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{SAMPLES}"}


@pytest.fixture(scope="module", params=["fork", "start"])
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    path.write_bytes(b"x")
    names = [
        "crashes",
        "leaves",
        "hushes",
        "hoards",
        "hangs",
        "refuses",
        "lacks",
        "fails",
        "prints",
        "toy",
    ]
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, request.param, str(path), *names],
        capture_output=True, env=_environment(), check=False, timeout=3600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    assert found["may_fork"]
    return found


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("crashes", "ModelError", "was ended by SIGSEGV: the file is damaged"),
        ("leaves", "ModelError", "was ended by an exit in the middle of it"),
        ("hushes", "ModelError", "was ended by an exit in the middle of it"),
        ("hoards", "ModelError", "takes more than 400 MiB of memory, and was ended; allow more"),
        ("hangs", "ModelError", "takes longer than 3 s, and was ended; allow more"),
        ("refuses", "GraphError", "strange \u202e name"),
        ("lacks", "FileNotFoundError", "No such file or directory"),
        ("fails", "ImportFault", "KeyError: 'a fault'"),
        ("prints", "ModelError", "printed"),
        ("toy", "graph", ""),
    ],
)
def test_what_breaks_the_reader_is_an_error(
    told: dict[str, list[str]], name: str, kind: str, message: str
) -> None:
    assert told[name][0] == kind
    assert message in told[name][1]
    if kind == "ModelError" and name != "prints":
        assert "model.onnx: " in told[name][1]


def test_graph_name_and_report_come_back_as_they_were(tmp_path: Path) -> None:
    own = breaking_importers.toy(tmp_path, {"length": 7})
    limits = ImportLimits()
    got = import_in_child("breaking_importers:toy", tmp_path, {"length": 7}, None, limits)
    assert (got, got.name, got.report) == (own, own.name, own.report)


@pytest.mark.parametrize("name", ["model.onnx", "model.pt2", "model.pb"])
def test_models_are_the_same_from_another_process(name: str, tmp_path: Path) -> None:
    path = _model(tmp_path / name)
    own, got = load(path), load(path, limits=ImportLimits())
    assert (got.digest, got.name, got.report) == (own.digest, own.name, own.report)


def _model(path: Path) -> Path:
    import zipfile

    if path.suffix == ".onnx":
        from onnx_toys import node, toy_model

        model = toy_model([node("Relu", ["x"], ["y"], "relu")], {"x": ["batch", 4]}, ["y"])
        path.write_bytes(model.SerializeToString())
    elif path.suffix == ".pb":
        path.write_bytes((CORPUS / "step.pb").read_bytes())
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(CORPUS / "layers.pt2.json", "models/model.json")
    return path


def test_references_are_read_in_another_process_unless_they_are_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[ImportLimits] = []

    def asks(*arguments: Any) -> None:
        asked.append(arguments[-1])
        raise ModelError("asked")

    monkeypatch.setattr("graphs.import_child.import_in_child", asks)
    path = _model(tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="asked"):
        resolve(path)
    assert resolve(path, limits=None).op_count == 2
    assert load(path).op_count == 2
    assert asked == [ImportLimits()]
    assert resolve("rnnlm:1:100").op_count > 50  # nothing foreign about it


def test_half_of_the_memory_is_the_limit() -> None:
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < ImportLimits().most_bytes <= machine // 2
    assert ImportLimits(5).most_bytes == 5


#: Reads a model for ever, as a command does.
_WAITING = """
import sys
from pathlib import Path
from agent.cli.stopping import termination_heeded
from graphs.import_child import import_in_child
from graphs.import_limits import ImportLimits

with termination_heeded():
    import_in_child("breaking_importers:hangs", Path(sys.argv[1]), {}, None, ImportLimits())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_the_reading_process_too(number: signal.Signals, tmp_path: Path) -> None:
    told = tmp_path / "pid"
    parent = subprocess.Popen(
        [sys.executable, "-c", _WAITING, str(told)],
        env=_environment(), stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    while not (told.exists() and told.read_text()):
        assert parent.poll() is None
        time.sleep(0.01)
    child = int(told.read_text())
    assert _runs(child)
    parent.send_signal(number)
    parent.communicate(timeout=3600)
    assert parent.returncode != 0
    for _ in range(6000):
        if not _runs(child):
            break
        time.sleep(0.01)
    assert not _runs(child)


def _runs(pid: int) -> bool:
    """Whether there is a process of that number that has not ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"
