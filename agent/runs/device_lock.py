"""One measurement at a time on each device of a machine.

Two measurements that share a core slow each other down, and both are wrong without a word. Each
therefore holds a lock for every device that it runs on, until it ends, however it ends.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from simulator.clusters.cluster import Cluster

#: The same for all users and commands of a machine, whatever their `TMPDIR`.
_FOLDER = Path("/tmp")


def devices_of(cluster: Cluster, cores: Iterable[int]) -> tuple[str, ...]:
    """Names of what a measurement on a cluster occupies: cores, and accelerators by number.

    Args:
        cores: numbers of the cores that worker processes are pinned to, in their order.
    """
    pinned = [f"core-{core}" for core in list(cores)[: cluster.device_count]]
    others = [
        f"accelerator-{number}"
        for number, device in enumerate(cluster.devices)
        if device.kind not in ("cpu-core", "cpu")
    ]
    return tuple(pinned + others)


@contextmanager
def exclusive(devices: Iterable[str], on_wait: Callable[[str], None]) -> Iterator[None]:
    """Hold devices for the block; waits for other measurements.

    Where no lock can be had, as in a container without the folder, nothing is waited for.

    Args:
        devices: names, as `devices_of` gives them.
        on_wait: told the name of a device before it is waited for.
    """
    import fcntl  # which only POSIX has; measuring needs it anyway

    with ExitStack() as held:
        for device in sorted(set(devices)):  # all in one order, so that no two wait for each other
            descriptor = _opened(_FOLDER / f"graphwright-{device}.lock")
            if descriptor is None:
                continue
            held.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait(device)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def _opened(path: Path) -> int | None:
    """A descriptor of a file that may be another user's; None where there can be none."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    for more in (0, os.O_CREAT | os.O_EXCL, 0):  # somebody may make it in between
        try:
            return os.open(path, flags | more, 0o444)
        except OSError:
            continue
    return None
