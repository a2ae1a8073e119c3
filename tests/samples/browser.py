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


#: On a busy machine the browser now and then writes the page down before its scripts have run.
_ATTEMPTS = 3
_DRAWN = 'data-drawn="yes"'


def open_page(path: Path, folder: Path, width: int = 1280, height: int = 9000) -> Page:
    """Load a file without any network, again where nothing was drawn; skips without a browser."""
    for _ in range(_ATTEMPTS):
        page = _open(path, folder, width, height)
        if _DRAWN in page.dom or page.console:
            break
    return page


def print_page(path: Path, folder: Path) -> bytes:
    """A page as PDF, printed as soon as it has loaded; skips without a browser."""
    printed = folder / "printed.pdf"
    _run(folder, f"--print-to-pdf={printed}", f"file://{path}")
    return printed.read_bytes()


def _open(path: Path, folder: Path, width: int, height: int) -> Page:
    done = _run(
        folder, f"--window-size={width},{height}", "--virtual-time-budget=20000",
        "--enable-logging=stderr", "--dump-dom", f"file://{path}",
    )  # fmt: skip
    said = re.findall(r'CONSOLE[^"]*"(.*)", source', done.stderr)
    return Page(done.stdout, tuple(said))


def _run(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    binary = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if binary is None:
        pytest.skip("no Chromium here (Debian: apt install chromium)")
    return subprocess.run(
        [
            binary, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
            f"--user-data-dir={folder / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND",
            *flags,
        ],
        capture_output=True, text=True, timeout=3600, check=True,
    )  # fmt: skip
