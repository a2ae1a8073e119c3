"""What cannot be measured at all; a run that fails is a `Measurement` with a reason instead."""

from graphs.errors import GraphwrightError


class RuntimeRefusal(GraphwrightError):
    """A model, cluster or setting that no device here can run."""
