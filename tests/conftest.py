"""What holds for all tests: checked shapes, no foreign packages, W&B offline, no deadlines."""

import os
import signal
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook
from shape_checks import checked_modules, violations

from graphs.own_packages import foreign_claims

# Test processes share the cores already: threads of torch would only fight for them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent

install_import_hook(checked_modules(ROOT), "shape_checks.checked")

settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_sessionstart() -> None:
    # Shells start what runs in the background deaf to Ctrl-C, and its children with it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if claims := foreign_claims(packages_distributions()):
        raise pytest.UsageError(
            f"{'; '.join(claims)}: graphwright needs a virtual environment of its own"
        )


@pytest.fixture(autouse=True)
def no_hidden_type_errors() -> Iterator[None]:
    """A value that its annotation forbids fails the test, also where code catches the error."""
    violations.clear()
    yield
    assert not violations, violations[0]


@pytest.fixture(scope="session", autouse=True)
def wandb_offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reaches for the network, a W&B account or the user's folders."""
    folder = tmp_path_factory.mktemp("wandb")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        patch.delenv("WANDB_API_KEY", raising=False)
        for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
            patch.setenv(name, str(folder))
        yield


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch on one thread: sums are the same each time, and what others compute is not waited for.

    A file whose tests all want it says `pytestmark = pytest.mark.usefixtures("one_thread")`.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
