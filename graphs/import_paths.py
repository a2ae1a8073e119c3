"""Folders that code is imported from: never the current one just because a command began there.

Python puts the current folder first where it is started by `-m` or `-c`, and wherever `PYTHONPATH`
has an empty or relative entry. A file `onnxruntime.py` beside a downloaded model would then run in
place of the package. This module imports nothing that is not loaded at the start of any Python, so
that it can be asked before anything else is imported.
"""

import os
import sys

#: The folder that the five packages are in.
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120


def trusted_paths() -> list[str]:
    """What `sys.path` has without the current folder and relative entries.

    The current folder stays where `PYTHONPATH` names it in full, where it holds this project, and
    where it is one of Python's own. The project's folder is always there.
    """
    try:
        here = os.path.realpath(os.getcwd())  # noqa: PTH109
    except FileNotFoundError:  # it was removed
        here = os.sep
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    in_full = {os.path.realpath(path) for path in named if os.path.isabs(path)}  # noqa: PTH117
    refused = {here} | {
        os.path.realpath(os.path.join(here, path))  # noqa: PTH118
        for path in named
        if not os.path.isabs(path)  # noqa: PTH117
    }
    refused -= in_full | {os.path.realpath(ROOT)}
    kept = []
    for path in sys.path:
        if not os.path.isabs(path):  # noqa: PTH117
            continue
        real = os.path.realpath(path)
        if real not in refused or _is_pythons_own(real):
            kept.append(path)
    return kept if ROOT in kept else [*kept, ROOT]


def leave_out_current_folder() -> None:
    """Import nothing from the current folder from here on; for commands, at their very start."""
    sys.path[:] = trusted_paths()


def _is_pythons_own(path: str) -> bool:
    prefixes = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}
    libraries = {os.path.realpath(prefix) + os.sep + "lib" for prefix in prefixes}
    return any(path == library or path.startswith(library + os.sep) for library in libraries)
