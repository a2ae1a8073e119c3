"""All workloads by name, with the parameters under which they are known."""

from collections.abc import Callable

from graphs.errors import ModelError
from graphs.graph import Graph
from graphs.importers.tensorflow_models.graph import import_tf_graph
from graphs.workloads.amoebanet import amoebanet
from graphs.workloads.gnmt import GnmtConfig, gnmt
from graphs.workloads.inception import InceptionConfig, inception_v3
from graphs.workloads.nasnet import nasnet
from graphs.workloads.resnet import ResnetConfig, resnet
from graphs.workloads.rnnlm import RnnlmConfig, rnnlm
from graphs.workloads.training import Workload
from graphs.workloads.transformer_xl import TransformerXlConfig, transformer_xl
from graphs.workloads.wavenet import WavenetConfig, wavenet

WORKLOADS: dict[str, Callable[[], Workload]] = {
    "rnnlm-2": lambda: rnnlm(RnnlmConfig(layers=2)),
    "rnnlm-4": lambda: rnnlm(RnnlmConfig(layers=4)),
    "rnnlm-8": lambda: rnnlm(RnnlmConfig(layers=8)),
    "gnmt-2": lambda: gnmt(GnmtConfig(layers=2)),
    "gnmt-4": lambda: gnmt(GnmtConfig(layers=4)),
    "gnmt-8": lambda: gnmt(GnmtConfig(layers=8)),
    "gnmt-8-35k": lambda: gnmt(GnmtConfig(layers=8, steps=40)),
    "gnmt-8-80k": lambda: gnmt(GnmtConfig(layers=8, steps=92)),
    "inception-v3": inception_v3,
    "inception-v3-64": lambda: inception_v3(InceptionConfig(batch=64)),
    "resnet-50": lambda: resnet(ResnetConfig(depth=50)),
    "resnet-152": lambda: resnet(ResnetConfig(depth=152)),
    "transformer-xl-2": lambda: transformer_xl(TransformerXlConfig(layers=2)),
    "transformer-xl-4": lambda: transformer_xl(TransformerXlConfig(layers=4)),
    "transformer-xl-8": lambda: transformer_xl(TransformerXlConfig(layers=8)),
    "wavenet-2x18": lambda: wavenet(WavenetConfig(stacks=2, layers=18)),
    "wavenet-4x36": lambda: wavenet(WavenetConfig(stacks=4, layers=36)),
    "nasnet-large": nasnet,
    "amoebanet-d": amoebanet,
}


def build_workload(name: str) -> Workload:
    """Build a workload's TensorFlow graph; seconds, for GNMT of eight layers up to a minute.

    Raises:
        ModelError: no such workload; the message lists them.
    """
    if name not in WORKLOADS:
        raise ModelError(f"no workload {name!r}; there are: {', '.join(WORKLOADS)}")
    return WORKLOADS[name]()


def build(name: str) -> Graph:
    """Build a workload and import its training step.

    Raises:
        ModelError: no such workload; the message lists them.
    """
    return graph_of_workload(name, build_workload(name))


def graph_of_workload(name: str, workload: Workload) -> Graph:
    """Import the training step of a workload."""
    return import_tf_graph(workload.graph, name, workload.fetches)
