"""Generated graphs: deterministic, valid, and training steps like the real ones."""

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from spread_plans import spread

from graphs import Graph, ModelError, OpKind, Phase
from graphs.bundled_graphs import load_bundled
from graphs.families.layers import (
    add_up,
    classification,
    conv_bn,
    embedding,
    images_and_labels,
    pool,
    token_loss,
    unstack,
)
from graphs.families.perturbed import _SOURCE_OPS, SOURCES
from graphs.families.recurrent import unroll
from graphs.families.reference import graph_of_reference, is_reference
from graphs.families.registry import _GRADIENT_OPS, FAMILIES, generate
from graphs.families.tape import Tape
from graphs.families.training_step import OPTIMIZERS, add_training_step
from graphs.families.values import TapeValue
from graphs.kinds import DType, Storage
from simulator import Plan, Simulator
from simulator.clusters.presets import PRESET_NAMES, preset

SMALL = 400
PRODUCTS = [OpKind.MATMUL, OpKind.CONV, OpKind.CONV_GRAD, OpKind.DEPTHWISE_CONV]
WRITTEN = [name for name in FAMILIES if name != "perturbed"]


def training_graph(family: str, target: int = SMALL) -> Graph:
    """The first training step of a family."""
    graphs = (generate(family, seed, target) for seed in range(50))
    return next(graph for graph in graphs if (graph.phases == Phase.UPDATE).any())


def forward_of(build: Callable[[Tape], TapeValue], optimizer: str) -> Graph:
    """The training step of a forward pass."""
    tape = Tape("model", 10_000, True, gradient_ops=_GRADIENT_OPS)
    add_training_step(tape, build(tape), OPTIMIZERS[optimizer])
    return tape.graph()


@pytest.mark.parametrize("family", FAMILIES)
def test_same_seed_same_graph_and_other_seed_other_graph(family: str) -> None:
    digests = [generate(family, seed, SMALL).digest for seed in (0, 1, 2, 0)]
    assert digests[0] == digests[3]
    assert len(set(digests)) == 3


@pytest.mark.parametrize(
    ("reference", "digest"),
    [
        ("rnnlm:0:400", "0cc3720b8dd5a459"),
        ("inception:1:400", "5270a60af3ee06ce"),
        ("moe:2:600", "295689c168dec758"),
    ],
)
def test_a_seed_means_the_same_graph_everywhere(reference: str, digest: str) -> None:
    assert graph_of_reference(reference).digest == digest


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_simulates_on_every_preset(family: str) -> None:
    for seed in range(3):
        graph = generate(family, seed, SMALL)
        assert np.isfinite(graph.flops).all()
        assert graph.flops.sum() > 0
        for name in PRESET_NAMES:
            cluster = preset(name)
            simulator = Simulator.of(graph, cluster)
            one = simulator.evaluate(Plan.of(np.zeros(graph.op_count, np.int32)))
            assert np.isfinite(one.makespan_seconds)
            assert one.makespan_seconds > 0
            many = simulator.evaluate(spread(graph, cluster.device_count))
            assert np.isfinite(many.makespan_seconds)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_variable_is_updated_where_it_lives(family: str) -> None:
    graph = training_graph(family)
    changes = np.isin(graph.kinds, [OpKind.OPTIMIZER_UPDATE, OpKind.SCATTER])
    updated = set(graph.colocation[changes].tolist()) - {-1}
    variables = np.flatnonzero(graph.kinds == OpKind.VARIABLE)
    assert variables.size
    assert all(graph.colocation[op] in updated for op in variables)
    assert (graph.resident_bytes[variables] > 0).all()
    # A variable's value costs nothing beyond the variable.
    reads = [i for i, op_type in enumerate(graph.op_types) if op_type == "ReadVariableOp"]
    values = np.isin(graph.tensor_producers, reads) & (graph.tensor_storage != Storage.CONTROL)
    assert (graph.tensor_storage[values] == Storage.RESIDENT).all()


@pytest.mark.parametrize("family", WRITTEN)
def test_gradients_take_about_twice_the_flops(family: str) -> None:
    graph = training_graph(family, 1000)
    products = np.isin(graph.kinds, PRODUCTS)
    forward, backward = (
        graph.flops[products & (graph.phases == phase)].sum()
        for phase in (Phase.FORWARD, Phase.BACKWARD)
    )
    assert 1.2 * forward < backward <= 2.0 * forward


@pytest.mark.parametrize("family", WRITTEN)
def test_gradients_accumulate_as_chains(family: str) -> None:
    graph = training_graph(family, 1000)
    sums = np.flatnonzero((graph.kinds == OpKind.ACCUMULATE) & (graph.phases == Phase.BACKWARD))
    inputs = np.diff(graph.input_offsets)[sums]
    assert (inputs <= 2).all()
    assert all(graph.colocation[op] >= 0 for op in sums)


@pytest.mark.parametrize("family", WRITTEN)
def test_sizes_are_about_what_was_asked_for(family: str) -> None:
    for seed in (0, 3):
        assert 1000 < generate(family, seed, 2000).op_count < 4000


