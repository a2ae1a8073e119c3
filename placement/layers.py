"""The layer-wise human expert: contiguous layers, forward and backward of a layer together."""

import numpy as np
from jaxtyping import Float64, Int32

from graphs.kinds import OpKind, Phase
from placement.problem import Problem


def op_layers(problem: Problem) -> Float64[np.ndarray, " ops"]:
    """The layer of each op: its depth in the forward pass, or that of what it is the gradient of.

    Backward ops belong where the deepest forward activation that they read was made; those that
    read none, and updates, belong with the gradients that they read; parameters and constants
    with their first reader.
    """
    graph = problem.graph
    phases, kinds = graph.phases.tolist(), graph.kinds.tolist()
    sources = graph.tensor_producers[graph.edge_tensors].tolist()
    order = np.argsort(graph.consumers, kind="stable")
    edge_sources = [sources[edge] for edge in order.tolist()]
    offsets = graph.input_offsets.tolist()
    stationary = {int(OpKind.VARIABLE), int(OpKind.CONSTANT), int(OpKind.SHAPE)}
    parameter_side = [False] * graph.op_count
    layers = [0.0] * graph.op_count
    for op in range(graph.op_count):
        inputs = edge_sources[offsets[op] : offsets[op + 1]]
        moving = [i for i in inputs if not parameter_side[i]]
        if not moving and (inputs or kinds[op] in stationary):
            parameter_side[op] = kinds[op] in stationary or all(parameter_side[i] for i in inputs)
        if phases[op] == Phase.FORWARD:
            layers[op] = 1 + max((layers[i] for i in moving), default=-1.0)
            continue
        forward = [layers[i] for i in moving if phases[i] == Phase.FORWARD]
        others = [layers[i] for i in moving if phases[i] != Phase.FORWARD]
        layers[op] = max(forward) if forward else min(others, default=0.0)
    consumers = graph.consumers.tolist()
    consumer_offsets = graph.consumer_offsets.tolist()
    output_offsets = graph.output_offsets.tolist()
    for op in range(graph.op_count - 1, -1, -1):
        if parameter_side[op]:
            first = consumer_offsets[output_offsets[op]]
            last = consumer_offsets[output_offsets[op + 1]]
            layers[op] = min((layers[c] for c in consumers[first:last]), default=layers[op])
    return np.array(layers)


def unit_layers(problem: Problem) -> Float64[np.ndarray, " units"]:
    """Mean layer of each unit's ops, weighted by their work."""
    layers = op_layers(problem)
    weight = np.where(np.isfinite(problem.seconds), problem.seconds, 0.0).max(axis=1) + 1e-12
    total = np.bincount(problem.unit_of, weight, problem.unit_count)
    return np.bincount(problem.unit_of, weight * layers, problem.unit_count) / total


def contiguous(
    problem: Problem,
    layers: Float64[np.ndarray, " units"],
    weights: Float64[np.ndarray, " units"],
    device_order: Int32[np.ndarray, " used"],
    shares: Float64[np.ndarray, " used"],
) -> Int32[np.ndarray, " ops"]:
    """Cut the units, sorted by layer, into runs whose weights have the given shares."""
    order = np.argsort(layers, kind="stable")
    middle = np.cumsum(weights[order]) - weights[order] / 2
    limits = np.cumsum(shares) / shares.sum() * max(float(weights.sum()), 1e-300)
    part = np.searchsorted(limits, middle, side="right")
    unit_device = np.empty(problem.unit_count, np.int32)
    unit_device[order] = device_order[np.minimum(part, len(device_order) - 1)]
    return _legal(problem, unit_device)[problem.unit_of]


def _legal(
    problem: Problem, unit_device: Int32[np.ndarray, " units"]
) -> Int32[np.ndarray, " units"]:
    """Move units off devices that may not run them, to the nearest number that may."""
    units = np.arange(problem.unit_count)
    distance = np.abs(np.arange(problem.cluster.device_count) - unit_device[:, None])
    nearest = np.where(problem.unit_allowed, distance, 1 << 30).argmin(axis=1)
    return np.where(problem.unit_allowed[units, unit_device], unit_device, nearest).astype(np.int32)
