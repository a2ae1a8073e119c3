"""How much memory and time reading one model may take."""

import os
from dataclasses import dataclass
from pathlib import Path

#: Reading takes seconds for models of 100,000 ops; what takes longer is stuck as a rule.
MOST_SECONDS = 600.0
#: Of the machine's memory, or of what a container may use.
_SHARE_OF_MEMORY = 0.5
_CONTAINER = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class ImportLimits:
    """What a process that reads a model may take before it is ended."""

    memory_bytes: int | None = None
    """Resident memory; None: half of what this machine, or this container, has."""
    seconds: float = MOST_SECONDS
    """Of the clock."""

    @property
    def most_bytes(self) -> int:
        """The limit on memory as a figure."""
        if self.memory_bytes is not None:
            return self.memory_bytes
        return int(_SHARE_OF_MEMORY * _machine_bytes())


#: What holds where nobody says otherwise.
DEFAULT_LIMITS = ImportLimits()


def _machine_bytes() -> int:
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        allowed = _CONTAINER.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return machine
    return min(machine, int(allowed)) if allowed.isdigit() else machine
