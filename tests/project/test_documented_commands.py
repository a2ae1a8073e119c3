"""Every command that the documentation shows exists, with every flag."""

import re
import shlex
from functools import cache
from pathlib import Path

import pytest

from agent.cli.app import run

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_GROUPS = ("graphs", "clusters", "suites")


def commands() -> list[tuple[str, str]]:
    """Page and command line of everything after a `$ graphwright`, continuations joined."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        found += [(page.name, m) for m in re.findall(r"^\$ graphwright (.*)$", text, re.MULTILINE)]
        found += [(page.name, m) for m in re.findall(r"`graphwright ([a-z][^`]*)`", text)]
    return found


@cache
def help_of(verb: tuple[str, ...]) -> str:
    import contextlib
    import io

    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        run([*verb, "--help"])
    return shown.getvalue()


def test_there_are_commands() -> None:
    assert len(commands()) > 20


@pytest.mark.parametrize(("page", "line"), commands())
def test_the_command_exists_with_its_flags(page: str, line: str) -> None:
    tokens = shlex.split(line.replace("\\|", "|"), comments=True)
    if tokens[0].startswith("--") or "|" in line:
        return
    verb = tuple(tokens[:2]) if tokens[0] in _GROUPS and len(tokens) > 1 else (tokens[0],)
    text = help_of(verb)
    assert "Usage: graphwright " + " ".join(verb) in text, (page, line)
    for token in tokens[1:]:
        flag = token.split("=")[0]
        if re.fullmatch(r"--[a-z][a-z.-]+", flag) and flag != "--help":
            assert flag in text, (page, line)


ALL_PAGES = [*PAGES, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs" / "api").glob("*.md"))]


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    """Paths from the root of the repository, such as `simulator/plan.py`."""
    text = page.read_text(encoding="utf-8")
    folders = "graphs|simulator|placement|envs|agent|benchmarks|tests|scripts|docs"
    named = set(re.findall(rf"`((?:{folders})/[\w/.-]+\.(?:py|md|yaml|jsonl))`", text))
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
