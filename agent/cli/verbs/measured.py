"""The hardware in the loop of a command: candidates run on this machine, the fastest is kept."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.cli.output import print_text
from graphs.errors import GraphwrightError
from graphs.file_presence import is_file

if TYPE_CHECKING:
    from placement.place import Placement
    from placement.placer import Candidate
    from placement.runtime.measured_search import MeasuredSearch

#: What candidates are run by.
_RUNTIME = "ort"
#: Plans of heuristics that are measured before the climb begins.
_HEURISTICS = 6


@dataclass(frozen=True)
class Measured:
    """The placement with the plan that was fastest as measured, and what measuring found."""

    placement: "Placement"
    search: "MeasuredSearch"
    reference_seconds: float

    def summary(self) -> dict[str, Any]:
        """Plain values; ratios are to the portfolio's best plan, measured in the same turns."""
        return {
            "measured_seconds": self.search.ratio * self.reference_seconds,
            "measured_over_portfolio": self.search.ratio,
            "measured_over_portfolio_before": self.search.started_from,
            "plans_measured": self.search.measured,
        }


def measure_candidates(
    placement: "Placement",
    reference: "Candidate",
    candidates: "Sequence[Candidate]",
    model: Path,
    dims: dict[str, int],
    seed: int,
    cache: Path | None = None,
) -> Measured:
    """Run candidates on this machine, climb from the fastest, and put it into the placement.

    Raises:
        GraphwrightError: no model file, a cluster that is not of this machine or not calibrated.
    """
    from agent.runs.measurement_cache import DiskCache, default_folder
    from placement.placer import Candidate
    from placement.runtime.fingerprint import machine_fingerprint
    from placement.runtime.hardware_evaluator import HardwareEvaluator
    from placement.runtime.measured_search import (
        MeasuredSearchConfig,
        measured_search,
        promising,
    )
    from placement.runtime.registry import get_runtime, open_runtime

    problem = placement.problem
    calibration = problem.given_cluster.calibration
    wanted = get_runtime(_RUNTIME).source_format
    if not is_file(model) or problem.graph.report.source_format != wanted:
        raise GraphwrightError(f"{model}: only an ONNX file can be run; bundled graphs cannot")
    if calibration is None or calibration.machine != machine_fingerprint():
        raise GraphwrightError(
            f"cluster {problem.given_cluster.name!r} was not calibrated on this machine; "
            "`graphwright calibrate MODEL --out FOLDER` makes a cluster to measure on"
        )
    with open_runtime(
        _RUNTIME, model, problem.graph, problem.cluster, dims=dims, costs=problem.costs, seed=seed
    ) as runtime:
        evaluator = HardwareEvaluator.of(
            runtime, reference.plan, DiskCache(cache or default_folder())
        )
        starts = [reference.plan, *(item.plan for item in candidates)]
        starts += promising(problem, evaluator, _HEURISTICS, seed)
        search = measured_search(problem, evaluator, starts, MeasuredSearchConfig(seed=seed))
        seconds = evaluator.reference_seconds()
    trace = problem.simulator.trace(search.plan)
    best = Candidate(search.plan, trace.evaluation, "measured")
    kept = replace(placement, placed=replace(placement.placed, best=best), trace=trace)
    return Measured(kept, search, seconds)


def show_measured(found: Measured) -> None:
    """Two lines for people."""
    from simulator.units import format_seconds

    search = found.search
    step = format_seconds(search.ratio * found.reference_seconds)
    print_text(
        f"measured: {step}, {search.ratio:.3f} x the portfolio's plan in the same turns "
        f"({search.started_from:.3f} before climbing), {search.measured} plans run"
    )
