"""The workloads: published sizes, hand-counted flops, structure of the training steps."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphs import Graph, ModelError, OpKind, Phase
from graphs.importers.tensorflow_models.graph import import_tf_graph
from graphs.workloads.amoebanet import AmoebanetConfig, amoebanet
from graphs.workloads.gnmt import GnmtConfig, gnmt
from graphs.workloads.inception import InceptionConfig, inception_v3
from graphs.workloads.nasnet import NasnetConfig, nasnet
from graphs.workloads.registry import WORKLOADS, build, build_workload
from graphs.workloads.resnet import ResnetConfig, resnet
from graphs.workloads.rnnlm import RnnlmConfig, rnnlm
from graphs.workloads.training import Workload
from graphs.workloads.transformer_xl import TransformerXlConfig, transformer_xl
from graphs.workloads.wavenet import WavenetConfig, wavenet

#: A small member of each family.
SMALL: dict[str, Callable[[], Workload]] = {
    "rnnlm": lambda: rnnlm(RnnlmConfig(2, hidden=16, steps=4, batch=2, vocabulary=50)),
    "gnmt": lambda: gnmt(GnmtConfig(3, hidden=16, steps=3, batch=2, vocabulary=50)),
    "transformer-xl": lambda: transformer_xl(
        TransformerXlConfig(2, 16, 2, 32, steps=8, memory=4, batch=2, vocabulary=20)
    ),
    "wavenet": lambda: wavenet(WavenetConfig(2, 4, 8, 8, steps=32, batch=2, levels=16)),
    "resnet": lambda: resnet(ResnetConfig(50, batch=1, image_size=64, classes=10)),
    "inception": lambda: inception_v3(InceptionConfig(batch=1, image_size=139, classes=10)),
    "nasnet": lambda: nasnet(NasnetConfig(1, 24, 16, batch=1, image_size=131, classes=10)),
    "amoebanet": lambda: amoebanet(AmoebanetConfig(3, 16, batch=1, image_size=64, classes=10)),
}


def _imported(workload: Workload) -> Graph:
    return import_tf_graph(workload.graph, workload.name, workload.fetches)


@pytest.fixture(scope="module", params=sorted(SMALL))
def small(request: Any) -> tuple[Workload, Graph]:
    workload = SMALL[request.param]()
    return workload, _imported(workload)


def test_every_family_is_a_training_step(small: tuple[Workload, Graph]) -> None:
    workload, graph = small
    assert set(np.unique(graph.phases)) == {Phase.FORWARD, Phase.BACKWARD, Phase.UPDATE}
    assert not graph.report.estimated_ops
    assert not graph.report.composite_ops
    assert not graph.report.assumed_dims
    assert OpKind.CUSTOM not in graph.kinds
    # Parameters and at least one slot each.
    assert graph.resident_bytes.sum() >= 2 * 4 * workload.parameters
    forward = graph.flops[graph.phases == Phase.FORWARD].sum()
    backward = graph.flops[graph.phases == Phase.BACKWARD].sum()
    assert 1.2 * forward < backward < 3.0 * forward
    # Nothing of the step is an initialiser, and every variable is colocated with its update.
    assert not any("Initializer" in name for name in graph.op_names)
    for index, op_type in enumerate(graph.op_types):
        if op_type.startswith("ResourceApply"):
            assert graph.colocation[index] >= 0


def test_only_the_sparse_updates_of_embeddings_have_unknown_shapes(
    small: tuple[Workload, Graph],
) -> None:
    _, graph = small
    assert all("update_" in name for name in graph.report.unknown_shapes)
    assert len(graph.report.unknown_shapes) <= 12


@pytest.mark.slow
def test_parameters_of_inception_are_the_published_number() -> None:
    workload = inception_v3(InceptionConfig(batch=1))
    assert workload.parameters == 27_161_264
    graph = _imported(workload)
    convolutions = np.isin(graph.kinds, [OpKind.CONV, OpKind.MATMUL])
    forward = graph.flops[convolutions & (graph.phases == Phase.FORWARD)].sum()
    # 5.7 G multiply-adds, and the auxiliary classifier.
    assert forward == pytest.approx(2 * 5.73e9, rel=0.01)


@pytest.mark.slow
def test_parameters_and_flops_of_resnet_50() -> None:
    workload = resnet(ResnetConfig(50, batch=1))
    assert workload.parameters == 25_557_032
    graph = _imported(workload)
    products = np.isin(graph.kinds, [OpKind.CONV, OpKind.MATMUL])
    forward = graph.flops[products & (graph.phases == Phase.FORWARD)].sum()
    assert forward == pytest.approx(2 * 4.09e9, rel=0.01)


def test_parameters_of_rnnlm_by_hand() -> None:
    hidden, vocabulary = 16, 50
    workload = SMALL["rnnlm"]()
    layer = (2 * hidden + 1) * 4 * hidden
    assert workload.parameters == 2 * vocabulary * hidden + vocabulary + 2 * layer


def test_flops_of_rnnlm_by_hand() -> None:
    config = RnnlmConfig(2, hidden=16, steps=4, batch=2, vocabulary=50)
    graph = _imported(rnnlm(config))
    products = graph.kinds == OpKind.MATMUL
    forward = graph.flops[products & (graph.phases == Phase.FORWARD)].sum()
    layer = 2 * config.batch * (2 * config.hidden) * (4 * config.hidden)
    softmax = 2 * config.batch * config.hidden * config.vocabulary
    assert forward == config.steps * (config.layers * layer + softmax)
    # Both gradients of every product, except that nothing needs the first step's zero state.
    backward = graph.flops[products & (graph.phases == Phase.BACKWARD)].sum()
    assert backward == 2 * forward


@pytest.mark.slow
def test_nodes_grow_with_depth_and_length() -> None:
    def ops(layers: int, steps: int) -> int:
        config = RnnlmConfig(layers, hidden=8, steps=steps, batch=2, vocabulary=10)
        return _imported(rnnlm(config)).op_count

    assert ops(2, 4) - ops(1, 4) > 4 * 20
    assert ops(1, 8) - ops(1, 4) == pytest.approx(ops(1, 12) - ops(1, 8), abs=4)


def test_wavenet_dilations_double_within_a_stack() -> None:
    workload = SMALL["wavenet"]()
    dilations = [
        op.get_attr("dilations")[2]
        for op in workload.graph.get_operations()
        if op.type == "Conv2D" and "/filter/" in op.name
    ]
    assert dilations == [1, 2, 1, 2]


def test_registry_lists_itself() -> None:
    with pytest.raises(ModelError, match="rnnlm-2, rnnlm-4"):
        build("rnnlm-3")
    assert len(WORKLOADS) >= 18


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet-152", 60_192_808),
        # 88,753,150 published without the auxiliary classifier.
        ("nasnet-large", 88_753_150 + 4_567_784),
        ("amoebanet-d", 81_505_540),
    ],
)
def test_published_parameters_of_large_models(name: str, parameters: int) -> None:
    assert build_workload(name).parameters == parameters


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("gnmt-8-35k", 33_000, 37_000), ("gnmt-8", 50_000, 56_000), ("gnmt-8-80k", 76_000, 84_000)],
)
def test_sizes_of_gnmt(name: str, low: int, high: int) -> None:
    assert low < build(name).op_count < high


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(WORKLOADS))
def test_every_workload_imports(name: str) -> None:
    graph = build(name)
    assert not graph.report.estimated_ops
    assert graph.op_count > 800
