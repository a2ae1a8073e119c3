"""Folders with files that are called like modules, and a command that runs beside them."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: What Python itself imports where it starts, before any command can say where from.
STARTS_WITH_PYTHON = ("sitecustomize", "usercustomize")
STANDARD = ("json", "typing", "argparse", "multiprocessing", "pickle", "random", "tempfile")
INSTALLED = ("numpy", "onnxruntime", "onnx", "torch", "tensorflow", "numba", "yaml", "rich")


def planted(folder: Path, names: tuple[str, ...]) -> Path:
    """A folder with a file for each module, which leaves a mark when it is run."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        mark = folder / f"{name}.was-run"
        (folder / f"{name}.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    return folder


def marks(folder: Path) -> list[str]:
    """Which of the files were run."""
    return sorted(path.name for path in folder.glob("*.was-run"))


def console(
    folder: Path, *words: str, python_path: str = str(ROOT), timeout_seconds: float = 3600.0
) -> subprocess.CompletedProcess[str]:
    """Run `graphwright` in a folder as its console script does, which lies elsewhere."""
    script = folder.parent / "bin" / "graphwright"
    script.parent.mkdir(exist_ok=True)
    script.write_text("import sys\nfrom agent.cli import main\nsys.exit(main())\n")
    return subprocess.run(
        [sys.executable, str(script), *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": python_path},
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_seconds,
    )
