"""What a placement of units comes to, counted from nothing: loads, memory, whether it fits."""

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64

from placement.throughput.load_problem import LoadProblem


def resource_loads(
    problem: LoadProblem, devices: Int32[np.ndarray, " units"]
) -> Float64[np.ndarray, " resources"]:
    """Seconds that each device, then each channel, is busy with a step."""
    p, count = problem.arrays, problem.device_count
    costs = p.costs
    loads = np.zeros(count + len(p.channel_seconds))
    units = np.arange(problem.unit_count)
    loads[:count] = np.bincount(devices, p.seconds[units, devices], count)
    tensors, targets = _received(problem, devices)
    homes, sizes, shares = devices[p.makers[tensors]], p.tensor_bytes[tensors], p.shares[tensors]
    way = (homes, targets)
    sent = shares * (costs.send_seconds[way] + sizes * costs.send_seconds_per_byte[way])
    taken = shares * (costs.take_seconds[way] + sizes * costs.take_seconds_per_byte[way])
    np.add.at(loads, homes, sent)
    np.add.at(loads, targets, taken)
    wire = shares * sizes * costs.wire_seconds_per_byte[way]
    for slot in range(costs.channels.shape[2]):
        channels = costs.channels[..., slot][way]
        np.add.at(loads, count + channels[channels >= 0], wire[channels >= 0])
    left = np.unique(tensors)
    homes = devices[p.makers[left]]
    out = costs.leave_seconds[homes] + p.tensor_bytes[left] * costs.leave_seconds_per_byte[homes]
    np.add.at(loads, homes, p.shares[left] * out)
    return loads


def device_loads(
    problem: LoadProblem, devices: Int32[np.ndarray, " units"]
) -> Float64[np.ndarray, " devices"]:
    """Seconds that each device is busy with a step: compute, and what transfers take of its time.

    Example:
        >>> loads = load_problem(Problem(graph, cluster), 1e12)
        >>> everything = np.zeros(loads.unit_count, np.int32)
        >>> device_loads(loads, everything)[1:].tolist() == [0.0] * (loads.device_count - 1)
        True
    """
    return resource_loads(problem, devices)[: problem.device_count]


def period_of(problem: LoadProblem, devices: Int32[np.ndarray, " units"]) -> float:
    """The largest load of any device or channel: no order of steps has a shorter period."""
    return float(resource_loads(problem, devices).max())


def held_bytes(
    problem: LoadProblem, devices: Int32[np.ndarray, " units"]
) -> Float64[np.ndarray, " devices"]:
    """Memory of each device by the estimate of `held_memory`."""
    p, count = problem.arrays, problem.device_count
    held = np.bincount(devices, p.memory_bytes, count).astype(np.float64)
    readers = np.repeat(np.arange(problem.unit_count), np.diff(p.weight_offsets))
    keys = np.unique(p.weights.astype(np.int64) * count + devices[readers])
    np.add.at(held, keys % count, p.weight_bytes[keys // count])
    tensors, targets = _received(problem, devices)
    np.add.at(held, targets, p.copy_bytes[tensors])
    return held


def fits(problem: LoadProblem, devices: Int32[np.ndarray, " units"]) -> bool:
    """Whether what the units hold fits on their devices."""
    return bool((held_bytes(problem, devices) <= problem.arrays.capacity_bytes).all())


def _received(
    problem: LoadProblem, devices: Int32[np.ndarray, " units"]
) -> tuple[Int64[np.ndarray, " crossings"], Int64[np.ndarray, " crossings"]]:
    """Tensors, and the devices that they go to; each pair once."""
    p, count = problem.arrays, problem.device_count
    tensor_of = np.repeat(np.arange(len(p.makers)), np.diff(p.reader_offsets))
    there = devices[p.readers]
    away: Bool[np.ndarray, " reads"] = there != devices[p.makers[tensor_of]]
    keys = np.unique(tensor_of[away].astype(np.int64) * count + there[away])
    return keys // count, keys % count
