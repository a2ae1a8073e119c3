"""What TensorFlow does when nobody places anything."""

from collections import deque

import numpy as np
from jaxtyping import Float64, Int32

from placement.heuristics.placements import device_order
from placement.placer import Budget, Candidate, OnProgress, Placed
from placement.problem import Problem
from simulator.plan import Plan


def tensorflow_default(
    problem: Problem, budget: Budget, seed: int, on_progress: OnProgress
) -> Placed:
    """Everything on the first accelerator, first come first served, nothing fused.

    CUDA numbers the fastest accelerator first, and so does this. What it cannot run goes to the
    first device that can. The executor takes ops in the order in which they become ready. Memory
    is not looked at, as TensorFlow does not. Its rewriting of graphs (Grappler's fusion and
    constant folding) is not modelled.
    """
    devices = first_accelerator(problem)
    plan = Plan.of(devices, first_come_first_served(problem, devices))
    only = Candidate(plan, problem.evaluate(plan), "tensorflow")
    return Placed(only, (only,))


def first_accelerator(problem: Problem) -> Int32[np.ndarray, " ops"]:
    """The fastest device for all ops, another where an op's unit may or can not run there."""
    fastest = int(device_order(problem)[0])
    first = problem.unit_allowed.argmax(axis=1)
    chosen = np.where(problem.unit_allowed[:, fastest], fastest, first)
    return chosen[problem.unit_of].astype(np.int32)


def first_come_first_served(
    problem: Problem, devices: Int32[np.ndarray, " ops"]
) -> Float64[np.ndarray, " ops"]:
    """Priorities that run ops in the order in which they become ready.

    Exact where one device runs everything: an op is ready when the last of its producers ends,
    and those end in the order in which they began. With several devices it is the order as if
    they were one. Ops that take no time wait for nothing.
    """
    arrays = problem.simulator.program.arrays
    waits = np.bincount(arrays.consumers, minlength=len(devices)).tolist()
    is_free = (problem.simulator.seconds[np.arange(len(devices)), devices] == 0).tolist()
    edges = arrays.consumer_offsets[arrays.output_offsets].tolist()
    consumers = arrays.consumers.tolist()
    sources = [op for op, count in enumerate(waits) if not count]
    queue = deque(sorted(sources, key=lambda op: not is_free[op]))
    order: list[int] = []
    while queue:
        op = queue.popleft()
        order.append(op)
        for consumer in consumers[edges[op] : edges[op + 1]]:
            waits[consumer] -= 1
            if not waits[consumer]:
                (queue.appendleft if is_free[consumer] else queue.append)(consumer)
    priorities = np.empty(len(devices))
    priorities[order] = -np.arange(len(order), dtype=np.float64)
    return priorities
