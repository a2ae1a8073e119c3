"""A headless browser for pages that graphwright writes."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


@dataclass(frozen=True)
class Page:
    """What a page became once its scripts had run."""

    dom: str
    console: tuple[str, ...]
    """Errors and warnings that it logged."""


def open_page(path: Path, folder: Path, width: int = 1280, height: int = 9000) -> Page:
    """Load a file without any network; skips where no browser is installed."""
    binary = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if binary is None:
        pytest.skip("no Chromium here (Debian: apt install chromium)")
    done = subprocess.run(
        [
            binary, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
            f"--user-data-dir={folder / 'profile'}", f"--window-size={width},{height}",
            "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=20000",
            "--enable-logging=stderr", "--dump-dom", f"file://{path}",
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    said = re.findall(r'CONSOLE[^"]*"(.*)", source', done.stderr)
    return Page(done.stdout, tuple(said))
