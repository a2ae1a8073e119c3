"""What a user wants of a plan beside speed."""

from dataclasses import dataclass

from graphs.errors import GraphwrightError
from simulator.clusters.cluster import Cluster

#: Step times from data sheets are no surer than this; plans that differ by less are alike.
ROOFLINE_ERROR = 0.03


@dataclass(frozen=True)
class Simplicity:
    """How much speed may be given up for a simpler plan, and how complicated one may be.

    Raises:
        GraphwrightError: a figure below zero.
    """

    min_gain: float | None = None
    """What a more complicated plan must gain, as a share of the step; None takes the known error
    of the simulator, 0 keeps the fastest plan."""
    seconds_per_crossing: float = 0.0
    """What each tensor that is sent costs beside its transfer: code, memory, things that fail."""
    max_crossings: int | None = None
    """The most tensors that may be sent in a step, each counted once for every device that
    receives it."""
    contiguous: bool = False
    """Each device gets one stage of the model: nothing comes back to it in the same pass."""

    def __post_init__(self) -> None:
        for name in ("min_gain", "seconds_per_crossing", "max_crossings"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise GraphwrightError(f"{name} is {value}; it must be zero or more")

    def tolerance(self, cluster: Cluster) -> float:
        """The share of the step by which plans must differ to be told apart."""
        return known_error(cluster) if self.min_gain is None else self.min_gain


#: The rule where a user gives none.
WITHIN_ERROR = Simplicity()


def known_error(cluster: Cluster) -> float:
    """How far off the simulator is when it compares plans: as measured, where it was."""
    calibration = cluster.calibration
    if calibration is None or calibration.error is None:
        return ROOFLINE_ERROR
    return calibration.error.mape_relative
