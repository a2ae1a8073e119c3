"""What tells one machine from another, as far as step times go."""

import hashlib
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from placement.runtime.processes.workers import usable_cores


def machine_facts() -> Mapping[str, str]:
    """Processor, cores, kernel and the versions of the runtimes."""
    return {
        "processor": _processor(),
        "cores": str(len(usable_cores())),
        "system": f"{platform.system()} {platform.machine()}",
        **{name: _version(name) for name in ("onnxruntime", "numpy")},
    }


def machine_fingerprint() -> str:
    """Twelve hexadecimal digits of `machine_facts`."""
    text = repr(sorted(machine_facts().items()))
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "cpu family", "model\t", "stepping")
    values = [line.partition(":")[2].strip() for line in lines if line.startswith(wanted)]
    return " ".join(values[:4]) or platform.processor()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"
