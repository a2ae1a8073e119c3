"""A training step guessed from a forward pass, to choose the schedule of a pipeline by.

A torch program that returns no loss has no backward pass to simulate. Here each op gets one that
takes twice its forward pass (the gradient of what it read, and of its weights), on the same device,
in reverse order; what the op read is kept until then. That is right for products and convolutions,
and an upper estimate of time and memory for most others.
"""

from collections import defaultdict

import numpy as np
from jaxtyping import Int32

from graphs.builder import GraphBuilder, OpRecord, OutputTensor
from graphs.errors import GraphwrightError
from graphs.graph import Graph
from graphs.importers.torch_models.training import OPTIMIZERS
from graphs.kinds import FREE_KINDS, DType, OpKind, Phase, Storage

_SOURCES = (OpKind.INPUT, OpKind.CONSTANT, OpKind.VARIABLE)
_FLOATS = (DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16, DType.FLOAT64, DType.TF32, DType.FLOAT8)
_BACKWARD = 2.0


def mirrored_training(graph: Graph, optimizer: str) -> tuple[Graph, Int32[np.ndarray, " trained"]]:
    """The forward pass, a backward pass that mirrors it, and updates by an optimizer.

    Args:
        graph: a forward pass.
        optimizer: `sgd`, `momentum` or `adam`.

    Returns:
        The graph, and for each of its ops the op of the forward pass that it goes with.

    Raises:
        GraphwrightError: an unknown optimizer, or a graph that nothing is trained in.
    """
    if optimizer not in OPTIMIZERS:
        raise GraphwrightError(f"no optimizer {optimizer!r}; there are {', '.join(OPTIMIZERS)}")
    slots = OPTIMIZERS[optimizer].slots
    builder = GraphBuilder(f"{graph.name} with {optimizer}")
    homes: dict[str, int] = {}

    def add(record: OpRecord, home: int) -> None:
        builder.add(record)
        homes[record.name] = home

    for op in range(graph.op_count):
        add(_forward(graph, op), op)
    trained = _trained(graph)
    gradients: dict[int, list[str]] = defaultdict(list)
    of_weights: dict[int, list[str]] = defaultdict(list)
    sizes: dict[int, int] = {}
    for op in np.flatnonzero(trained)[::-1].tolist():
        if graph.kinds[op] in _SOURCES:
            continue
        outputs: list[OutputTensor] = []
        is_free = int(graph.kinds[op]) in FREE_KINDS
        is_view = is_free and len(gradients[op]) == 1
        read = _read(graph, op)
        for tensor in read:
            source = int(graph.tensor_producers[tensor])
            name = f"gradient {op}:{tensor}"
            if graph.tensor_storage[tensor] == Storage.WEIGHT:
                of_weights[source].append(name)
                sizes[source] = int(graph.tensor_bytes[tensor])
            elif trained[source]:
                gradients[source].append(name)
            else:
                continue
            of_view = (Storage.ALIAS, gradients[op][0]) if is_view else (Storage.BUFFER, None)
            outputs.append(OutputTensor(name, int(graph.tensor_bytes[tensor]), *of_view))
        if graph.resident_bytes[op]:
            name = f"gradient {op}"
            of_weights[op].append(name)
            sizes[op] = int(graph.resident_bytes[op])
            outputs.append(OutputTensor(name, sizes[op]))
        kept = [] if is_free else [_tensor(tensor) for tensor in read]
        ends = [] if gradients[op] else [_tensor(tensor) for tensor in graph.outputs_of(op)]
        add(
            OpRecord(
                name=f"backward {op}",
                op_type=graph.op_types[op],
                kind=OpKind(int(graph.kinds[op])),
                inputs=list(dict.fromkeys([*gradients[op], *kept, *ends])),
                outputs=outputs,
                phase=Phase.BACKWARD,
                dtype=DType(int(graph.dtypes[op])),
                flops=_BACKWARD * float(graph.flops[op]),
                bytes_read=_BACKWARD * float(graph.bytes_read[op]),
                bytes_written=_BACKWARD * float(graph.bytes_written[op]),
                workspace_bytes=int(graph.workspace_bytes[op]),
                launches=int(graph.launches[op]) * (1 if is_free else 2),
                output_shape=_shape(graph, op),
            ),
            op,
        )
    if not of_weights:
        raise GraphwrightError(f"graph {graph.name!r} has no weights to train; leave --train out")
    for owner, names in of_weights.items():
        size = float(sizes[owner])
        add(
            OpRecord(
                name=f"update {owner}",
                op_type=f"torch.optim.{optimizer}",
                kind=OpKind.OPTIMIZER_UPDATE,
                inputs=names,
                phase=Phase.UPDATE,
                bytes_read=(2 + slots) * size,
                bytes_written=(1 + slots) * size,
                resident_bytes=int(slots * size),
            ),
            owner,
        )
    mirrored = builder.build(graph.report)
    return mirrored, np.array([homes[name] for name in mirrored.op_names], np.int32)


def _forward(graph: Graph, op: int) -> OpRecord:
    outputs = []
    for tensor in graph.outputs_of(op):
        storage = Storage(int(graph.tensor_storage[tensor]))
        if storage == Storage.CONTROL:
            continue
        alias = int(graph.tensor_alias_of[tensor])
        outputs.append(
            OutputTensor(
                _tensor(tensor),
                int(graph.tensor_bytes[tensor]),
                storage,
                _tensor(alias) if storage == Storage.ALIAS else None,
            )
        )
    return OpRecord(
        name=graph.op_names[op],
        op_type=graph.op_types[op],
        kind=OpKind(int(graph.kinds[op])),
        inputs=[_tensor(tensor) for tensor in _read(graph, op)],
        outputs=outputs,
        dtype=DType(int(graph.dtypes[op])),
        flops=float(graph.flops[op]),
        bytes_read=float(graph.bytes_read[op]),
        bytes_written=float(graph.bytes_written[op]),
        resident_bytes=int(graph.resident_bytes[op]),
        workspace_bytes=int(graph.workspace_bytes[op]),
        launches=int(graph.launches[op]),
        output_shape=_shape(graph, op),
    )


def _trained(graph: Graph) -> np.ndarray:
    """Whether a gradient reaches an op: it computes numbers that depend on a weight."""
    found = np.zeros(graph.op_count, bool)
    for op in range(graph.op_count):
        if graph.dtypes[op] not in _FLOATS or graph.kinds[op] in _SOURCES:
            continue
        read = _read(graph, op)
        reads_weight = (graph.tensor_storage[read] == Storage.WEIGHT).any()
        found[op] = (
            graph.resident_bytes[op] > 0
            or reads_weight
            or found[graph.tensor_producers[read]].any()
        )
    return found


def _read(graph: Graph, op: int) -> list[int]:
    """The tensors that an op reads."""
    read = graph.inputs_of(op)
    return [int(tensor) for tensor in read[graph.tensor_storage[read] != Storage.CONTROL]]


def _tensor(index: int) -> str:
    return f"tensor {index}"


def _shape(graph: Graph, op: int) -> tuple[int, ...]:
    return tuple(int(size) for size in graph.output_shapes[op])
