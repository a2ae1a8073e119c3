"""What a calibrated cluster adds to a prediction: the step as a program, and the known error."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulator.plan import Plan
    from simulator.simulator import Simulator


def calibrated_prediction(simulator: "Simulator", plan: "Plan") -> Mapping[str, Any]:
    """Plain values; empty where the cluster was never measured."""
    from dataclasses import asdict

    from placement.runtime.fingerprint import machine_fingerprint
    from placement.runtime.programs.predictor import predictor_of
    from simulator.costs.calibrated_costs import CalibratedCosts

    calibration = simulator.cluster.calibration
    if calibration is None:
        return {}
    costs = simulator.costs
    is_measured = isinstance(costs, CalibratedCosts) and costs.times is calibration.times
    known = calibration.error if is_measured else None
    evaluation = predictor_of(simulator).evaluate(plan)
    return {
        "program_seconds": evaluation.makespan_seconds,
        "calibrated_machine": calibration.machine,
        "is_this_machine": calibration.machine == machine_fingerprint(),
        "prediction_error": None if known is None else asdict(known),
    }


def calibrated_text(found: Mapping[str, Any]) -> str:
    """One line for people."""
    from simulator.clusters.calibration import PredictionError
    from simulator.units import format_seconds

    error = found["prediction_error"]
    known = "error unknown" if error is None else f"calibrated: {PredictionError(**error)}"
    other = "" if found["is_this_machine"] else "; calibrated on another machine"
    step = format_seconds(found["program_seconds"])
    return f"as a program of sends and receives: {step}; {known}{other}"
