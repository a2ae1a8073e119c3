"""Measures this machine: its cores as devices, and copies between processes as links."""

import os
import platform
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection

import numpy as np

from simulator.clusters.cluster import Cluster, Device, Link
from simulator.errors import ClusterError

_MATRIX = 768
_BUFFER_BYTES = 64 << 20
_REPEATS = 7


def probe_machine(max_devices: int = 8) -> Cluster:
    """One device per core that this process may use, with measured speeds.

    Compute peaks and memory bandwidth are those of one NumPy process pinned to a core; links are
    a pipe between two processes, as the runtimes use between cores. Medians of several runs; a
    busy machine measures slow.

    Raises:
        ClusterError: the processes that measure could not be started.
    """
    cores = sorted(os.sched_getaffinity(0))[:max_devices]
    figures = _on_core(cores[0], _measure_core)
    latency, bandwidth = _measure_pipe()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // len(cores)
    devices = tuple(
        Device(
            name=f"core:{index}",
            kind="cpu-core",
            memory_bytes=memory,
            flops_per_second={"float32": figures[0]},
            memory_bytes_per_second=figures[1],
            launch_seconds=figures[2],
        )
        for index in range(len(cores))
    )
    links = tuple(
        Link(a.name, b.name, bandwidth, latency) for a in devices for b in devices if a is not b
    )
    return Cluster(f"probed-{platform.node() or 'machine'}", devices, links)


def _median_seconds(work: Callable[[], object], repeats: int = _REPEATS) -> float:
    work()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return float(np.median(times))


def _measure_core() -> tuple[float, float, float]:
    """Flops per second, memory bytes per second, seconds to start a small op."""
    a = np.ones((_MATRIX, _MATRIX), np.float32)
    source = np.ones(_BUFFER_BYTES // 8)
    target = np.empty_like(source)
    tiny = np.ones(4, np.float32)
    flops = 2.0 * _MATRIX**3 / _median_seconds(lambda: a @ a)
    stream = 2.0 * _BUFFER_BYTES / _median_seconds(lambda: np.copyto(target, source))
    launch = _median_seconds(lambda: [np.add(tiny, tiny) for _ in range(1000)]) / 1000
    return flops, stream, launch


def _on_core(
    core: int, measure: Callable[[], tuple[float, float, float]]
) -> tuple[float, float, float]:
    """Run a measurement in a process of its own, pinned, with one BLAS thread."""
    context = get_context("spawn")
    here, there = context.Pipe()
    kept = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    os.environ.update(dict.fromkeys(kept, "1"))
    try:
        worker = context.Process(target=_pin, args=(there, core, measure))
        worker.start()
        there.close()  # so that the end of the worker is the end of the pipe
        result: tuple[float, float, float] = here.recv()
        worker.join()
    except EOFError as error:
        raise ClusterError(
            "the process that measures ended without an answer; a script that probes keeps its "
            "statements under `if __name__ == '__main__':`"
        ) from error
    finally:
        for name, value in kept.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
    return result


def _pin(answer: Connection, core: int, measure: Callable[[], tuple[float, float, float]]) -> None:
    os.sched_setaffinity(0, {core})
    answer.send(measure())


def _echo(pipe: Connection) -> None:
    while message := pipe.recv_bytes():
        pipe.send_bytes(message[:1])


def _measure_pipe() -> tuple[float, float]:
    """Latency in seconds of a small message and bytes per second of a large one."""
    context = get_context("spawn")
    here, there = context.Pipe()
    worker = context.Process(target=_echo, args=(there,))
    worker.start()
    there.close()

    def round_trip(payload: bytes) -> None:
        here.send_bytes(payload)
        here.recv_bytes()

    small, large = b"x", b"x" * (8 << 20)
    latency = _median_seconds(lambda: round_trip(small), 200) / 2
    seconds = _median_seconds(lambda: round_trip(large), 10) - 2 * latency
    here.send_bytes(b"")
    worker.join()
    return latency, len(large) / max(seconds, 1e-9)
