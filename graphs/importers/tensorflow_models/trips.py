"""How often loops run, where it can be told: they count from one known number to another."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil

from graphs.importers.tensorflow_models.nodes import Endpoint, TensorflowNode
from graphs.importers.tensorflow_models.values import PASSES

_MAX_TRIPS = 1_000_000
_DEEPEST = 200
_ADDS = frozenset({"Add", "AddV2"})
#: Comparison to whether the counter stands left of the limit, and whether it may reach it.
_COMPARISONS = {
    "Less": (True, False), "LessEqual": (True, True),
    "Greater": (False, False), "GreaterEqual": (False, True),
}  # fmt: skip


@dataclass(frozen=True)
class Counter:
    """A loop's variable that goes from a start by steps."""

    start: int
    step: int


def trips_of(
    condition: Endpoint,
    nodes: Mapping[str, TensorflowNode],
    counter: Callable[[Endpoint], Counter | None],
    limit: Callable[[Endpoint], int | None],
) -> int | None:
    """Trips of a loop that runs while counters are below limits; None where it cannot be told.

    Args:
        condition: what decides whether it goes on.
        nodes: where the condition is computed.
        counter: a tensor of the condition as a counter, if it is one.
        limit: the value of a tensor that no trip changes, if it is known.
    """
    counts = []
    for name in _conjuncts(condition, nodes):
        node = nodes[name]
        if node.op_type not in _COMPARISONS or len(node.inputs) != 2:
            continue
        left, inclusive = _COMPARISONS[node.op_type]
        for first, second in (node.inputs, tuple(reversed(node.inputs))):
            counted, bound = counter(first), limit(second)
            if counted is None or bound is None:
                continue
            distance = bound - counted.start
            rising = left == (first == node.inputs[0])
            if counted.step == 0 or (counted.step > 0) != rising:
                continue
            counts.append(
                ceil(distance / counted.step) if not inclusive else distance // counted.step + 1
            )
    return min(max(min(counts), 0), _MAX_TRIPS) if counts else None


def _conjuncts(condition: Endpoint, nodes: Mapping[str, TensorflowNode]) -> list[str]:
    """Nodes all of which must hold for the loop to go on."""
    found: list[str] = []
    todo = [condition[0]]
    while todo and len(found) < _DEEPEST:
        node = nodes[todo.pop()]
        if node.op_type == "LogicalAnd" or node.op_type in PASSES | {"LoopCond"}:
            todo.extend(name for name, _ in node.inputs)
        else:
            found.append(node.name)
    return found


def passed(endpoint: Endpoint, nodes: Mapping[str, TensorflowNode]) -> Endpoint:
    """Where a tensor comes from, behind ops that hand it on."""
    for _ in range(_DEEPEST):
        node = nodes.get(endpoint[0])
        if node is None or node.op_type not in PASSES or not node.inputs:
            break
        endpoint = node.inputs[0]
    return endpoint


def step_of(
    update: Endpoint,
    variable: str,
    nodes: Mapping[str, TensorflowNode],
    value: Callable[[Endpoint], int | None],
) -> int | None:
    """By how much a trip moves a variable; None where it does something else with it."""
    name = passed(update, nodes)[0]
    if name == variable:
        return 0
    node = nodes.get(name)
    if node is None or len(node.inputs) != 2:
        return None
    first, second = node.inputs
    if node.op_type in _ADDS:
        for own, other in ((first, second), (second, first)):
            if passed(own, nodes)[0] == variable:
                return value(other)
    if node.op_type == "Sub" and passed(first, nodes)[0] == variable:
        step = value(second)
        return None if step is None else -step
    return None
