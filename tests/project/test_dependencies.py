"""Dependencies are used, declared, locked, and come under a licence that is allowed."""

import ast
import re
import sys
import tomllib
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

from packaging.requirements import Requirement

from graphs.own_packages import OWN_PACKAGES
from scripts.licences import ALLOWED, TABLE, atoms, licence, needed, normal, written

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
#: Used by their commands or by configuration, not by an import.
TOOLS = {
    "editables", "hatchling", "import-linter", "mkdocs-material", "mkdocstrings", "mypy",
    "onnxscript", "pytest-xdist", "ray", "ruff", "types-pyyaml",
}  # fmt: skip
#: Both install `google`; protobuf comes with onnx and TensorFlow, whose messages are read with it.
NOT_DEPENDED_ON = {"googleapis-common-protos", "protobuf"}


def names(lines: list[str]) -> set[str]:
    return {normal(Requirement(line).name) for line in lines}


def imported(folders: tuple[str, ...]) -> set[str]:
    """Top-level packages of other distributions that modules below `folders` import."""
    found: set[str] = set()
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    found |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - set(OWN_PACKAGES)


def distributions_of(packages: set[str]) -> set[str]:
    owners = packages_distributions()
    return {normal(owner) for package in packages for owner in owners.get(package, [])}


def locked() -> dict[str, tuple[str, int]]:
    """Version and number of hashes of each line of the lock file."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)(.*)$", text, re.MULTILINE)
    return {normal(name): (version, rest.count("--hash=sha256:")) for name, version, rest in lines}


def constrained() -> dict[str, str]:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    return {
        normal(name): version
        for name, version in re.findall(r"^([A-Za-z0-9._-]+)==(\S+)$", text, re.MULTILINE)
    }


def test_every_dependency_is_imported() -> None:
    unused = names(PROJECT["dependencies"]) - distributions_of(imported(OWN_PACKAGES))
    assert not unused


def test_every_tool_of_developers_is_used() -> None:
    used = distributions_of(imported((*OWN_PACKAGES, "tests", "benchmarks", "scripts"))) | TOOLS
    assert not names(EXTRAS["dev"]) - used


def test_every_import_is_declared() -> None:
    declared = names(PROJECT["dependencies"]).union(*(names(lines) for lines in EXTRAS.values()))
    assert distributions_of(imported(OWN_PACKAGES)) <= declared | NOT_DEPENDED_ON


def test_the_lock_has_every_version_with_hashes_but_torchs() -> None:
    versions = constrained()
    del versions["torch"]  # its build is chosen when it is installed
    assert {name: version for name, (version, _) in locked().items()} == versions
    assert all(hashes for _, hashes in locked().values())


def test_what_a_run_needs_is_locked() -> None:
    assert set(needed()) - {"torch"} <= set(locked())


def test_licences_are_listed_and_allowed() -> None:
    table = written(TABLE.read_text(encoding="utf-8"))
    assert {name: licence(distribution(name)) for name in needed()}.items() <= table.items()
    assert set(table) - {"torch"} <= set(locked()), "a line of what is needed no more"
    assert {name: expression for name, expression in table.items()
            if not atoms(expression) <= ALLOWED} == {}  # fmt: skip


def test_a_licence_that_is_not_allowed_is_seen() -> None:
    assert not atoms("MIT AND GPL-3.0-only") <= ALLOWED
    assert atoms("(MIT OR Apache-2.0) AND BSD-3-Clause") <= ALLOWED
