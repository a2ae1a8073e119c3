"""Real graphs, perturbed: other batch and width, costs that vary by kind, branches more or less."""

import re
from collections import Counter
from dataclasses import replace
from functools import lru_cache
from random import Random

import numpy as np
from jaxtyping import Bool, Float64, Int64

from graphs.bundled_graphs import load_bundled
from graphs.graph import Graph
from graphs.kinds import OpKind, Phase, Storage

#: Bundled graphs that may be perturbed: none of the families that suites hold out.
SOURCES = (
    "transformer-xl-2", "transformer-xl-4", "resnet-50", "transformer-xl-8", "inception-v3",
    "rnnlm-2", "resnet-152", "rnnlm-4", "rnnlm-8", "gnmt-2", "gnmt-4",
)  # fmt: skip
_SOURCE_OPS = (924, 1672, 2136, 3168, 4047, 4327, 6182, 7799, 14743, 17904, 29128)
_PREFIX = re.compile(r"^(?:gradients/|train/update_)+")
_LARGEST_BRANCH = 0.08
_MOST_CHANGES = 4


def perturbed(rng: Random, target_ops: int) -> Graph:
    """A variation of one of the three real graphs whose size is closest."""
    distance = [abs(np.log(ops / target_ops)) for ops in _SOURCE_OPS]
    closest = sorted(range(len(SOURCES)), key=distance.__getitem__)[:3]
    graph = _source(SOURCES[rng.choice(closest)])
    graph = _scale(graph, rng)
    branches = _branches(graph)
    copies = np.ones(graph.op_count, np.int64)
    if branches:
        labels = np.array(_labels(graph))
        for name in rng.sample(branches, min(rng.randint(0, _MOST_CHANGES), len(branches))):
            copies[labels == name] = rng.choice((0, 2, 2, 3))
    return _copy(graph, copies)


@lru_cache(maxsize=4)
def _source(name: str) -> Graph:
    return load_bundled(name)


def _labels(graph: Graph) -> list[str]:
    """The branch of each op: the scope of its forward op, at most two levels deep."""
    labels = []
    for name in graph.op_names:
        scopes = _PREFIX.sub("", name).split("/")
        labels.append("/".join(scopes[:2]) if len(scopes) > 2 else "")
    return labels


def _branches(graph: Graph) -> list[str]:
    sizes = Counter(_labels(graph))
    largest = _LARGEST_BRANCH * graph.op_count
    return sorted(name for name, size in sizes.items() if name and 20 <= size <= largest)


def _weight_like(graph: Graph) -> Bool[np.ndarray, " tensors"]:
    """Tensors as large as a variable, whatever the batch: values and accumulated gradients."""
    like = np.isin(graph.tensor_storage, [Storage.RESIDENT, Storage.WEIGHT])
    updates = graph.kinds == OpKind.OPTIMIZER_UPDATE
    like[graph.edge_tensors[updates[graph.consumers]]] = True
    shared = np.flatnonzero(graph.tensor_alias_of >= 0)
    for tensor in shared[graph.phases[graph.tensor_producers[shared]] == Phase.FORWARD]:
        like[tensor] |= like[graph.tensor_alias_of[tensor]]
    for op in np.flatnonzero(graph.kinds == OpKind.ACCUMULATE)[::-1]:
        if like[graph.outputs_of(int(op))[0]]:
            like[graph.inputs_of(int(op))] = True
    return like


def _scale(graph: Graph, rng: Random) -> Graph:
    """Another batch, another width, and kernels that are better or worse than thought."""
    batch, width = _power(rng.uniform(-2.5, 0.5)), _power(rng.uniform(-0.7, 0.5))
    like = _weight_like(graph)
    factor = np.where(like, width**2, batch * width)
    size = np.where(graph.tensor_bytes > 64, graph.tensor_bytes * factor, graph.tensor_bytes)
    kinds = np.array([_power(rng.gauss(0, 0.2)) for _ in OpKind])[graph.kinds]
    weights_only = (graph.kinds == OpKind.OPTIMIZER_UPDATE) | (graph.phases == Phase.UPDATE)
    moved = kinds * np.where(weights_only, width**2, _mean_factor(graph, factor))
    return replace(
        graph,
        flops=graph.flops * kinds * np.where(weights_only, 1.0, batch) * width**2,
        bytes_read=graph.bytes_read * moved,
        bytes_written=graph.bytes_written * moved,
        resident_bytes=(graph.resident_bytes * width**2).astype(np.int64),
        tensor_bytes=np.ceil(size).astype(np.int64),
    )


