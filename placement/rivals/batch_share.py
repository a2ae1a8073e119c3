"""What ops take on a part of the batch."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from graphs.kinds import FREE_KINDS, Phase, Storage
from placement.problem import Problem
from simulator.plan import Plan


@dataclass(frozen=True, eq=False)
class BatchShare:
    """A training step on one device, and how it shrinks with its batch.

    Of an op's time the launches stay, and so does what it takes to read its weights; the rest is in
    proportion to the batch. Updates stay as they are.
    """

    seconds: Float64[np.ndarray, " ops"]
    fixed_seconds: Float64[np.ndarray, " ops"]
    weight_share: Float64[np.ndarray, " ops"]
    """Share of an op's bytes that are weights."""
    phases: np.ndarray
    state_bytes: int
    """Parameters, optimizer state and shared weights."""
    activation_bytes: int
    """The peak of everything else, at the full batch."""
    gradient_bytes: int

    @staticmethod
    def of(problem: Problem, device: int) -> "BatchShare":
        """The step on one device, as if its memory sufficed."""
        graph = problem.graph
        seconds = problem.simulator.seconds[:, device]
        launch = problem.cluster.devices[device].launch_seconds
        free = np.isin(graph.kinds, [int(kind) for kind in FREE_KINDS])
        fixed = np.minimum(np.where(free, 0.0, graph.launches * launch), seconds)
        fixed = np.where(graph.phases == Phase.UPDATE, seconds, fixed)
        weights = graph.resident_bytes.astype(np.float64)
        lasting = np.isin(graph.tensor_storage, (Storage.WEIGHT, Storage.RESIDENT))
        read = np.where(lasting, graph.tensor_bytes, 0)[graph.edge_tensors]
        np.add.at(weights, graph.consumers, read)
        moved = graph.bytes_read + graph.bytes_written
        state = int(graph.resident_bytes.sum())
        state += int(graph.tensor_bytes[graph.tensor_storage == Storage.WEIGHT].sum())
        peak = problem.simulator.evaluate(
            Plan.of(np.full(graph.op_count, device, np.int32))
        ).peak_bytes[device]
        sent = graph.phases[graph.tensor_producers[graph.edge_tensors]] == Phase.BACKWARD
        sent &= graph.phases[graph.consumers] == Phase.UPDATE
        gradients = np.unique(graph.edge_tensors[sent])
        return BatchShare(
            seconds=seconds,
            fixed_seconds=fixed,
            weight_share=np.where(moved > 0, np.minimum(weights / np.maximum(moved, 1.0), 1.0), 0),
            phases=graph.phases,
            state_bytes=state,
            activation_bytes=max(int(peak) - state, 0),
            gradient_bytes=int(graph.tensor_bytes[gradients].sum()),
        )

    def on(self, share: float) -> Float64[np.ndarray, " ops"]:
        """Seconds of each op on a share of the batch."""
        variable = self.seconds - self.fixed_seconds
        return self.fixed_seconds + variable * np.maximum(share, self.weight_share)
