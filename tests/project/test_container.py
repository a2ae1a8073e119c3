"""The Dockerfile against the repository, as far as that goes without an engine."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "containers" / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """Instruction and arguments of each line, continuations joined, comments left out."""
    lines = [line for line in FILE.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [
        (line.split(maxsplit=1)[0], line.split(maxsplit=1)[1])
        for line in joined.splitlines()
        if line.strip()
    ]


def test_what_it_copies_exists_and_is_not_ignored() -> None:
    kept = {
        line[1:]
        for line in (FILE.parent / "Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = [
        source
        for name, arguments in instructions()
        if name == "COPY" and not arguments.startswith("--from")
        for source in arguments.split()[:-1]
    ]
    assert copied
    assert all((ROOT / source).exists() for source in copied)
    assert set(copied) == kept


def test_it_holds_all_that_the_package_is_made_of() -> None:
    packaging = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = packaging["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    project = packaging["project"]
    copied = " ".join(arguments for name, arguments in instructions() if name == "COPY").split()
    assert set(wheel) <= set(copied)
    assert {project["readme"], *project["license-files"]} <= set(copied)
    assert {"constraints.txt", "requirements.lock"} <= set(copied)


def test_it_installs_by_the_script_of_the_repository() -> None:
    runs = [arguments for name, arguments in instructions() if name == "RUN"]
    assert 'scripts/set_up.sh /opt/venv "$TORCH"' in runs
    script = (ROOT / "scripts" / "set_up.sh").read_text()
    assert "--require-hashes --requirement requirements.lock" in script
    assert "build=${2:-cpu}" in script
    assert re.search(r"^onnxruntime==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)


def test_it_does_not_run_as_root() -> None:
    names = [name for name, _ in instructions()]
    assert names.index("USER") < names.index("ENTRYPOINT")
    stages = [arguments for name, arguments in instructions() if name == "FROM"]
    assert len(stages) == 2
    assert all(re.search(r":3\.11", stage) for stage in stages)
