"""The layer-wise human expert: contiguous layers, forward and backward of a layer together."""

import numpy as np
from jaxtyping import Float64, Int32, Int64

from graphs.kinds import OpKind, Phase
from placement.once_per_problem import once_per_problem
from placement.partition import unit_graph
from placement.problem import Problem

_CUT_SLACK = 0.25


def op_layers(problem: Problem) -> Float64[np.ndarray, " ops"]:
    """The layer of each op, counted from the input as a person would count them.

    Forward: the uses of a variable in matrix products (and the like) of one shape are one layer,
    placed at the first of them, so that the steps of an unrolled recurrent layer are one; an op
    with parameters of its own is a layer (where nothing has parameters, each depth is); other ops
    belong with the latest layer that they read. Backward: an op belongs with the variable that it
    reads, if only one layer has it, or else with the latest forward activation, or else with its
    gradients; a gradient that only a variable's update reads belongs with the variable.
    Variables, constants and what is made of them alone (initial states, random masks) belong with
    their first reader.
    """
    graph = problem.graph
    count = graph.op_count
    phases, kinds = graph.phases.tolist(), graph.kinds.tolist()
    inputs = _inputs(problem)
    root = _parameter_roots(problem, inputs)
    moving = [[i for i in sources if root[i] == _MOVING] for sources in inputs]
    variables = [
        sorted({root[i] for i in sources if root[i] >= 0}) if kinds[op] in _ANCHORS else []
        for op, sources in enumerate(inputs)
    ]
    forward = [phases[op] == Phase.FORWARD and root[op] == _MOVING for op in range(count)]

    depth = [0] * count
    first_use: dict[tuple[int, tuple[int, ...]], int] = {}
    shapes = [tuple(row) for row in graph.output_shapes.tolist()]
    for op in range(count):
        depth[op] = 1 + max((depth[i] for i in moving[op]), default=-1)
        if forward[op]:
            for variable in variables[op]:
                first_use.setdefault((variable, shapes[op]), depth[op])

    holds = (graph.resident_bytes > 0).tolist()
    if not first_use and not any(hold and data for hold, data in zip(holds, forward, strict=True)):
        holds = [True] * count
    layers = [0] * count
    used_in: dict[int, set[int]] = {}
    for op in range(count):
        if forward[op]:
            own = [first_use[variable, shapes[op]] for variable in variables[op]]
            if holds[op]:
                own.append(depth[op])
            layers[op] = max(own or [layers[i] for i in moving[op]], default=0)
            for variable in variables[op]:
                used_in.setdefault(variable, set()).add(layers[op])
        elif root[op] == _MOVING:
            uses = [used_in.get(variable, set()) for variable in variables[op]]
            own = [min(layers_of) for layers_of in uses if len(layers_of) == 1]
            activations = [layers[i] for i in moving[op] if forward[i]]
            gradients = [layers[i] for i in moving[op] if not forward[i]]
            layers[op] = max(own or activations or [min(gradients, default=0)])

    consumers, first = graph.consumers.tolist(), graph.consumer_offsets[graph.output_offsets]
    first = first.tolist()
    to_update = [phases[op] == Phase.UPDATE for op in range(count)]
    for op in range(count - 1, -1, -1):
        readers = consumers[first[op] : first[op + 1]]
        if root[op] != _MOVING:
            layers[op] = min((layers[r] for r in readers), default=layers[op])
        elif phases[op] == Phase.BACKWARD and readers and all(to_update[r] for r in readers):
            to_update[op] = kinds[op] in _GATHERING
            layers[op] = min(layers[r] for r in readers)
    _, ranks = np.unique(np.array(layers), return_inverse=True)
    return ranks.astype(np.float64)


_MOVING, _CONSTANT = -2, -1
#: Kinds whose variables make a layer; others, such as biases, may be shared by several.
_ANCHORS = frozenset(
    int(kind)
    for kind in (
        OpKind.MATMUL,
        OpKind.CONV,
        OpKind.CONV_GRAD,
        OpKind.DEPTHWISE_CONV,
        OpKind.RECURRENT,
        OpKind.ATTENTION,
        OpKind.GATHER,
        OpKind.CUSTOM,
    )
)
#: What a gradient passes through between where it is computed and the update.
_GATHERING = frozenset({int(OpKind.ACCUMULATE), int(OpKind.VIEW), int(OpKind.CAST)})


