"""Scores plans by running the promising ones: candidates are simulated, the best few measured."""

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

from graphs.graph import Graph
from placement.runtime.comparison import ratio
from placement.runtime.fingerprint import machine_fingerprint
from placement.runtime.measurement import Measurement
from placement.runtime.programs.predictor import predictor_of
from placement.runtime.samples import Sampling
from simulator.errors import ClusterError
from simulator.evaluation import BatchEvaluation, Evaluation, Evaluator
from simulator.plan import Plan
from simulator.simulator import Simulator
from simulator.traces.trace import Trace

#: Digests of the graph, of the reference plan and of the plan; the machine, by runtime and
#: fingerprint.
MeasurementKey = tuple[str, str, str, str]


@dataclass(frozen=True)
class MeasuredRatio:
    """Step time over the reference plan's, measured in the same turns; infinite if it failed."""

    ratio: float
    failure: str | None = None


MeasurementCache = MutableMapping[MeasurementKey, MeasuredRatio]


@runtime_checkable
class PlanMeter(Protocol):
    """What is asked of a runtime here."""

    @property
    def kind(self) -> str:
        """Its name among the runtimes (`placement.runtime.registry`)."""
        ...

    @property
    def simulator(self) -> Simulator:
        """For the same graph and cluster."""
        ...

    def measure(self, plans: Sequence[Plan], sampling: Sampling | None = None) -> list[Measurement]:
        """Measure plans in turns."""
        ...


@dataclass
class HardwareEvaluator:
    """What environments and searches ask for scores, on a cluster that was calibrated.

    All plans are simulated. Of each batch those predicted to be fastest are measured, in turns with
    a reference plan; a measurement is kept as its quotient to the reference, which outlives a
    machine that becomes busier, and the process if `cache` is one on disk. Seconds are that
    quotient times the reference's first measurement.
    Plans that were only simulated get the prediction, corrected by the reference's own error.
    """

    runtime: PlanMeter
    reference: Plan
    predictor: Evaluator
    simulator: Simulator
    measured_per_batch: int = 2
    sampling: Sampling = Sampling(rounds=5)
    cache: MeasurementCache = field(default_factory=dict)
    machine: str = field(default_factory=machine_fingerprint)
    _reference_seconds: float | None = None

    @staticmethod
    def of(
        runtime: PlanMeter, reference: Plan, cache: MeasurementCache | None = None
    ) -> "HardwareEvaluator":
        """An evaluator for a runtime on a calibrated cluster.

        Raises:
            ClusterError: the cluster was never calibrated.
        """
        simulator = runtime.simulator
        if simulator.cluster.calibration is None:
            raise ClusterError(
                f"cluster {simulator.cluster.name!r} was not calibrated, so that nothing tells "
                "which plans are worth measuring; `graphwright calibrate` makes one that is"
            )
        predictor = predictor_of(simulator)
        kept: MeasurementCache = {} if cache is None else cache
        return HardwareEvaluator(runtime, reference, predictor, simulator, cache=kept)

    @property
    def graph(self) -> Graph:
        return self.simulator.graph

    def reference_seconds(self) -> float:
        """The reference plan's step time as measured; infinite if it cannot run."""
        if self._reference_seconds is None:
            self._reference_seconds = self.runtime.measure([self.reference], self.sampling)[
                0
            ].seconds
        return self._reference_seconds

    def evaluate(self, plan: Plan) -> Evaluation:
        """Measure one plan, unless it was measured before or does not fit."""
        simulated = self.simulator.evaluate(plan)
        if not simulated.feasible:
            return simulated
        self.measure([plan])
        measurement = self.cache[self._key(plan)]
        seconds = measurement.ratio * self.reference_seconds()
        return Evaluation(seconds, simulated.peak_bytes, measurement.failure, source="measured")

    def evaluate_many(self, plans: Sequence[Plan]) -> BatchEvaluation:
        """Simulate all, measure the best few."""
        evaluations = [self.predictor.evaluate(plan) for plan in plans]
        guess = np.array([item.makespan_seconds for item in evaluations])
        feasible = np.array([item.feasible for item in evaluations], bool)
        order = np.argsort(np.where(feasible, guess, np.inf), kind="stable")
        best = list(dict.fromkeys(plans[i] for i in order.tolist() if feasible[i]))
        self.measure(best[: self.measured_per_batch])
        seconds = self._corrected(guess)
        for index, plan in enumerate(plans):
            known = self.cache.get(self._key(plan))
            if known is not None and feasible[index]:
                seconds[index] = known.ratio * self.reference_seconds()
                feasible[index] = known.failure is None
        peaks = np.array([item.peak_bytes for item in evaluations], np.int64)
        return BatchEvaluation(seconds, peaks.reshape(len(plans), -1), feasible)

    def trace(self, plan: Plan) -> Trace:
        """What happens in the simulator, for features."""
        return self.simulator.trace(plan)

    def measure(self, plans: Sequence[Plan]) -> list[MeasuredRatio]:
        """Measure what is not known yet, in turns with the reference."""
        new = [plan for plan in dict.fromkeys(plans) if self._key(plan) not in self.cache]
        if new:
            base, *measurements = self.runtime.measure([self.reference, *new], self.sampling)
            for plan, item in zip(new, measurements, strict=True):
                self.cache[self._key(plan)] = _ratio(item, base)
        return [self.cache[self._key(plan)] for plan in plans]

    def _corrected(self, guess: Float64[np.ndarray, " plans"]) -> Float64[np.ndarray, " plans"]:
        own = self.predictor.evaluate(self.reference).makespan_seconds
        measured = self.reference_seconds()
        return guess * (measured / own if np.isfinite(measured) and own > 0 else 1.0)

    def _key(self, plan: Plan) -> MeasurementKey:
        machine = f"{self.runtime.kind}-{self.machine}"
        return self.graph.digest, self.reference.digest, plan.digest, machine


def _ratio(item: Measurement, base: Measurement) -> MeasuredRatio:
    if not item.ok or not base.ok:
        return MeasuredRatio(float("inf"), item.failure or f"the reference failed: {base.failure}")
    return MeasuredRatio(ratio(item, base).value)
