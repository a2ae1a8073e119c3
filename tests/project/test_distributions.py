"""What `python -m build` makes: an sdist and a wheel that work where nothing else of this is."""

import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("graphs", "simulator", "placement", "envs", "agent")


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tracked(*folders: str) -> set[str]:
    """What git has below `folders`."""
    return set(run("git", "ls-files", "--", *folders).splitlines())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist, and the wheel that is built from what the sdist holds."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", folder)
    (sdist,) = folder.glob("graphwright-*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.glob("graphwright-*/")
    command = (sys.executable, "-m", "hatchling", "build", "--target", "wheel")
    run(*command, "--directory", folder, cwd=source)
    (wheel,) = folder.glob("graphwright-*.whl")
    return sdist, wheel


@pytest.mark.slow
def test_the_sdist_has_what_a_packager_needs(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    files = ("README.md", "LICENSE", "SECURITY.md", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile")
    locks = ("constraints.txt", "requirements.lock")
    wanted = tracked(*PACKAGES, "tests", "benchmarks", "docs", "scripts", *files, *locks)
    assert wanted <= names
    assert not [name for name in names if name.startswith((".venv", "out/", "runs/", ".git/"))]


@pytest.mark.slow
def test_the_wheel_has_the_packages_and_nothing_else(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[1]) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == tracked(*PACKAGES)


@pytest.mark.slow
def test_the_wheel_works_in_an_environment_of_its_own(
    built: tuple[Path, Path], tmp_path: Path
) -> None:
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv/bin/python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    # Other distributions are borrowed, for torch and TensorFlow take minutes to install. Links to
    # this project in their folder are not followed there.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", built[1])
    where = run(python, "-c", "import agent; print(agent.__file__)", cwd=tmp_path).strip()
    assert Path(where).is_relative_to(site)
    run(tmp_path / "venv/bin/graphwright", "doctor", cwd=tmp_path)
    plan = tmp_path / "plan"
    command = ("place", "rnnlm-2", "--cluster", "2xv100-pcie", "--budget", "3s", "--out", plan)
    run(tmp_path / "venv/bin/graphwright", *command, cwd=tmp_path)
    assert (plan / "report.html").exists()
