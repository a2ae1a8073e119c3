"""Figures with units, as people write them: `16GiB`, `12GB/s`, `10us`, `15.7TFLOP/s`."""

import math
import re
from collections.abc import Mapping
from decimal import Decimal

from simulator.errors import ClusterError

_NUMBER = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(.*?)\s*")

_DECIMAL = {"": 1.0, "K": 1e3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}

BYTES: Mapping[str, float] = {
    "": 1.0,
    **{f"{prefix}B": scale for prefix, scale in {**_DECIMAL, **_BINARY}.items()},
}
BYTES_PER_SECOND: Mapping[str, float] = {
    "": 1.0,
    **{f"{unit}/s": scale for unit, scale in BYTES.items() if unit},
    **{f"{prefix}bit/s": scale / 8 for prefix, scale in _DECIMAL.items()},
}
FLOPS_PER_SECOND: Mapping[str, float] = {
    "": 1.0,
    **{f"{prefix}FLOP/s": scale for prefix, scale in _DECIMAL.items()},
    **{f"{prefix}FLOPS": scale for prefix, scale in _DECIMAL.items()},
}
SECONDS: Mapping[str, float] = {
    "": 1.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "ns": 1e-9,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
}


def parse_quantity(text: object, units: Mapping[str, float], label: str) -> float:
    """A number, or a string of a number and one of `units`, as a plain float.

    Raises:
        ClusterError: not a figure, an unknown unit, or not finite.
    """
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise ClusterError(
            f"{label}: {text!r:.80} is not a figure; write one like {_example(units)}"
        )
    number, scale = text, 1.0
    if isinstance(text, str):
        match = _NUMBER.fullmatch(text)
        if match is None or match[2] not in units:
            allowed = ", ".join(unit for unit in units if unit)
            raise ClusterError(
                f"{label}: cannot read {text!r:.80}; write a number and one of {allowed}"
            )
        number, scale = match[1], units[match[2]]
    try:  # in decimal, so that 10us is 1e-5 to the last bit
        value = float(Decimal(number) * Decimal(repr(scale)))
    except (ArithmeticError, ValueError):
        value = math.inf
    if not math.isfinite(value):
        raise ClusterError(f"{label}: {text!s:.80} is not finite")
    return value


def _example(units: Mapping[str, float]) -> str:
    longest = max(units, key=len)
    return f"12{longest}"


def format_bytes(count: float) -> str:
    """Bytes for people, in binary units: `1.5 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def format_seconds(seconds: float) -> str:
    """Seconds for people: `12.3 ms`."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if abs(seconds) >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"
