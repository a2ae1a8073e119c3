"""The packages' borders: who imports whom, what an import costs, what is public."""

import ast
import importlib
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
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


def test_kernels_take_functions_from_the_simulator_and_their_own_folders_only() -> None:
    """The cache of compiled kernels is keyed by the sources of these."""
    marks = ("@compiled", "@inlined")
    kernels = [
        path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if any(f"\n{mark}" in path.read_text(encoding="utf-8") for mark in marks)
    ]
    assert len(kernels) > 10
    for path in kernels:
        own = ".".join(path.parent.relative_to(ROOT).parts)
        for other in kernels:
            module = ".".join(other.relative_to(ROOT).with_suffix("").parts)
            if f"from {module} import" in path.read_text(encoding="utf-8"):
                folder = module.rpartition(".")[0]
                is_above = f"{own}.".startswith(f"{folder}.")
                assert is_above or module.startswith("simulator."), f"{path} takes {module}"


def imports_of(path: Path) -> set[str]:
    """Modules of the project that a file imports, anywhere in it."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
        elif isinstance(node, ast.Import):
            modules |= {name.name for name in node.names}
    return modules


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Neither at once nor through others, imports for types and inside functions included."""
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }
    graph = {
        module: {
            found
            for name in imports_of(path)
            if (found := name if name in files else "") and found != module
        }
        for module, path in files.items()
    }
    order = TopologicalSorter(graph)
    try:
        order.prepare()
    except CycleError as error:
        raise AssertionError(f"a circle of imports: {' -> '.join(error.args[1])}") from error


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_are_those_that_the_package_imports(package: str) -> None:
    """Both ways: nothing is imported and kept back, nothing is listed that is not there."""
    tree = ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8"))
    taken = {
        name.asname or name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == package
        for name in node.names
        if not (name.asname or name.name).startswith("_")
    }
    listed = set(importlib.import_module(package).__all__)
    assert taken - {"register"} == listed - {"register"}
