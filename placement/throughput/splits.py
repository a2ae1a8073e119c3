"""Splits: ways to cut a model, by name, with what their loads come to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int32

from placement.priorities import upward_ranks
from placement.problem import Problem
from placement.simplicity import complexity_of, known_error
from placement.throughput.load_problem import LoadProblem
from placement.throughput.loads import fits, held_bytes, resource_loads
from placement.throughput.request import Transfers
from simulator.plan import Plan
from simulator.steps import StepsEvaluation

#: At each border a runtime that goes through the host fuses less than in the whole model, which no
#: load tells: 23 parts of a transformer that were to be 8% faster than two ran a third slower on
#: two cores (`benchmarks/speed/split_stream.py`). Splits that differ by less are taken for alike.
_BORDERS_COST = 0.1


@dataclass(frozen=True, eq=False)
class Split:
    """One way to cut a model."""

    name: str
    devices: Int32[np.ndarray, " ops"]
    period_seconds: float
    """Between the ends of successive steps, once the pipeline is full: the largest load, or what
    the event engine says where it was asked."""
    loads_seconds: Float64[np.ndarray, " devices"]
    fits: bool
    """Whether it fits in memory: by an estimate, or by the event engine where it was asked."""
    held_bytes: Float64[np.ndarray, " devices"] | None = None
    """The estimate of `held_memory`."""
    channel_seconds: float = 0.0
    """The largest load of any channel."""
    priorities: Float64[np.ndarray, " ops"] | None = None
    """In which ops of a step run; None: by upward ranks on these devices."""
    simulated: StepsEvaluation | None = None
    """Steps that overlap in the event engine, with as many in flight as fit."""

    @property
    def load_seconds(self) -> float:
        """The largest load of any device or channel: no order of steps has a shorter period."""
        return max(float(self.loads_seconds.max()), self.channel_seconds)

    @property
    def excess_bytes(self) -> float:
        """Memory over capacity, over all devices, of steps that were simulated."""
        return 0.0 if self.simulated is None else float(self.simulated.excess_bytes)

    @property
    def device_count(self) -> int:
        """Devices that hold any op."""
        return len(np.unique(self.devices))


def split_of(
    loads: LoadProblem,
    name: str,
    units: Int32[np.ndarray, " units"],
    priorities: Float64[np.ndarray, " ops"] | None = None,
) -> Split:
    """A placement of units as a split, judged by its loads."""
    busy = resource_loads(loads, units)
    return Split(
        name,
        units[loads.problem.unit_of],
        float(busy.max()),
        busy[: loads.device_count],
        fits(loads, units),
        held_bytes(loads, units),
        float(busy[loads.device_count :].max(initial=0.0)),
        priorities,
    )


def simplest_of(problem: Problem, splits: Sequence[Split], transfers: Transfers) -> Split:
    """Of the splits whose periods are about the shortest, the one with the fewest crossings.

    Periods are alike within the known error of the simulator; through the host, within a tenth.
    """
    error = known_error(problem.given_cluster)
    if transfers == Transfers.HOPS:
        error = max(error, _BORDERS_COST)
    alike = min(split.period_seconds for split in splits) * (1.0 + error)

    def key(split: Split) -> tuple[int, float]:
        return complexity_of(problem.graph, split.devices).crossings, split.period_seconds

    return min((split for split in splits if split.period_seconds <= alike), key=key)


def pipeline_plan(problem: Problem, split: Split) -> Plan:
    """The split as a plan, in critical-path order."""
    given = split.priorities
    return Plan.of(split.devices, upward_ranks(problem, split.devices) if given is None else given)


def stages_of(problem: Problem, split: Split) -> list[Mapping[str, Any]]:
    """Plain values for each device that holds ops, in the order in which a step comes to them."""
    places = np.arange(len(split.devices))
    used = np.unique(split.devices)
    middle = [float(np.median(places[split.devices == device])) for device in used]
    names = problem.cluster.device_names
    return [
        {
            "device": names[device],
            "ops": int((split.devices == device).sum()),
            "load_seconds": float(split.loads_seconds[device]),
            "memory_bytes": _memory(split, int(device)),
        }
        for device in used[np.argsort(middle, kind="stable")]
    ]


def _memory(split: Split, device: int) -> int | None:
    if split.simulated is not None:
        return int(split.simulated.peak_bytes[device])
    return None if split.held_bytes is None else round(float(split.held_bytes[device]))
