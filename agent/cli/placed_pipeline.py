"""A plan for steps that overlap, for people, programs and files: what `place` shows and writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from agent.cli.carried_state import state_text
from agent.cli.output import print_table, print_text
from agent.cli.throughput_flags import WholeBatch

if TYPE_CHECKING:
    from placement.place import Placement
    from placement.throughput import Pipeline, Split, Throughput
    from simulator.steps import StepsEvaluation
    from simulator.traces.steps_trace import StepsTrace

#: A trace file has about so many slices at most; of large graphs it shows fewer steps, one more
#: than there are stages.
_MOST_SLICES = 100_000


@dataclass(frozen=True, eq=False)
class PlacedPipeline:
    """What throughput came to: the pipeline, and how its steps overlap in the event engine."""

    placement: "Placement"
    pipeline: "Pipeline"
    request: "Throughput"
    batch: WholeBatch | None = None
    state: Sequence[tuple[str, str]] = ()
    """Inputs that are outputs of the step before in real use, with these outputs."""

    @cached_property
    def steps(self) -> "StepsEvaluation":
        """Steps that overlap; of tensors that hop through the host only their memory counts.

        Raises:
            InfeasibleError: the steps in flight that were asked for do not fit.
        """
        if self.pipeline.best.simulated is not None:
            return self.pipeline.best.simulated
        return self._hopping_steps()

    @property
    def feasible(self) -> bool:
        return self.steps.feasible

    @property
    def in_flight(self) -> int:
        """Steps on the way at once."""
        return self.steps.schedule.most_in_flight

    @property
    def trains(self) -> bool:
        """Whether steps are micro-batches of a training step."""
        return self.request.micro_batches > 1

    def trace(self) -> "StepsTrace":
        """What happens while several steps run; of a large graph, while the pipeline fills and a
        few steps more."""
        from dataclasses import replace

        schedule, ops = self.steps.schedule, self.placement.problem.graph.op_count
        stages = self.pipeline.best.device_count
        most = max(stages + 1, _MOST_SLICES // max(ops, 1))
        shown = replace(schedule, steps=min(schedule.steps, most))
        return self.placement.problem.simulator.trace_steps(self.placement.plan, shown)

    def promises(self) -> Mapping[str, Any]:
        """What a plan file says of it."""
        return {
            "objective": "throughput",
            "period_seconds": self.pipeline.period_seconds,
            "latency_seconds": self.pipeline.latency_seconds,
            "in_flight": self.in_flight,
            "micro_batches": self.request.micro_batches,
            "feasible": self.feasible,
            "peak_bytes": self._peaks(),
        }

    def as_dict(self) -> Mapping[str, Any]:
        """Plain values, as `--json` prints them."""
        failure = self.steps.failure
        whole = {}
        if self.trains:
            whole = {
                "whole_step_seconds": self.pipeline.period_seconds * self.request.micro_batches
            }
        if self.batch is not None:
            whole |= self.batch.as_dict(self.pipeline.period_seconds)
        return {
            **self.pipeline.as_dict(),
            **self.promises(),
            "failure": None if failure is None else str(failure),
            "order": str(self.steps.schedule.order),
            "transfers": str(self.request.transfers),
            "state_between_steps": [list(pair) for pair in self.state],
            **whole,
        }

    def show(self) -> None:
        """Splits side by side, and what the best one comes to."""
        from simulator.units import format_seconds

        pipeline = self.pipeline
        splits = sorted((pipeline.best, *pipeline.others), key=lambda s: s.period_seconds)
        rows = [
            [
                f"{split.name} *" if split is pipeline.best else split.name,
                format_seconds(split.period_seconds),
                f"{1 / split.period_seconds:.4g}",
                f"{split.period_seconds / pipeline.period_seconds:.2f}",
                f"{split.period_seconds / pipeline.bound_seconds:.2f}"
                if pipeline.bound_seconds > 0
                else "",
                self._memory(split),
                str(split.simulated.schedule.most_in_flight) if split.simulated else "",
                "" if split.fits else "OOM",
                "event engine" if split.simulated else "loads",
            ]
            for split in splits
        ]
        columns = ["split", "period", "steps/s", "x best", "x bound", "fullest device"]
        print_table("steps that overlap", [*columns, "in flight", "fits", "judged by"], rows)
        print_text(
            f"throughput: a step every {format_seconds(pipeline.period_seconds)} "
            f"({1 / pipeline.period_seconds:.4g} a second), bound "
            f"{format_seconds(pipeline.bound_seconds)}; {self.in_flight} in flight, "
            f"{self.steps.schedule.order}, {format_seconds(pipeline.latency_seconds)} from the "
            "release of a step to its end (*: the fewest crossings of those about as good)"
        )
        if self.trains:
            whole = pipeline.period_seconds * self.request.micro_batches
            print_text(
                f"a step is one of {self.request.micro_batches} micro-batches: the whole training "
                f"step takes {format_seconds(whole)}"
            )
        if self.batch is not None:
            samples = self.batch.as_dict(pipeline.period_seconds)
            print_text(
                f"{samples['samples_per_second']:.4g} samples a second, "
                f"{samples['samples_per_step']} in each step"
            )
        if not self.feasible:
            print_text(f"NOT FEASIBLE with steps that overlap: {self.steps.failure}")
        if str(self.request.transfers) == "hops":
            print_text(
                "as onnx-split: a device's load is compute and its transfers over PCI Express, one "
                "after the other"
            )
        if self.state:
            print_text(state_text(self.state))

    def _peaks(self) -> Mapping[str, int]:
        names = self.placement.problem.given_cluster.device_names
        return dict(zip(names, self.steps.peak_bytes, strict=True))

    def _memory(self, split: "Split") -> str:
        from simulator.units import format_bytes

        if split.simulated is not None:
            return format_bytes(max(split.simulated.peak_bytes))
        return "" if split.held_bytes is None else f"~{format_bytes(int(split.held_bytes.max()))}"

    def _hopping_steps(self) -> "StepsEvaluation":
        from envs.overlapping import OverlapEvaluator
        from simulator.errors import InfeasibleError

        evaluator = OverlapEvaluator(self.placement.problem, self.request)
        found = evaluator.steps(self.placement.plan)
        if not found.feasible and self.request.in_flight is not None:
            raise InfeasibleError(
                f"{self.request.in_flight} steps in flight do not fit in memory "
                f"({found.failure}): ask for fewer, or take more devices or larger ones"
            )
        return found
