"""What tells the outputs of a run from the original's."""

import numpy as np

_RELATIVE_TOLERANCE = 1e-3


def difference(found: np.ndarray, wanted: np.ndarray) -> str | None:
    """What tells two arrays apart beyond rounding, or None."""
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return f"{found.dtype}{list(found.shape)} instead of {wanted.dtype}{list(wanted.shape)}"
    if np.array_equal(found, wanted):
        return None
    if found.dtype.kind != "f":
        return "values differ"
    finite = wanted[np.isfinite(wanted)]
    scale = float(np.abs(finite).max(initial=0.0))
    close = np.isclose(found, wanted, _RELATIVE_TOLERANCE, _RELATIVE_TOLERANCE * scale, True)
    if close.all():
        return None
    return f"{np.count_nonzero(~close)} of {close.size} values differ"
