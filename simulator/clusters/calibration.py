"""What measuring a machine adds to its cluster: kernel times, and how far off predictions are."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from simulator.clusters.kernel_times import KernelTimes, read_kernel_times
from simulator.errors import ClusterError


@dataclass(frozen=True)
class PredictionError:
    """How predicted step times differ from measured ones, over plans not used to calibrate."""

    plans: int
    mape: float
    """Mean absolute error as a share of the measured time."""
    mape_relative: float
    """The same of step times as shares of the first plan's, measured in the same turns: the part of
    the error that is not a machine that is faster or slower than when it was calibrated."""
    worst: float
    worst_plan: str
    pearson: float
    kendall: float
    """Rank correlation over all pairs."""
    kendall_clear: float
    """Over the pairs that differ by more than the noise of measuring."""
    regret: float
    """By what share the plan predicted to be fastest is slower than the fastest."""

    def __str__(self) -> str:
        return (
            f"mean error {self.mape:.1%} ({self.mape_relative:.1%} relative to one device), "
            f"worst {self.worst:.1%} ({self.worst_plan}), "
            f"Kendall tau {self.kendall_clear:.2f} over clear pairs ({self.kendall:.2f} over all), "
            f"{self.plans} plans"
        )


@dataclass(frozen=True, eq=False)
class Calibration:
    """The measurements behind a cluster of this machine's devices."""

    machine: str
    """Fingerprint of the machine that was measured."""
    runtime: str
    times: KernelTimes
    costs_file: str
    """Where the kernel times are kept."""
    error: PredictionError | None = None
    step_seconds: float = 0.0
    """What every step takes beside its plan, such as a client's call."""


def calibration_document(calibration: Calibration) -> dict[str, Any]:
    """Plain values for a cluster file; `calibration_from` reads them back."""
    body: dict[str, Any] = {
        "machine": calibration.machine,
        "runtime": calibration.runtime,
        "costs": calibration.costs_file,
    }
    if calibration.step_seconds:
        body["step_seconds"] = calibration.step_seconds
    if calibration.error is not None:
        body["error"] = asdict(calibration.error)
    return body


def calibration_from(body: Mapping[str, Any], folder: Path, origin: str) -> Calibration:
    """Read a calibration; its kernel times are looked for beside the cluster file.

    Raises:
        ClusterError: keys or figures that are missing or out of place, or no kernel times.
    """
    where = f"{origin}: calibration"
    for key in ("machine", "runtime", "costs"):
        if not isinstance(body.get(key), str):
            raise ClusterError(f"{where}: {key!r} must be text")
    error = None
    if body.get("error") is not None:
        error = PredictionError(**_figures(body["error"], PredictionError, f"{where}: error"))
    path = folder / body["costs"]
    times = read_kernel_times(path)
    step = body.get("step_seconds", 0.0)
    if isinstance(step, bool) or not isinstance(step, int | float) or not 0 <= step < math.inf:
        raise ClusterError(f"{where}: step_seconds is {step!r:.40}; it must be a figure >= 0")
    return Calibration(
        body["machine"], body["runtime"], times, str(path.resolve()), error, float(step)
    )


def _figures(values: Any, wanted: type, where: str) -> dict[str, Any]:
    names = {item.name: item.type for item in fields(wanted)}
    if not isinstance(values, Mapping) or set(values) != set(names):
        raise ClusterError(f"{where}: needs exactly the keys {', '.join(names)}")
    for name, value in values.items():
        if names[name] is str:
            if not isinstance(value, str):
                raise ClusterError(f"{where}: {name} must be text")
        elif isinstance(value, bool) or not isinstance(value, int | float) or math.isinf(value):
            raise ClusterError(f"{where}: {name} is {value!r:.40}; it must be a figure")
    return dict(values)
