"""How kernels are compiled: machine code, cached on disk, without the interpreter lock."""

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile a function with numba; the result is cached beside the source.

    Numba's reference counting is off: kernels get all their arrays from the caller and allocate
    none. Counting every array of a kernel's state at every use made the event engine thirty
    times slower.
    """
    return numba.njit(cache=True, nogil=True, boundscheck=False, _nrt=False)(function)


def inlined(function: Function) -> Function:
    """Compile a function that becomes part of each compiled caller.

    Kernels pass their whole state to such functions; a real call would copy it each time.
    """
    return numba.njit(cache=True, nogil=True, boundscheck=False, _nrt=False, forceinline=True)(
        function
    )


def compiled_with_allocation(function: Function) -> Function:
    """Compile a function that allocates arrays: once a call, not in a hot loop."""
    return numba.njit(cache=True, nogil=True, boundscheck=False)(function)
