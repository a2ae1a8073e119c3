"""Checks of what is handed to compiled kernels, which themselves look at nothing.

A kernel reads and writes wherever its indices lead. What it is given is therefore checked by the
Python code that calls it: records of arrays once, where they are made, against their own
annotations; plans at each call, in time linear in the ops.
"""

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple, get_type_hints

import numpy as np

from simulator.errors import KernelInputError


class _Field(NamedTuple):
    """What an annotation says of one array."""

    name: str
    dtype: np.dtype
    sizes: tuple[tuple[str, int], ...]
    """For each axis a name (empty where there is none) and what is added to it."""


def check_record(record: tuple[object, ...], **sizes: int) -> dict[str, int]:
    """Hold a named tuple of arrays against its annotations.

    Every array must have the element type and the number of axes that its field is annotated with,
    lie row by row in memory and be writable (numba compiles a kernel anew for any other kind of
    array), and be as long along each axis as all others say that share the axis's name.

    Args:
        record: fields may also be scalars or records, which are left alone.
        sizes: known lengths of axes, by name.

    Returns:
        The lengths of all named axes.

    Raises:
        KernelInputError: names the array, says what it is and what it must be.
    """
    known = dict(sizes)
    kind = type(record)
    for field in _fields(kind):
        array = getattr(record, field.name)
        name = f"{kind.__name__}.{field.name}"
        _check_kind(name, array, field.dtype, len(field.sizes))
        for axis, (size, more) in enumerate(field.sizes):
            if size and size not in known:
                known[size] = array.shape[axis] - more
            wanted = known.get(size, 0) + more
            if array.shape[axis] != wanted:
                raise KernelInputError(
                    f"{name} has shape {array.shape}; axis {axis} must be {wanted} long"
                    + (f", for there are {known[size]} {size}" if size else "")
                )
    return known


def check_indices(name: str, values: np.ndarray, limit: int, least: int = 0) -> None:
    """Raise `KernelInputError` unless all values are from `least` up to, not including, `limit`."""
    if not values.size:
        return
    low, high = int(values.min()), int(values.max())
    if low < least or high >= limit:
        at = int(np.argmax((values < least) | (values >= limit)))
        raise KernelInputError(
            f"{name}[{at}] is {values.ravel()[at]}; it must be from {least} to {limit - 1}"
        )


def check_devices(name: str, devices: np.ndarray, count: int) -> None:
    """Raise `KernelInputError` unless every op is on one of `count` devices."""
    check_indices(name, devices, count)


def check_ranks(name: str, ranks: np.ndarray) -> None:
    """Raise `KernelInputError` unless each number below the array's length is there once."""
    check_indices(name, ranks, len(ranks))
    counts = np.bincount(ranks, minlength=len(ranks))
    if len(ranks) and counts.max() > 1:
        twice = int(counts.argmax())
        raise KernelInputError(
            f"{name} has {twice} more than once; it must be a permutation of 0 to {len(ranks) - 1}"
        )


def check_offsets(name: str, offsets: np.ndarray, last: int) -> None:
    """Raise `KernelInputError` unless offsets ascend from 0 to `last`."""
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != last:
        ends = f"{offsets[0]} to {offsets[-1]}" if len(offsets) else "nowhere"
        raise KernelInputError(f"{name} goes from {ends}; it must go from 0 to {last}")
    falls = np.flatnonzero(np.diff(offsets) < 0)
    if falls.size:
        at = int(falls[0])
        raise KernelInputError(
            f"{name}[{at + 1}] is {offsets[at + 1]}, less than the {offsets[at]} before it; "
            "offsets must not fall"
        )


def check_array(name: str, array: np.ndarray, dtype: str, shape: tuple[int, ...]) -> None:
    """Raise `KernelInputError` unless an array has this element type and shape, and is writable."""
    _check_kind(name, array, np.dtype(dtype), len(shape))
    if array.shape != shape:
        raise KernelInputError(f"{name} has shape {array.shape}; it must have {shape}")


def check_plan(
    devices: np.ndarray, ranks: np.ndarray, peak: np.ndarray, shape: tuple[int, int]
) -> None:
    """Raise `KernelInputError` unless a plan can be run; O(ops).

    Args:
        devices: of each op.
        ranks: of each op, 0 the most urgent.
        peak: room for a number per device.
        shape: ops and devices of the program.
    """
    ops, count = shape
    check_array("devices", devices, "int32", (ops,))
    check_array("ranks", ranks, "int32", (ops,))
    check_array("peak", peak, "int64", (count,))
    check_devices("devices", devices, count)
    check_ranks("ranks", ranks)


def _check_kind(name: str, array: object, dtype: np.dtype, axes: int) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != dtype:
        given = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise KernelInputError(f"{name} is {given}; it must be an array of {dtype}")
    if array.ndim != axes:
        raise KernelInputError(f"{name} has {array.ndim} axes; it must have {axes}")
    if not array.flags.carray:
        is_so = "not laid out row by row" if array.flags.writeable else "read-only"
        raise KernelInputError(
            f"{name} is {is_so}; it must be writable and lie row by row in memory: hand over a copy"
        )


@cache
def _fields(kind: type[object]) -> tuple[_Field, ...]:
    """The arrays of a record, from its annotations."""
    return tuple(_read_annotations(kind))


def _read_annotations(kind: type[object]) -> Iterator[_Field]:
    for name, hint in get_type_hints(kind).items():
        if hasattr(hint, "dim_str"):
            sizes = tuple(_axis(text) for text in hint.dim_str.split())
            yield _Field(name, np.dtype(hint.dtypes[0]), sizes)


def _axis(text: str) -> tuple[str, int]:
    """An annotated length: a name, a number, or a name and what is added to it."""
    name, _, more = text.partition("+")
    return ("", int(name)) if name.isdigit() else (name, int(more or 0))
