"""Starts Python processes that run installed code alone, wherever the command was started.

Every process of the project that runs Python is started here. It is isolated (`-I`): it takes no
heed of `PYTHON...` variables and of the current folder, and imports from where its parent does,
less the folders that `graphs.import_paths` does not trust.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graphs.import_paths import trusted_paths

_STARTER = Path(__file__).with_name("python_process_starter.py")


def start_python(
    module: str,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    **options: Any,
) -> "subprocess.Popen[bytes]":
    """Run a module as `__main__` in a process of its own.

    Args:
        module: its full name, such as `placement.runtime.ort.worker`.
        arguments: what it finds in `sys.argv` from 1 on.
        environment: variables that it has besides those of this process.
        options: of `subprocess.Popen`: its pipes, and the files that it inherits.

    Raises:
        OSError: the process could not be started.
    """
    starter = [sys.executable, "-I", str(_STARTER), json.dumps(trusted_paths())]
    return subprocess.Popen(
        [*starter, module, *arguments],
        env={**_without_python_variables(), **(environment or {})},
        **options,
    )


def _without_python_variables() -> dict[str, str]:
    """The environment for processes, and for those that they start in turn."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
