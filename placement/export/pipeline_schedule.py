"""Which of torch's schedules a pipeline runs by, and with how many micro-batches: as simulated."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int32

from graphs.graph import Graph
from graphs.kinds import Phase
from placement.export.errors import ExportError
from placement.export.mirrored_backward import mirrored_training
from placement.export.request import ExportRequest
from simulator.clusters.cluster import Cluster
from simulator.costs.cost_model import CostModel
from simulator.costs.registry import default_costs
from simulator.errors import PlanError
from simulator.plan import Plan
from simulator.simulator import Simulator
from simulator.steps import StepOrder, StepSchedule, StepsEvaluation
from simulator.units import format_bytes

#: torch's classes for the orders that are simulated.
SCHEDULES: Mapping[StepOrder, str] = {
    StepOrder.GPIPE: "ScheduleGPipe",
    StepOrder.ONE_F_ONE_B: "Schedule1F1B",
}
_MICRO_BATCHES = 8
#: Of orders that are as fast, up to what a simulation can tell, the one that takes less memory.
_ALIKE = 1.01


@dataclass(frozen=True)
class MiniBatch:
    """A mini-batch of a model in stages: what runs, and how often."""

    graph: Graph
    """Of one micro-batch."""
    op_of: Int32[np.ndarray, " ops"]
    """For each op of it the op of the planned graph that it goes with."""
    cluster: Cluster
    costs: CostModel | None
    micro_batches: int

    @staticmethod
    def of(request: ExportRequest, micro_batches: int) -> "MiniBatch":
        """What is run of a request's model: as it was planned, or as a training step.

        Raises:
            GraphwrightError: an unknown optimizer, or nothing to train.
        """
        graph, op_of = request.graph, np.arange(request.graph.op_count, dtype=np.int32)
        if request.train is not None and not graph.phases.any():
            graph, op_of = mirrored_training(graph, request.train)
        return MiniBatch(graph, op_of, request.cluster, request.costs, micro_batches)

    @property
    def is_training(self) -> bool:
        return bool((self.graph.phases != Phase.FORWARD).any())

    @cached_property
    def simulator(self) -> Simulator:
        costs = self.costs or default_costs(self.graph, self.cluster)
        return Simulator(self.graph, self.cluster, costs)

    def run(
        self, devices: Int32[np.ndarray, " planned"], order: StepOrder, micro_batches: int
    ) -> StepsEvaluation | None:
        """Simulate the stages; None where they cannot run in that order.

        Args:
            devices: of the planned ops.
            order: of the micro-batches.
            micro_batches: how many.
        """
        plan = Plan.of(devices[self.op_of])
        schedule = StepSchedule(micro_batches, micro_batches, order)
        try:
            return self.simulator.evaluate_steps(plan, schedule)
        except PlanError:
            return None

    def orders(self, stages: int) -> tuple[StepOrder, ...]:
        """What torch runs so many micro-batches by; 1F1B needs one for each stage."""
        has_both = self.is_training and self.micro_batches >= stages
        return (StepOrder.GPIPE, StepOrder.ONE_F_ONE_B) if has_both else (StepOrder.GPIPE,)

    def fastest(self, devices: Int32[np.ndarray, " planned"], stages: int) -> "Choice":
        """The faster order of those that fit in memory; if they are as fast, the smaller.

        Raises:
            ExportError: none fits; the message says how many micro-batches would.
        """
        found = {order: self.run(devices, order, self.micro_batches)
                 for order in self.orders(stages)}  # fmt: skip
        runs = {order: result for order, result in found.items() if result is not None}
        fitting = [order for order, result in runs.items() if result.feasible]
        if not fitting:
            raise self._refusal(devices, stages, runs)
        least = min(runs[order].makespan_seconds for order in fitting)
        alike = [order for order in fitting if runs[order].makespan_seconds <= _ALIKE * least]
        return Choice(min(alike, key=lambda order: _peak(runs[order])), runs)

    def _refusal(
        self,
        devices: Int32[np.ndarray, " planned"],
        stages: int,
        runs: Mapping[StepOrder, StepsEvaluation],
    ) -> ExportError:
        if not runs:
            return ExportError("the stages wait for each other: the plan's backward ops are not "
                               "where their forward ops are; place again")  # fmt: skip

        def fits(count: int) -> bool:
            return any(
                result is not None and result.feasible
                for order in self.orders(stages)
                if order == StepOrder.GPIPE or count >= stages
                if (result := self.run(devices, order, count))
            )

        failure = min(runs.values(), key=_peak).failure
        most = _most(fits, self.micro_batches)
        remedy = (
            f"{most} fit: give --micro-batches {most}, or a smaller micro-batch"
            if most
            else "not even one fits: place again, on more devices or with a smaller micro-batch"
        )
        return ExportError(f"{self.micro_batches} micro-batches do not fit: {failure}; {remedy}")


@dataclass(frozen=True)
class Choice:
    """The order to run in, and what the orders come to."""

    order: StepOrder
    runs: Mapping[StepOrder, StepsEvaluation]

    @property
    def best(self) -> StepsEvaluation:
        return self.runs[self.order]

    def as_dict(self) -> Mapping[str, Any]:
        """Plain values, as the manifest has them."""
        return {
            "seconds": self.best.makespan_seconds,
            "period_seconds": self.best.period_seconds,
            "bubble": self.best.bubble,
            "schedules": {
                SCHEDULES[order]: {
                    "seconds": run.makespan_seconds,
                    "bubble": run.bubble,
                    "largest_peak": format_bytes(_peak(run)),
                    "fits": run.feasible,
                }
                for order, run in self.runs.items()
            },
        }


def micro_batch_count(request: ExportRequest, stages: int, samples: int | None) -> int:
    """How many micro-batches make a mini-batch.

    Args:
        request: says how many, or how many samples a mini-batch has, or neither.
        stages: of the pipeline.
        samples: of the micro-batch that was planned; None where that is not known.

    Raises:
        ExportError: the samples do not divide, or not into micro-batches of the planned size.
    """
    count, batch = request.micro_batches, request.batch
    if (count is not None and count < 1) or (batch is not None and batch < 1):
        raise ExportError("a mini-batch has at least one sample and one micro-batch")
    if batch is None:
        return count or max(_MICRO_BATCHES, 2 * stages)
    if count is not None and batch % count:
        near = [next((n for n in range(count, 0, -1) if batch % n == 0), 1),
                next((n for n in range(count, batch + 1) if batch % n == 0), batch)]  # fmt: skip
        take = " or ".join(map(str, dict.fromkeys(near)))
        raise ExportError(f"{batch} samples do not divide into {count} micro-batches: take {take}")
    if samples is None:
        return count or next(n for n in range(_MICRO_BATCHES, 0, -1) if batch % n == 0)
    if batch % samples or (count is not None and count * samples != batch):
        remedy = f"take --micro-batches {batch // samples}, or " if batch % samples == 0 else ""
        raise ExportError(
            f"the planned graph is a micro-batch of {samples} samples, which {batch} samples "
            + (f"in {count} micro-batches are not" if count else "are no multiple of")
            + f": {remedy}place the model again with another size (--dim)"
        )
    return batch // samples


def _most(fits: Callable[[int], bool], above: int) -> int:
    """The largest count below `above` that fits; 0 where none does. More never take less."""
    low, high = 0, above
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _peak(run: StepsEvaluation) -> int:
    return max(run.peak_bytes)