def _inputs(problem: Problem) -> list[list[int]]:
    """Producers of each op's inputs."""
    graph = problem.graph
    sources = graph.tensor_producers[graph.edge_tensors][graph.input_edges].tolist()
    offsets = graph.input_offsets.tolist()
    return [sources[offsets[op] : offsets[op + 1]] for op in range(graph.op_count)]


def _parameter_roots(problem: Problem, inputs: list[list[int]]) -> list[int]:
    """The variable that an op hands on, `_CONSTANT` for other fixed values, `_MOVING` for data.

    An op of unknown kind may look up data that is no op of the graph, so it counts as data.
    """
    kinds = problem.graph.kinds.tolist()
    fixed = {int(OpKind.CONSTANT), int(OpKind.SHAPE)}
    roots: list[int] = []
    for op, sources in enumerate(inputs):
        if kinds[op] == OpKind.VARIABLE:
            roots.append(op)
        elif kinds[op] in fixed:
            roots.append(_CONSTANT)
        elif sources and kinds[op] != OpKind.CUSTOM and all(roots[i] != _MOVING for i in sources):
            roots.append(max(roots[i] for i in sources))
        else:
            roots.append(_MOVING)
    return roots


@once_per_problem
def unit_layers(problem: Problem) -> Float64[np.ndarray, " units"]:
    """Mean layer of each unit's ops, weighted by their work; shared and read-only."""
    layers = op_layers(problem)
    weight = np.where(np.isfinite(problem.seconds), problem.seconds, 0.0).max(axis=1) + 1e-12
    total = np.bincount(problem.unit_of, weight, problem.unit_count)
    means = np.bincount(problem.unit_of, weight * layers, problem.unit_count) / total
    means.setflags(write=False)
    return means


def contiguous(
    problem: Problem,
    layers: Float64[np.ndarray, " units"],
    weights: Float64[np.ndarray, " units"],
    device_order: Int32[np.ndarray, " used"],
    shares: Float64[np.ndarray, " used"],
) -> Int32[np.ndarray, " ops"]:
    """Cut the units, sorted by layer, into runs whose weights have about the given shares.

    As a person would, each cut moves to where the least is sent, by at most a quarter of the
    shares beside it.
    """
    order = np.argsort(layers, kind="stable")
    done = np.cumsum(weights[order]) / max(float(weights.sum()), 1e-300)
    shares = shares / shares.sum()
    traffic = _traffic_at_cuts(problem, order)
    cuts = [0]
    for number, limit in enumerate(np.cumsum(shares)[:-1].tolist()):
        slack = _CUT_SLACK * min(shares[number], shares[number + 1])
        first = max(int(np.searchsorted(done, limit - slack)) + 1, cuts[-1])
        last = max(int(np.searchsorted(done, limit + slack)) + 1, first + 1)
        nearby = traffic[first : min(last, len(traffic))]
        cuts.append(first + int(nearby.argmin()) if nearby.size else len(order))
    part = np.searchsorted(np.array(cuts[1:]), np.arange(len(order)), side="right")
    unit_device = np.empty(problem.unit_count, np.int32)
    unit_device[order] = device_order[part]
    return _legal(problem, unit_device)[problem.unit_of]


def _traffic_at_cuts(
    problem: Problem, order: Int64[np.ndarray, " units"]
) -> Float64[np.ndarray, " cuts"]:
    """Seconds of transfers if the sorted units are cut before position k, for each k."""
    units = unit_graph(problem)
    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order))
    owners = position[np.repeat(np.arange(len(order)), np.diff(units.offsets))]
    others = position[units.neighbours]
    forth = owners < others
    steps = np.zeros(len(order) + 1)
    np.add.at(steps, owners[forth] + 1, units.traffic_seconds[forth])
    np.add.at(steps, others[forth] + 1, -units.traffic_seconds[forth])
    return np.cumsum(steps)


def _legal(
    problem: Problem, unit_device: Int32[np.ndarray, " units"]
) -> Int32[np.ndarray, " units"]:
    """Move units off devices that may not run them, to the nearest number that may."""
    units = np.arange(problem.unit_count)
    distance = np.abs(np.arange(problem.cluster.device_count) - unit_device[:, None])
    nearest = np.where(problem.unit_allowed, distance, 1 << 30).argmin(axis=1)
    return np.where(problem.unit_allowed[units, unit_device], unit_device, nearest).astype(np.int32)
