"""Which units come in the same or an earlier stage: the order of the forward pass."""

import numpy as np
from jaxtyping import Int32

from graphs.kinds import Phase
from placement.problem import Problem


def forward_order(
    problem: Problem,
) -> tuple[Int32[np.ndarray, " pairs"], Int32[np.ndarray, " pairs"]]:
    """Pairs of an earlier and a later unit, each once.

    A backward op is where its unit is. Backward ops without a forward op in their unit come in the
    reverse order of the backward pass.
    """
    graph, unit_of = problem.graph, problem.unit_of
    forward = graph.phases == Phase.FORWARD
    has_forward = np.zeros(problem.unit_count, bool)
    has_forward[unit_of[forward]] = True
    sources, targets = graph.tensor_producers[graph.edge_tensors], graph.consumers
    first, second = unit_of[sources], unit_of[targets]
    apart = first != second
    onward = apart & forward[sources] & (forward[targets] | ~has_forward[second])
    back = apart & ~forward[sources] & ~(has_forward[first] & has_forward[second])
    earlier = np.concatenate([first[onward], second[back]]).astype(np.int64)
    later = np.concatenate([second[onward], first[back]])
    keys = np.unique(earlier * problem.unit_count + later)
    return (
        (keys // problem.unit_count).astype(np.int32),
        (keys % problem.unit_count).astype(np.int32),
    )
