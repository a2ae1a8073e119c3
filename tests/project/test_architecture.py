"""The packages' borders: who imports whom, what an import costs, what is public."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("graphs", "simulator", "placement", "envs", "agent")
HEAVY = ("torch", "tensorflow", "onnx", "onnxruntime", "wandb", "torch_geometric", "gymnasium")


def python(code: str) -> str:
    """Run code in a fresh interpreter, without the import hook of the tests."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_imports_point_one_way() -> None:
    """The contracts are in pyproject.toml; `lint-imports` shows them one by one."""
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()",
         "--no-cache"],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Imports point one way KEPT" in done.stdout


def test_the_light_packages_import_no_framework() -> None:
    code = (
        "import sys, graphs, simulator, placement; "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    assert python(code) == "[]"


def test_simulating_needs_no_framework() -> None:
    code = (
        "import sys; from pathlib import Path; "
        "from graphs import load; from simulator import preset; from placement import place; "
        "graph = load(next(Path('graphs/bundled').glob('*.gwgraph'))); "
        "assert place(graph, preset('2xv100-pcie'), 'single').feasible; "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    assert python(code) == "[]"


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_exist(package: str) -> None:
    module = importlib.import_module(package)
    names = getattr(module, "__all__", [])
    assert list(names) == sorted(set(names), key=list(names).index)
    assert [name for name in names if not hasattr(module, name)] == []
    if package in ("graphs", "simulator", "placement"):
        assert names


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_are_named_like_nothing_else(package: str) -> None:
    """A module named like the standard library's or a dependency's shadows it sooner or later."""
    taken = set(sys.stdlib_module_names) | set(HEAVY) | {"numpy", "scipy", "yaml", "numba"}
    modules = {path.stem for path in (ROOT / package).rglob("*.py")} - {"__init__", "__main__"}
    assert modules & taken <= {"trace"}  # a noun of the domain, always imported with its package


def test_test_files_have_unique_names_and_lie_in_no_package() -> None:
    files = list((ROOT / "tests").rglob("*.py"))
    names = [path.name for path in files]
    assert sorted(names) == sorted(set(names))
    assert "__init__.py" not in names
