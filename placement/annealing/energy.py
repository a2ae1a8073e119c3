"""What a plan costs whoever compares plans: one price of its time and of memory over capacity.

Annealing, the environments, the policy's training and the ranking of candidates all order plans by
this number.
"""

import numpy as np
from jaxtyping import Int64

from simulator.compiled import inlined
from simulator.evaluation import Evaluation

#: A plan that does not fit pays this on top of the logarithm of its step time, plus the second
#: figure times the share of the cluster's memory that it is over: any plan that fits beats it.
_MISFIT = 10.0
_EXCESS_WEIGHT = 100.0

#: Shorter step times count as this long, so that an empty graph has an energy.
_LEAST_SECONDS = 1e-12


@inlined
def energy_of_excess(makespan_seconds: float, excess_bytes: int, capacity_bytes: int) -> float:
    """Logarithm of the step time, plus the price of memory over capacity.

    Args:
        makespan_seconds: step time, as if memory sufficed.
        excess_bytes: peak bytes over capacity, summed over devices.
        capacity_bytes: memory of all devices together.
    """
    energy = np.log(max(makespan_seconds, _LEAST_SECONDS))
    if excess_bytes > 0:
        energy += _MISFIT + _EXCESS_WEIGHT * excess_bytes / capacity_bytes
    return energy


@inlined
def energy_of_plan(
    makespan_seconds: float,
    peak_bytes: Int64[np.ndarray, " devices"],
    capacity_bytes: Int64[np.ndarray, " devices"],
) -> float:
    """The same from what each device holds.

    Args:
        makespan_seconds: step time, as if memory sufficed.
        peak_bytes: the most bytes in use on each device.
        capacity_bytes: memory of each device.
    """
    excess = 0
    total = 0
    for device in range(capacity_bytes.size):
        total += capacity_bytes[device]
        excess += max(0, peak_bytes[device] - capacity_bytes[device])
    return energy_of_excess(makespan_seconds, excess, total)


def energy_of_evaluation(evaluation: Evaluation) -> float:
    """The same of a plan that was scored; infinite where it failed for another reason than memory,
    which has no price.
    """
    if not evaluation.feasible and not evaluation.excess_bytes:
        return float("inf")
    return float(
        energy_of_excess(
            evaluation.makespan_seconds, evaluation.excess_bytes, evaluation.capacity_bytes
        )
    )