def _power(exponent: float) -> float:
    """Two to a power, rounded so that it is the same under every mathematical library."""
    return round(2.0**exponent, 4)


def _mean_factor(
    graph: Graph, factor: Float64[np.ndarray, " tensors"]
) -> Float64[np.ndarray, " ops"]:
    """By how much the bytes that an op touches grow, as the mean over its tensors."""
    size = graph.tensor_bytes.astype(np.float64)
    old, new = np.full(graph.op_count, 1e-9), np.full(graph.op_count, 1e-9)
    for owners, tensors in (
        (graph.tensor_producers, np.arange(graph.tensor_count)),
        (graph.consumers, graph.edge_tensors),
    ):
        old += np.bincount(owners, size[tensors], graph.op_count)
        new += np.bincount(owners, (size * factor)[tensors], graph.op_count)
    return new / old


def _copy(graph: Graph, copies: Int64[np.ndarray, " ops"]) -> Graph:
    """Each op as often as `copies` says, next to the original, with its tensors.

    Copies of a branch read each other and what the original reads, and are read by whoever reads
    the original outside the branch; branches of as many copies count as one.
    """
    ops = np.repeat(np.arange(graph.op_count), copies)
    first_op = np.cumsum(copies) - copies
    number = np.arange(len(ops)) - first_op[ops]
    tensor_copies = copies[graph.tensor_producers]
    keys = [
        (int(op), int(k), tensor)
        for op, k in zip(ops, number, strict=True)
        for tensor in graph.outputs_of(int(op))
    ]
    producers = np.array([first_op[op] + k for op, k, _ in keys], np.int32)
    tensors = np.array([tensor for _, _, tensor in keys], np.int64)
    place = {(tensor, k): index for index, (_, k, tensor) in enumerate(keys)}
    pairs = set()
    for tensor, consumer in zip(graph.edge_tensors.tolist(), graph.consumers.tolist(), strict=True):
        made, read = int(tensor_copies[tensor]), int(copies[consumer])
        for source in range(made):
            for target in range(read):
                if made != read or source == target:
                    pairs.add((place[tensor, source], int(first_op[consumer]) + target))
    edges = np.array(sorted(pairs), np.int64).reshape(-1, 2)
    alias, storage = [], graph.tensor_storage[tensors].copy()
    for index, (_, k, tensor) in enumerate(keys):
        shared = int(graph.tensor_alias_of[tensor])
        copied = place.get((shared, k), place.get((shared, 0), -1)) if shared >= 0 else -1
        if shared >= 0 and copied < 0:
            storage[index] = Storage.BUFFER
        alias.append(copied)
    groups = graph.colocation[ops]
    span = int(groups.max()) + 1
    groups = np.where((groups >= 0) & (number > 0), groups + span * number, groups)
    counts = np.bincount(edges[:, 0], minlength=len(keys))
    return replace(
        graph,
        op_names=tuple(
            f"copy_{k}/{graph.op_names[op]}" if k else graph.op_names[op]
            for op, k in zip(ops.tolist(), number.tolist(), strict=True)
        ),
        op_types=tuple(graph.op_types[op] for op in ops),
        **{
            name: getattr(graph, name)[ops]
            for name in (
                "kinds", "phases", "dtypes", "flops", "bytes_read", "bytes_written",
                "resident_bytes", "workspace_bytes", "launches", "output_shapes",
            )
        },
        colocation=groups.astype(np.int32),
        tensor_producers=producers,
        tensor_bytes=graph.tensor_bytes[tensors],
        tensor_storage=storage,
        tensor_alias_of=np.array(alias, np.int32),
        consumer_offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]),
        consumers=edges[:, 1].astype(np.int32),
    )  # fmt: skip
