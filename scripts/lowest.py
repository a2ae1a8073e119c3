"""Tries the oldest versions that `pyproject.toml` allows; what fails says which bound to raise.

    python -m scripts.lowest FOLDER [PYTEST ARGUMENTS]

Makes an environment in FOLDER with the oldest allowed version of each package that graphwright
names, the newest of what these need, and torch as it is locked: older builds for the CPU lie on an
index of their own. Tools of the tests come in their locked versions. Then runs the tests, but for
those that need packages of developers which bring newer versions along, or a newer onnxruntime.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_TOOLS = (
    "beartype", "execnet", "hypothesis", "iniconfig", "pluggy", "pytest", "pytest-xdist",
    "sortedcontainers",
)  # fmt: skip
#: Brought by torch's build, or for CUDA only.
_LEFT_OUT = re.compile(r"(torch|triton|nvidia-.*|cuda-.*)==")
_TESTS = ("tests/graphs", "tests/simulator", "tests/placement", "tests/envs", "tests/agent")
_NEED_MORE = (
    "tests/envs/test_envs_environment.py",
    "tests/envs/test_envs_padded.py",
    # Sessions of onnxruntime 1.20 crash on models that newer ones refuse.
    "tests/graphs/test_onnx_contrib_shapes.py",
)


def main() -> int:
    """Make the environment and run the tests; their exit code."""
    folder, arguments = Path(sys.argv[1]), sys.argv[2:]
    locked = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    python = folder / "bin" / "python"
    _run(sys.executable, "-m", "venv", str(folder))
    _run(python, "-m", "pip", "install", "-q", *_of(locked, ("torch",)))
    wanted = [line for line in oldest(locked) if not _LEFT_OUT.match(line)]
    _run(python, "-m", "pip", "install", "-q", "--no-deps", *wanted, *_of(locked, _TOOLS))
    sys.stdout.write("\n".join(wanted) + "\n")
    _run(python, "-m", "pip", "check")
    ignored = [f"--ignore={path}" for path in _NEED_MORE]
    chosen = arguments or list(_TESTS)
    return subprocess.run(
        [python, "-m", "pytest", *ignored, *chosen], cwd=ROOT, check=False
    ).returncode


def oldest(locked: list[str]) -> list[str]:
    """The versions, as `name==version`."""
    with tempfile.TemporaryDirectory() as tools:
        _run(sys.executable, "-m", "venv", tools)
        _run(f"{tools}/bin/python", "-m", "pip", "install", "-q", "uv")
        torch = Path(tools) / "torch.txt"
        torch.write_text(_of(locked, ("torch",))[0] + "\n", encoding="utf-8")
        done = subprocess.run(
            [
                f"{tools}/bin/uv", "pip", "compile", "-q", "--resolution", "lowest-direct",
                "--python-version", "3.11", "-c", str(torch), "--no-header", "--no-annotate",
                str(ROOT / "pyproject.toml"),
            ],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    return done.stdout.split()


def _of(locked: list[str], names: tuple[str, ...]) -> list[str]:
    return [line for line in locked if line.partition("==")[0] in names]


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    sys.exit(main())
