"""Large buffers of a network are reused rather than fetched from the system anew each time.

The C library gives buffers of more than 32 MiB back as soon as they are free, and the system clears
every page of the next one. From 130,000 ops on, activations are that large, and a pass of a network
spent more than half of its time on that.
"""

import ctypes
import sys

#: Parameters of `mallopt` (glibc's malloc.h), and the sizes up to which memory is kept.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_BYTES = 1 << 30


def keep_large_buffers() -> bool:
    """From now on, freed memory stays with this process; whether the C library can do so.

    Where it is not glibc nothing changes, and passes over large graphs take about twice as long.
    """
    if not sys.platform.startswith("linux"):
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:
        return False
    return bool(set_option(_MMAP_THRESHOLD, _BYTES) and set_option(_TRIM_THRESHOLD, _BYTES))
