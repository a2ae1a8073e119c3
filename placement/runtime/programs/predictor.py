"""Who predicts measured step times on a cluster: by the runtime that it was calibrated for."""

from dataclasses import dataclass, replace

from placement.runtime.programs.prediction import ProgramPredictor
from simulator.evaluation import Evaluation, Evaluator
from simulator.plan import Plan
from simulator.simulator import Simulator


@dataclass(frozen=True, eq=False)
class StepPredictor:
    """The event engine's step time, and what a step takes beside it."""

    simulator: Simulator
    step_seconds: float

    def evaluate(self, plan: Plan) -> Evaluation:
        """See `Evaluator`."""
        evaluation = self.simulator.evaluate(plan)
        return replace(evaluation, makespan_seconds=evaluation.makespan_seconds + self.step_seconds)


def predictor_of(simulator: Simulator) -> Evaluator:
    """The best predictor for a cluster; the event engine where it is not calibrated."""
    calibration = simulator.cluster.calibration
    if calibration is None:
        return simulator
    if calibration.runtime == "tf":
        return StepPredictor(simulator, calibration.step_seconds)
    return ProgramPredictor(simulator)
