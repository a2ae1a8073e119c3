"""How kernels are compiled: machine code, cached on disk, without the interpreter lock.

With `GRAPHWRIGHT_BOUNDS_CHECKS=1` in the environment every index of every kernel is checked: one
beyond the end of its array raises `IndexError`, where it would read or write foreign memory
otherwise. Kernels take about a fifth longer then, and have places of their own in numba's cache.
Negative indices count from the end, as in Python, and are not caught.

Numba compiles a cached kernel anew when the file that it is in has changed, and does not notice
changes of functions and records that the kernel takes from other files. So a kernel's name in the
cache has a digest of all files that it may take them from: the simulator's, those of its own folder
and of the folders above that one.

Numba's settings come from the environment alone. A `.numba_config.yaml` in the current folder is
not read: it could name a folder of cached code, and cached code runs.
"""

import hashlib
import inspect
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba

# Settings that were read of such a file while numba was imported are taken back.
numba.core.config._config_fname = os.devnull
numba.core.config.reload_config()

Function = TypeVar("Function", bound=Callable[..., Any])

#: The environment variable that switches bounds checks on; read when kernels are imported.
BOUNDS_CHECKS = "GRAPHWRIGHT_BOUNDS_CHECKS"

#: Whether they are on in this process.
CHECKS_BOUNDS = os.environ.get(BOUNDS_CHECKS, "") not in ("", "0")


def compiled(function: Function) -> Function:
    """Compile a function with numba; the result is cached beside the source.

    Numba's reference counting is off: kernels get all their arrays from the caller and allocate
    none. Counting every array of a kernel's state at every use made the event engine thirty
    times slower.
    """
    return _compile(function, _nrt=False)


def inlined(function: Function) -> Function:
    """Compile a function that becomes part of each compiled caller.

    Kernels pass their whole state to such functions; a real call would copy it each time.
    """
    return _compile(function, _nrt=False, forceinline=True)


def compiled_with_allocation(function: Function) -> Function:
    """Compile a function that allocates arrays: once a call, not in a hot loop."""
    return _compile(function)


def _compile(function: Function, **options: bool) -> Function:
    # Numba finds cached code by the function's name and file, not by how it was compiled.
    function.__qualname__ += f".{_source_digest(Path(inspect.getfile(function)).parent)}"
    if CHECKS_BOUNDS:
        function.__qualname__ += ".bounds_checked"
    return numba.njit(cache=True, nogil=True, boundscheck=CHECKS_BOUNDS, **options)(function)


@cache
def _source_digest(folder: Path) -> str:
    """Eight hexadecimal digits that identify what kernels in a folder may be made of."""
    state = hashlib.blake2b(digest_size=4)
    simulator = Path(__file__).parent
    root = simulator.parent
    above = [at for at in (folder, *folder.parents) if root in at.parents]
    sources = {path for at in above for path in at.glob("*.py")}
    for path in sorted({*sources, *simulator.rglob("*.py")}):
        state.update(path.name.encode())
        state.update(path.read_bytes())
    return state.hexdigest()
