"""The catalogue's graphs as they are bundled: inference from ONNX, training steps from ATen."""

import logging
import warnings
from collections.abc import Callable, Mapping
from functools import partial

from benchmarks.data.torch_models.catalogue import MODELS
from benchmarks.data.torch_models.export import joint_program, onnx_program, without_weights
from graphs.graph import Graph
from graphs.importers.onnx_models.model import import_onnx_model
from graphs.importers.torch_models.exported import import_training_program

TRAINING = "-train"


def inference_graph(name: str) -> Graph:
    """The forward pass at the catalogue's batch, exported to ONNX and imported."""
    _quiet()
    program = onnx_program(name, any_batch=False)
    return import_onnx_model(without_weights(program, f"{name}.weights"), {}, name)


def training_graph(name: str) -> Graph:
    """Forward, backward and Adam at the catalogue's training batch."""
    _quiet()
    return import_training_program(joint_program(name), f"{name}{TRAINING}", "adam")


def _quiet() -> None:
    """Silence the exporter's remarks on packages that are not needed."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="copyreg")


TORCH_GRAPHS: Mapping[str, Callable[[], Graph]] = {
    **{name: partial(inference_graph, name) for name in MODELS},
    **{f"{name}{TRAINING}": partial(training_graph, name) for name in MODELS},
}
