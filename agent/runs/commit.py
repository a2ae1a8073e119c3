"""Which code runs, for whoever writes results down."""

import subprocess
from importlib.metadata import version
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]


def current_commit() -> str:
    """The commit that runs, with a + where files differ from it; the version outside a clone."""
    if not (_ROOT / ".git").exists():
        return version("graphwright")
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return _git("rev-parse", "--short", "HEAD") + ("+" if changed else "")


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=_ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()
