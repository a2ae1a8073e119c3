"""Stages on several devices that take turns: data parallel inside of a pipeline.

Each of r replicas takes every r-th step, so that the stage is r times as fast, and holds all of its
weights; gradients of replicas are added up over a ring once for all micro-batches (Narayanan et
al., PipeDream, SOSP 2019, section 3.1; Tarnawski et al., NeurIPS 2020, section 6).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int32

from placement.throughput.chain_split import ChainSplit, split_order
from placement.throughput.load_problem import LoadProblem


@dataclass(frozen=True)
class ReplicatedStage:
    """Consecutive ops of a linear order, on one device or more."""

    device_names: tuple[str, ...]
    """A replica on each."""
    op_count: int
    first_op: str
    """The first in the graph's order, as `last_op` is the last."""
    last_op: str
    compute_seconds: float
    """Of a step on one of the replicas."""
    held_bytes: float
    """On each replica."""

    def as_dict(self) -> Mapping[str, Any]:
        return {
            "devices": list(self.device_names),
            "replicas": len(self.device_names),
            "ops": self.op_count,
            "first_op": self.first_op,
            "last_op": self.last_op,
            "compute_seconds": self.compute_seconds,
            "memory_bytes": round(self.held_bytes),
        }


@dataclass(frozen=True, eq=False)
class ReplicatedSplit:
    """An estimate by loads, of a pipeline whose stages may have several devices.

    No plan says this, for a plan has one device for each op, and the event engine has not seen it.
    Tensors count as if they came from the stage before.
    """

    period_seconds: float
    stages: tuple[ReplicatedStage, ...]
    op_stages: Int32[np.ndarray, " ops"]
    """The stage of each op."""

    @property
    def replicates(self) -> bool:
        """Whether any stage has more than one device."""
        return any(len(stage.device_names) > 1 for stage in self.stages)

    def as_dict(self) -> Mapping[str, Any]:
        """Plain values, as `--json` prints them."""
        return {
            "period_seconds": self.period_seconds,
            "estimated_by": "loads",
            "stages": [stage.as_dict() for stage in self.stages],
        }


def replicated_split(
    loads: LoadProblem, positions: Int32[np.ndarray, " units"]
) -> ReplicatedSplit | None:
    """The best cut of a linear order into stages of any number of alike devices; None where
    nothing fits in memory."""
    found = split_order(loads, positions, most_replicas=loads.device_count)
    return None if found is None else _described(loads, found)


def _described(loads: LoadProblem, split: ChainSplit) -> ReplicatedSplit:
    problem, chain = loads.problem, split.chain
    of_piece = np.zeros(chain.count, np.int32)
    for number, stage in enumerate(split.stages):
        of_piece[stage.first : stage.end] = number
    op_stages = of_piece[chain.piece_of][problem.unit_of]
    names = problem.cluster.device_names
    described = []
    for number, stage in enumerate(split.stages):
        ops = np.flatnonzero(op_stages == number)
        seconds = chain.seconds_before[[stage.first, stage.end], stage.devices[0]]
        reads = slice(chain.weight_offsets[stage.first], chain.weight_offsets[stage.end])
        shared = chain.weight_bytes[np.unique(chain.weights[reads])].sum()
        held = chain.bytes_before[stage.end] - chain.bytes_before[stage.first] + shared
        described.append(
            ReplicatedStage(
                tuple(names[device] for device in stage.devices),
                len(ops),
                problem.graph.op_names[ops[0]],
                problem.graph.op_names[ops[-1]],
                float(seconds[1] - seconds[0]),
                float(held),
            )
        )
    return ReplicatedSplit(split.seconds, tuple(described), op_stages)
