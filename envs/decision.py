"""From what an agent decides for each op to a plan."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import Float64, Int32

from envs.tasks import LEVELS, NEUTRAL_LEVEL, Task
from placement.priorities import upward_ranks
from placement.problem import Problem
from simulator.fusion import greedy_groups
from simulator.plan import Plan

#: Fusions of each problem by what decides them: bytes of its devices and of its levels.
_FUSED: WeakKeyDictionary[Problem, OrderedDict[tuple[bytes, bytes], np.ndarray]] = (
    WeakKeyDictionary()
)
_FUSIONS_KEPT = 16

#: The field of a `Decision` that holds the choices of each task.
FIELDS: Mapping[Task, str] = {
    Task.PLACEMENT: "devices",
    Task.SCHEDULING: "schedule",
    Task.FUSION: "fusion",
}


@dataclass(frozen=True, eq=False)
class Decision:
    """One choice per op for each task that is decided; the others stay as in a base plan."""

    devices: Int32[np.ndarray, " ops"] | None = None
    """Device index. The first op of a unit decides for the whole unit."""
    schedule: Int32[np.ndarray, " ops"] | None = None
    """Level from 0 to `LEVELS - 1`: how far to run before (higher) or after (lower) what
    critical-path priority says; `NEUTRAL_LEVEL` is as it says."""
    fusion: Int32[np.ndarray, " ops"] | None = None
    """Level from 0 (not fused into its consumer) to `LEVELS - 1` (fused before all others)."""

    @staticmethod
    def of(choices: Mapping[Task, Int32[np.ndarray, " ops"]]) -> "Decision":
        """The decision with these choices by task."""
        return Decision(**{FIELDS[task]: values for task, values in choices.items()})

    @property
    def by_task(self) -> dict[Task, Int32[np.ndarray, " ops"]]:
        """The choices of each task that is decided."""
        choices = {task: getattr(self, name) for task, name in FIELDS.items()}
        return {task: values for task, values in choices.items() if values is not None}


def plan_of(problem: Problem, decision: Decision, base: Plan) -> Plan:
    """The plan that a decision stands for.

    Devices that differ within a unit are overruled by the unit's first op. Undecided devices and
    fusion come from `base`; undecided priorities are critical-path priorities of the devices,
    unless neither devices nor schedule are decided. Fusion groups that new devices tear apart
    are dropped.
    """
    devices = base.devices
    if decision.devices is not None:
        devices = decision.devices[first_of_units(problem)][problem.unit_of].astype(np.int32)
    priorities = base.priorities
    if decision.schedule is not None:
        priorities = priorities_of(problem, devices, decision.schedule)
    elif decision.devices is not None:
        priorities = upward_ranks(problem, devices)
    if decision.fusion is not None:
        fusion = fusion_of(problem, devices, decision.fusion)
    elif decision.devices is not None and base.is_fused:
        fusion = _untorn(base.fusion, devices)
    else:
        fusion = base.fusion
    return Plan.of(devices, priorities, fusion)


def first_of_units(problem: Problem) -> Int32[np.ndarray, " units"]:
    """The lowest op of each unit."""
    return problem.first_of_unit


def priorities_of(
    problem: Problem, devices: Int32[np.ndarray, " ops"], levels: Int32[np.ndarray, " ops"]
) -> Float64[np.ndarray, " ops"]:
    """Critical-path priority as a share of the critical path, moved by up to one in 20 steps.

    A shift of one puts the last op before the first, so that any order can be expressed.
    """
    ranks = upward_ranks(problem, devices)
    shift = (levels - NEUTRAL_LEVEL) / (LEVELS - 1 - NEUTRAL_LEVEL)
    return ranks / max(float(ranks.max()), 1e-300) + shift


def fusion_of(
    problem: Problem, devices: Int32[np.ndarray, " ops"], levels: Int32[np.ndarray, " ops"]
) -> Int32[np.ndarray, " ops"]:
    """Groups by level, highest first; among equals consumers first, as XLA walks.

    The last ones of each problem are kept, for many plans of a step fuse alike.
    """
    known = _FUSED.setdefault(problem, OrderedDict())
    key = (devices.tobytes(), levels.tobytes())
    if key not in known:
        ops = problem.graph.op_count
        known[key] = greedy_groups(
            problem.graph,
            np.where(levels > 0, levels + np.arange(1.0, ops + 1) / (ops + 1), 0.0),
            np.ascontiguousarray(devices),
        )
    known.move_to_end(key)
    while len(known) > _FUSIONS_KEPT:
        known.popitem(last=False)
    return known[key].copy()


def _untorn(
    fusion: Int32[np.ndarray, " ops"], devices: Int32[np.ndarray, " ops"]
) -> Int32[np.ndarray, " ops"]:
    members = np.flatnonzero(fusion >= 0)
    root = np.zeros(int(fusion.max()) + 1, np.int32)
    root[fusion[members]] = devices[members]
    torn = np.zeros(len(root), bool)
    torn[fusion[members[devices[members] != root[fusion[members]]]]] = True
    return np.where((fusion >= 0) & ~torn[fusion], fusion, -1).astype(np.int32)
