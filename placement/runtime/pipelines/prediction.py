"""Predicts period and latency of overlapping steps."""

from dataclasses import dataclass

import numpy as np

from placement.runtime.pipelines.replay import StepsTimeline, replay_steps
from placement.runtime.programs.prediction import ProgramPredictor, passes
from placement.runtime.programs.predictor import predictor_of
from simulator.plan import Plan
from simulator.simulator import Simulator
from simulator.steps import StepSchedule


@dataclass(frozen=True)
class PredictedSteps:
    """What is to be expected of overlapping steps, in seconds."""

    period_seconds: float
    latency_seconds: float


def predicted_steps(simulator: Simulator, plan: Plan, schedule: StepSchedule) -> PredictedSteps:
    """The best prediction for a cluster.

    Where it was calibrated for device programs, the program on paper, a step beside the other;
    elsewhere what the event engine says.
    """
    predictor = predictor_of(simulator)
    if not isinstance(predictor, ProgramPredictor):
        return engine_steps(simulator, plan, schedule)
    found = predict_steps(predictor, plan, schedule).evaluation()
    return PredictedSteps(found.period_seconds, found.latency_seconds)


def engine_steps(simulator: Simulator, plan: Plan, schedule: StepSchedule) -> PredictedSteps:
    """What the event engine says, with the cluster's host costs, by its costs or measured ones."""
    found = simulator.evaluate_steps(plan, schedule)
    return PredictedSteps(found.period_seconds, found.latency_seconds)


def predict_steps(predictor: ProgramPredictor, plan: Plan, schedule: StepSchedule) -> StepsTimeline:
    """When each piece of each step runs.

    Kernels are slowed down by what the other devices do all the while, which is more than in a step
    by itself; how much of it there is follows from the pieces' times, so that both are found in
    turns.
    """
    program = predictor.program(plan)
    plain, slowed = predictor.seconds(program, plan)
    latency = predictor.latency_seconds
    seconds = [np.tile(values, (schedule.steps, 1)) for values in plain]
    line = replay_steps(program, seconds, schedule, latency)
    for _ in range(passes(slowed)):
        seconds = [
            base + extra * share
            for base, extra, share in zip(plain, slowed, line.overlap(), strict=True)
        ]
        line = replay_steps(program, seconds, schedule, latency)
    return line
