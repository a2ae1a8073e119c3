"""What the corpus knows of a model: where it comes from, what it reads, and how it is trained."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

TRAINING = "-train"


class Loss(StrEnum):
    """What a training step minimises, of every output that is picked."""

    CLASSES = "classes"
    """Cross entropy; classes are the last dimension, as of tokens and of images."""
    PIXELS = "pixels"
    """Cross entropy; classes are dimension one, as of segmentation."""
    VALUES = "values"
    """Mean squared error, as of noise, boxes, spectra and embeddings."""


@dataclass(frozen=True)
class RealModel:
    """A model at one size, with the batches at which it is run and trained."""

    name: str
    family: str
    """The architecture family; the split goes by it."""
    package: str
    """The package that defines it."""
    build: Callable[[], Any]
    """Makes the model, with whatever weights; heavy packages are imported inside."""
    inputs: Callable[[int], Mapping[str, Any]]
    """Examples for a batch by the name of the argument."""
    loss: Loss = Loss.CLASSES
    outputs: Sequence[str] = ()
    """The outputs that count, by attribute; all tensors where none is named."""
    batch: int = 1
    """Samples of the inference graph; 0 where there is none."""
    training_batch: int = 0
    """Samples of the training step; 0 where there is none."""
    optimizer: str = "adam"

    @property
    def graph_names(self) -> tuple[str, ...]:
        """The graphs that are made of it."""
        names = (self.name,) if self.batch else ()
        return (*names, f"{self.name}{TRAINING}") if self.training_batch else names

    def batch_of(self, graph_name: str) -> int:
        """Samples of one of its graphs."""
        return self.training_batch if graph_name.endswith(TRAINING) else self.batch