@pytest.mark.parametrize("family", WRITTEN)
def test_inference_has_neither_gradients_nor_updates(family: str) -> None:
    graphs = (generate(family, seed, SMALL) for seed in range(50))
    graph = next(graph for graph in graphs if not (graph.phases == Phase.UPDATE).any())
    assert (graph.phases == Phase.FORWARD).all()
    assert not np.isin(graph.kinds, [OpKind.OPTIMIZER_UPDATE, OpKind.CONV_GRAD]).any()


def test_an_rnnlm_on_the_tape_does_the_work_of_the_real_one() -> None:
    def loss(tape: Tape) -> TapeValue:
        tokens, labels = (tape.placeholder((64, 40), DType.INT32) for _ in range(2))
        steps = list(unstack(tape, embedding(tape, "embedding", tokens, 10_000, 2048)))
        for layer in range(2):
            steps = unroll(tape, f"layer_{layer}", steps, 2048)
        kernel, bias = tape.weight("kernel", (2048, 10_000)), tape.weight("bias", (10_000,))
        losses = []
        for step, label in zip(steps, unstack(tape, labels), strict=True):
            logits = tape.op("MatMul", (step, kernel), (64, 10_000))
            losses.append(token_loss(tape, tape.op("BiasAdd", (logits, bias)), label))
        return add_up(tape, losses)

    assert_same_work(forward_of(loss, "adam"), load_bundled("rnnlm-2"))


def test_a_resnet_on_the_tape_does_the_work_of_the_real_one() -> None:
    def loss(tape: Tape) -> TapeValue:
        images, labels = images_and_labels(tape, 32, 224)
        x = pool(tape, conv_bn(tape, "stem", images, 64, (7, 7), 2), "MaxPool", 3, 2)
        for stage, blocks in enumerate((3, 4, 6, 3)):
            for block in range(blocks):
                filters, stride = 64 << stage, 2 if stage and not block else 1
                with tape.scope(f"stage_{stage}/block_{block}"):
                    y, shortcut = conv_bn(tape, "a", x, filters, (1, 1)), x
                    y = conv_bn(tape, "b", y, filters, (3, 3), stride)
                    y = conv_bn(tape, "c", y, 4 * filters, (1, 1), 1, None)
                    if not block:
                        shortcut = conv_bn(tape, "d", x, 4 * filters, (1, 1), stride, None)
                    x = tape.op("Relu", (tape.op("AddV2", (y, shortcut)),))
        return classification(tape, x, labels, 1000)

    assert_same_work(forward_of(loss, "momentum"), load_bundled("resnet-50"))


def assert_same_work(made: Graph, real: Graph) -> None:
    """The same products, parameters and state; about as many ops, edges and bytes."""
    for kind in PRODUCTS:
        for phase in Phase:
            mine, theirs = (g.flops[(g.kinds == kind) & (g.phases == phase)].sum()
                            for g in (made, real))  # fmt: skip
            assert mine == pytest.approx(theirs, rel=1e-9)
    assert made.resident_bytes.sum() == pytest.approx(real.resident_bytes.sum(), abs=64)
    assert made.op_count == pytest.approx(real.op_count, rel=0.1)
    assert made.edge_count == pytest.approx(real.edge_count, rel=0.1)
    assert made.bytes_written.sum() == pytest.approx(real.bytes_written.sum(), rel=0.05)
    assert made.flops.sum() == pytest.approx(real.flops.sum(), rel=0.01)


def test_perturbed_graphs_come_from_the_graphs_they_say() -> None:
    assert [load_bundled(name).op_count for name in SOURCES] == list(_SOURCE_OPS)
    graph = generate("perturbed", 3, 2000)
    assert graph.op_types[0] == "Placeholder"
    assert graph.digest not in {load_bundled(name).digest for name in SOURCES}


def test_copied_branches_are_read_like_the_original() -> None:
    copied = next(
        graph
        for graph in (generate("perturbed", seed, 4000) for seed in range(20))
        if any(name.startswith("copy_1/") for name in graph.op_names)
    )
    for op, name in enumerate(copied.op_names):
        if name.startswith("copy_1/"):
            original = copied.op_index[name.removeprefix("copy_1/")]
            assert copied.op_types[op] == copied.op_types[original]
            inputs = [len(copied.inputs_of(index)) for index in (op, original)]
            assert inputs[0] == inputs[1]


def test_mistakes_are_told() -> None:
    with pytest.raises(ModelError, match="rnnlm, gnmt"):
        generate("lstm", 0)
    with pytest.raises(ModelError, match="between 100 and"):
        generate("rnnlm", 0, 7)
    with pytest.raises(ModelError, match="FAMILY:SEED"):
        graph_of_reference("rnnlm")
    assert is_reference("rnnlm:0")
    assert not is_reference("model.onnx")


def test_no_framework_is_imported() -> None:
    code = (
        "import sys; from graphs.families.registry import FAMILIES, generate\n"
        "for name in FAMILIES: generate(name, 0, 400)\n"
        "print(sorted({'tensorflow', 'onnx', 'torch', 'numba'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=3600
    )
    assert run.stdout.strip() == "[]"
