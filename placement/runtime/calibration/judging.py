"""How far predictions are off: plans that nothing was fitted to, predicted, then measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from graphs.graph import Graph
from placement.problem import Problem
from placement.runtime.calibration.prediction_error import prediction_error
from placement.runtime.calibration.trial_plans import trial_plans
from placement.runtime.hardware_evaluator import PlanMeter
from placement.runtime.measurement import Measurement
from placement.runtime.programs.predictor import predictor_of
from placement.runtime.samples import Sampling
from simulator.clusters.calibration import PredictionError
from simulator.plan import Plan


@dataclass(frozen=True)
class CalibrationConfig:
    """How much to measure."""

    fitted_plans: int = 8
    """Per model, for the overheads."""
    judged_plans: int = 10
    """Per model, for the error."""
    rounds: int = 7
    seed: int = 0
    """Seed of plans, inputs and missing weights."""


@dataclass(frozen=True, eq=False)
class ModelFile:
    """A model to calibrate with."""

    path: Path
    graph: Graph
    dims: Mapping[str, int] = field(default_factory=dict)
    """Sizes of symbolic dimensions with which the graph was imported."""


@dataclass(frozen=True, eq=False)
class Judged:
    """Plans of one model that were not used to calibrate, predicted and measured."""

    graph: Graph
    names: tuple[str, ...]
    predicted: tuple[float, ...]
    simulated: tuple[float, ...]
    """What the event engine says, by which searches rank plans."""
    measured: tuple[Measurement, ...]
    error: PredictionError


def judge(
    runtime: PlanMeter,
    sampling: Sampling,
    config: CalibrationConfig,
    others: Mapping[str, Plan] = MappingProxyType({}),
) -> Judged:
    """Predict plans on a calibrated cluster, then measure them; `others` besides those of trial."""
    simulator = runtime.simulator
    predictor = predictor_of(simulator)
    problem = Problem(simulator.graph, simulator.cluster, given_costs=simulator.costs)
    named = trial_plans(problem, config.judged_plans, config.seed + 1000, searched=True)
    named = {**named, **others}
    plans, names = list(named.values()), tuple(named)
    predicted = tuple(predictor.evaluate(plan).makespan_seconds for plan in plans)
    simulated = tuple(simulator.evaluate(plan).makespan_seconds for plan in plans)
    measured = tuple(runtime.measure(plans, sampling))
    error = prediction_error(names, predicted, measured)
    return Judged(simulator.graph, names, predicted, simulated, measured, error)


def overall_error(judged: Sequence[Judged]) -> PredictionError:
    """The error over all models; plans of one are ranked among each other only."""
    return prediction_error(
        [f"{item.graph.name}: {name}" for item in judged for name in item.names],
        [seconds for item in judged for seconds in item.predicted],
        [value for item in judged for value in item.measured],
        [item.graph.name for item in judged for _ in item.names],
    )
