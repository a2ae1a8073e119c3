"""The one global order that a device program is cut from: the simulator's schedule of the plan."""

import numpy as np
from jaxtyping import Int64

from simulator.fusion import kernel_roots
from simulator.plan import Plan
from simulator.simulator import Simulator


def program_order(simulator: Simulator, plan: Plan) -> Int64[np.ndarray, " ops"]:
    """Ops by when the simulator starts them, which follows the plan's priorities.

    Members of a fusion group stand together, in the graph's order.

    Raises:
        PlanError: the plan does not fit the graph and cluster, or an op cannot run where it is.
    """
    graph = simulator.graph
    trace = simulator.trace(plan)
    roots = kernel_roots(graph, plan.fusion)
    _, kernels = np.unique(roots, return_inverse=True)
    start = trace.start[kernels]
    return np.lexsort((np.arange(graph.op_count), roots, start)).astype(np.int64)
