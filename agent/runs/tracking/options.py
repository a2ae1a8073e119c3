"""Where a run is told, and under which names."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrackOptions:
    """What trackers are told of a run besides its configuration."""

    track: str = "none"
    """wandb, tensorboard or none; metrics.jsonl is written in any case."""
    project: str = "graphwright"
    """Project in W&B."""
    group: str | None = None
    """Runs that belong together, in W&B."""
    name: str | None = None
    """Name of the run in W&B; the run folder's name where none is given."""
    tags: tuple[str, ...] = ()
    """In W&B; repeat for several."""
    job_type: str = "train"
