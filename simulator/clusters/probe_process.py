"""A process that `probe` measures with: a core's speeds, or the far end of a pipe.

probe_process core CORE         prints three figures as JSON
probe_process echo DESCRIPTOR   answers each message with its first byte, until an empty one
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection

import numpy as np

_MATRIX = 768
_BUFFER_BYTES = 64 << 20
_REPEATS = 7


def median_seconds(work: Callable[[], object], repeats: int = _REPEATS) -> float:
    """What some work takes, once it has been done before."""
    work()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return float(np.median(times))


def _core_figures(core: int) -> tuple[float, float, float]:
    """Flops per second, memory bytes per second, seconds to start a small op."""
    os.sched_setaffinity(0, {core})
    a = np.ones((_MATRIX, _MATRIX), np.float32)
    source = np.ones(_BUFFER_BYTES // 8)
    target = np.empty_like(source)
    tiny = np.ones(4, np.float32)
    flops = 2.0 * _MATRIX**3 / median_seconds(lambda: a @ a)
    stream = 2.0 * _BUFFER_BYTES / median_seconds(lambda: np.copyto(target, source))
    launch = median_seconds(lambda: [np.add(tiny, tiny) for _ in range(1000)]) / 1000
    return flops, stream, launch


def _echo(descriptor: int) -> None:
    with Connection(descriptor) as pipe, suppress(EOFError, OSError):  # the other end is gone
        while message := pipe.recv_bytes():
            pipe.send_bytes(message[:1])


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent cleans up, within two seconds
        signal.signal(number, signal.SIG_IGN)
    if sys.argv[1] == "core":
        sys.stdout.write(json.dumps(_core_figures(int(sys.argv[2]))))
    else:
        _echo(int(sys.argv[2]))
