"""No file beside a model is run because of what it is called."""

import ast
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from device_models import core_cluster, crossing
from planted_files import INSTALLED, ROOT, STANDARD, STARTS_WITH_PYTHON, console, marks, planted

from graphs.import_paths import trusted_paths
from graphs.python_process import start_python
from placement.runtime.ort.messages import WORKER as ORT
from placement.runtime.processes.messages import Unload
from placement.runtime.processes.workers import WorkerFailure, WorkerPool
from placement.runtime.stand_ins.messages import WORKER as STAND_INS
from placement.runtime.tensorflow_servers.messages import WORKER as TENSORFLOW
from simulator.cluster_file import dump_cluster

ALL = (*STARTS_WITH_PYTHON, *STANDARD, *INSTALLED)
#: What may start processes besides the one place that starts Python.
STARTS_OTHER_PROGRAMS = {
    "agent/runs/commit.py",  # git, in the project's own folder
    "graphs/import_child.py",  # a copy of the process itself
}


@pytest.mark.parametrize(
    "words",
    [
        ("clusters", "show", "2xv100-pcie"),
        ("graphs", "list"),
        ("place", "rnnlm-2", "--cluster", "2xv100-pcie", "--placer", "single"),
        ("doctor",),
    ],
)
def test_a_command_runs_nothing_of_its_folder_whatever_the_path_has(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    folder = planted(tmp_path / "models", (*STANDARD, *INSTALLED, "cyclopts"))
    # An empty entry is the current folder; `export PYTHONPATH=$PYTHONPATH:/opt/x` makes one.
    done = console(folder, *words, python_path=f":{ROOT}")
    assert marks(folder) == []
    assert done.returncode == 0, done.stderr


def test_a_command_that_is_run_as_a_module_imports_nothing_installed_from_its_folder(
    tmp_path: Path,
) -> None:
    folder = planted(tmp_path, (*INSTALLED, "cyclopts", "json", "argparse"))
    for flags, python_path in (((), str(ROOT)), (("-P",), str(ROOT)), ((), f"{ROOT}:")):
        done = subprocess.run(
            [sys.executable, *flags, "-m", "agent", "clusters", "list"],
            cwd=folder, env={**os.environ, "PYTHONPATH": python_path},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert marks(folder) == []


def test_measuring_runs_nothing_of_its_folder(tmp_path: Path) -> None:
    folder = planted(tmp_path / "models", ALL)
    crossing(folder / "a.onnx", layers=2, width=64)
    (folder / "cores.yaml").write_text(dump_cluster(core_cluster()), encoding="utf-8")
    done = console(
        folder, "measure", "a.onnx", "--cluster", "cores.yaml", "--compare", "single",
        "round-robin", "--repeats", "2", "--dim", "batch=8", "--json",
    )  # fmt: skip
    assert done.returncode in (0, 3), done.stderr
    assert marks(folder) == []


def test_probing_runs_nothing_of_its_folder(tmp_path: Path) -> None:
    folder = planted(tmp_path / "models", ALL)
    done = console(folder, "clusters", "probe", "--json")
    assert done.returncode == 0, done.stderr
    assert marks(folder) == []


@pytest.mark.parametrize("worker", [ORT, STAND_INS, TENSORFLOW])
def test_workers_run_nothing_of_the_folder(
    worker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(planted(tmp_path, ALL))
    monkeypatch.setenv("PYTHONPATH", os.pathsep)
    monkeypatch.syspath_prepend("")
    with WorkerPool(("a",), (-1,), worker) as pool, suppress(WorkerFailure):
        pool.ask({0: Unload(0)}, 60.0)
    assert marks(tmp_path) == []


def test_the_process_that_lowers_modules_runs_nothing_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from graphs.importers.stablehlo.lowering import Lowering

    monkeypatch.chdir(planted(tmp_path, ALL))
    monkeypatch.setenv("PYTHONPATH", os.pathsep)
    monkeypatch.syspath_prepend("")
    lowering = Lowering()
    try:
        found, reason = lowering.hlo(b"no graph")
    finally:
        lowering.close()
    assert found is None
    assert "DecodeError" in reason or "StopIteration" in reason, "it came as far as TensorFlow"
    assert marks(tmp_path) == []


@pytest.mark.parametrize("name", ["PYTHONSTARTUP", "PYTHONHOME", "PYTHONPATH"])
def test_children_heed_no_variable_of_python(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = planted(tmp_path, ALL)
    monkeypatch.chdir(folder)
    values = {"PYTHONSTARTUP": str(folder / "json.py"), "PYTHONHOME": str(folder)}
    monkeypatch.setenv(name, values.get(name, os.pathsep))
    monkeypatch.syspath_prepend("")
    with start_python("platform", stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        printed, _ = process.communicate(timeout=3600)
    assert process.returncode == 0
    assert printed
    assert marks(folder) == []


def test_which_folders_are_imported_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, other, inside = tmp_path / "here", tmp_path / "other", tmp_path / "here/inside"
    inside.mkdir(parents=True)
    other.mkdir()
    link = tmp_path / "link"
    link.symlink_to(here)
    monkeypatch.chdir(here)
    given = ["", str(here), str(link), "inside", str(inside), str(other), str(ROOT)]
    monkeypatch.setattr(sys, "path", given)
    monkeypatch.setenv("PYTHONPATH", "inside")
    assert trusted_paths() == [str(other), str(ROOT)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(("", str(here))))
    assert trusted_paths() == [str(here), str(link), str(inside), str(other), str(ROOT)]
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(sys, "path", [str(here)])
    assert trusted_paths() == [str(ROOT)]
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [str(ROOT), str(other)])
    assert trusted_paths() == [str(ROOT), str(other)]
    site = Path(pytest.__file__).parents[1]
    monkeypatch.chdir(site)
    monkeypatch.setattr(sys, "path", [str(site), str(ROOT)])
    assert trusted_paths() == [str(site), str(ROOT)]
    monkeypatch.setattr(os, "getcwd", _no_folder)
    assert trusted_paths() == [str(site), str(ROOT)]


def _no_folder() -> str:
    raise FileNotFoundError


def test_settings_of_numba_in_the_folder_are_not_read(tmp_path: Path) -> None:
    (tmp_path / ".numba_config.yaml").write_text(f"cache_dir: {tmp_path / 'cache'}\n")
    code = (
        "import numba, simulator.compiled as compiled\n"
        "assert numba.config.CACHE_DIR == '', numba.config.CACHE_DIR\n"
        "numba.core.config.reload_config()\n"
        "assert numba.config.CACHE_DIR == '', numba.config.CACHE_DIR\n"
    )
    environment = {key: text for key, text in os.environ.items() if not key.startswith("NUMBA")}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True,
        env={**environment, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("script", ["split_runner", "pipeline_runner"])
def test_scripts_that_are_exported_import_nothing_that_lies_beside_them(
    script: str, tmp_path: Path
) -> None:
    folder = planted(tmp_path / "exported", (*STANDARD, *INSTALLED))
    source = ROOT / "placement" / "export" / f"{script}.py"
    (folder / "run.py").write_bytes(source.read_bytes())
    done = subprocess.run(
        [sys.executable, str(folder / "run.py"), "--help"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert marks(folder) == []


def test_processes_are_started_in_one_place() -> None:
    """Whoever starts one otherwise leaves to chance what code it runs."""
    strangers = {}
    for package in ("graphs", "simulator", "placement", "envs", "agent"):
        for path in sorted((ROOT / package).rglob("*.py")):
            where = path.relative_to(ROOT).as_posix()
            found = _starts(ast.parse(path.read_text(encoding="utf-8")))
            if found and where not in STARTS_OTHER_PROGRAMS | {"graphs/python_process.py"}:
                strangers[where] = found
    assert strangers == {}


def _starts(tree: ast.AST) -> list[str]:
    """Names in code that start processes."""
    starters = {"Popen", "check_call", "check_output", "get_context", "Process", "Pool",
                "ProcessPoolExecutor", "system", "popen", "fork", "spawnv", "posix_spawn",
                "execv", "execve", "set_start_method"}  # fmt: skip
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        whose = called.value if isinstance(called, ast.Attribute) else None
        of_subprocess = isinstance(whose, ast.Name) and whose.id == "subprocess"
        of_platform = isinstance(whose, ast.Name) and whose.id == "platform"
        if (name in starters and not of_platform) or (of_subprocess and name == "run"):
            found.append(name)
    return found


def test_a_folder_that_is_gone_is_imported_from_by_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setattr(sys, "path", ["", "inside", str(ROOT)])
    assert trusted_paths() == [str(ROOT)]
