"""Packages of other projects with graphwright's names are refused, not imported."""

import subprocess
import sys
from pathlib import Path

import pytest

from graphs.own_packages import (
    OWN_PACKAGES,
    ROOT,
    ForeignPackageError,
    explain_foreign,
    foreign_claims,
    foreign_packages,
    refuse_foreign_packages,
)


def test_here_all_five_are_graphwrights() -> None:
    assert foreign_packages() == {}


def test_elsewhere_none_is(tmp_path: Path) -> None:
    assert set(foreign_packages(tmp_path)) == set(OWN_PACKAGES)
    with pytest.raises(ForeignPackageError, match="virtual environment of its own"):
        refuse_foreign_packages(tmp_path)


def test_distributions_that_install_such_a_package_are_named() -> None:
    owners = {"agent": ["other-agent"], "graphs": ["graphwright"], "numpy": ["numpy"]}
    assert foreign_claims(owners) == ["other-agent installs a top-level package 'agent'"]


def test_the_sentence_names_the_place() -> None:
    assert "`envs` is imported from /opt/other/envs" in explain_foreign({"envs": "/opt/other/envs"})


@pytest.mark.parametrize("name", ["graphs", "simulator", "placement", "envs"])
@pytest.mark.parametrize("has_init", [True, False], ids=["package", "folder"])
def test_the_command_ends_with_a_sentence(tmp_path: Path, name: str, has_init: bool) -> None:
    package = tmp_path / "foreign" / name
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("" if has_init else "raise SystemExit('imported')")
    if not has_init:
        (package / "__init__.py").rename(package / "others.py")
    script = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}]; import agent.cli; "
        f"sys.path.insert(0, {str(tmp_path / 'foreign')!r}); "
        "sys.argv = ['graphwright', '--version']; agent.cli.main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    if has_init:
        assert ended.returncode == 2, ended.stderr
        assert name in ended.stderr and "graphwright" in ended.stderr
        assert "Traceback" not in ended.stderr
    else:  # a folder that is no package does no harm
        assert ended.returncode == 0, ended.stderr


def test_a_library_user_is_told_too(tmp_path: Path) -> None:
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "__init__.py").write_text("")
    script = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]\n"
        "try:\n    import simulator\nexcept ImportError as error:\n    print(error)"
    )
    ended = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True
    )
    assert str(tmp_path / "envs") in ended.stdout
