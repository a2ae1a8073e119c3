"""Locks the versions that are installed; writes two lists of them, and their licences.

    make lock

What graphwright and its developers need, and what that needs, is locked as it is installed here:
`constraints.txt` has the versions, `requirements.lock` the hashes of all files of each, for every
platform. Only torch has none: its builds for the CPU and for CUDA lie on different indexes, and
`scripts/set_up.sh` chooses one. `uv` reads the hashes from the index, out of an environment of its
own.
"""

import subprocess
import sys
import tempfile
from importlib.metadata import distribution
from pathlib import Path

from scripts import licences

ROOT = Path(__file__).resolve().parents[1]
_HEADER = "# Versions that were tried together, on Python 3.11. Regenerate with `make lock`.\n"


def main() -> None:
    """Write the three files."""
    constraints = ROOT / "constraints.txt"
    lines = [
        f"{name}=={distribution(name).version.partition('+')[0]}\n"
        for name in licences.needed(extras=("", "dev"))
    ]
    constraints.write_text(_HEADER + "".join(lines), encoding="utf-8")
    with tempfile.TemporaryDirectory() as tools:
        _run(sys.executable, "-m", "venv", tools)
        _run(f"{tools}/bin/python", "-m", "pip", "install", "--quiet", "uv")
        _run(
            f"{tools}/bin/uv", "pip", "compile", "--quiet", "--no-deps", "--generate-hashes",
            "--no-annotate", "--no-header", "--python-version", sys.version.split()[0],
            "--no-emit-package", "torch", str(constraints),
            "--output-file", str(ROOT / "requirements.lock"),
        )  # fmt: skip
    licences.main()


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
