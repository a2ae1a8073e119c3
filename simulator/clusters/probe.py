"""Measures this machine: its cores as devices, and copies between processes as links."""

import json
import os
import platform
import subprocess
from multiprocessing import Pipe

from graphs.python_process import start_python
from simulator.clusters.cluster import Cluster, Device, Link
from simulator.clusters.probe_process import median_seconds
from simulator.errors import ClusterError

_PROCESS = "simulator.clusters.probe_process"
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def probe_machine(max_devices: int = 8) -> Cluster:
    """One device per core that this process may use, with measured speeds.

    Compute peaks and memory bandwidth are those of one NumPy process pinned to a core; links are
    a pipe between two processes, as the runtimes use between cores. Medians of several runs; a
    busy machine measures slow.

    Raises:
        ClusterError: the processes that measure could not be started.
    """
    cores = sorted(os.sched_getaffinity(0))[:max_devices]
    figures = _core_figures(cores[0])
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


def _core_figures(core: int) -> tuple[float, float, float]:
    """Flops per second, memory bytes per second, seconds to start a small op.

    They are measured by a process of its own, pinned, with one BLAS thread.
    """
    worker = start_python(_PROCESS, ["core", str(core)], _ONE_THREAD, stdout=subprocess.PIPE)
    with worker:
        assert worker.stdout is not None
        printed = worker.stdout.read()
    try:
        flops, stream, launch = json.loads(printed)
    except ValueError as error:
        raise ClusterError(
            f"the process that measures ended with code {worker.returncode} and no answer: is "
            "there memory for another process, and may it run on this core?"
        ) from error
    return float(flops), float(stream), float(launch)


def _measure_pipe() -> tuple[float, float]:
    """Latency in seconds of a small message and bytes per second of a large one."""
    here, there = Pipe()
    descriptor = there.fileno()
    worker = start_python(_PROCESS, ["echo", str(descriptor)], _ONE_THREAD, pass_fds=[descriptor])
    there.close()  # so that the end of the worker is the end of the pipe

    def round_trip(payload: bytes) -> None:
        here.send_bytes(payload)
        here.recv_bytes()

    small, large = b"x", b"x" * (8 << 20)
    with worker, here:
        try:
            latency = median_seconds(lambda: round_trip(small), 200) / 2
            seconds = median_seconds(lambda: round_trip(large), 10) - 2 * latency
            here.send_bytes(b"")
        except (EOFError, OSError) as error:
            raise ClusterError(
                "the process at the other end of the pipe ended while copies to it were timed: is "
                "there memory for another process?"
            ) from error
    return latency, len(large) / max(seconds, 1e-9)
