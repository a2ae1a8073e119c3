"""The small network that reads a move's features off the trace; run compiled, inside the search."""

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from placement.annealing.move_features import BLIND_COLUMNS, MOVE_COLUMNS
from placement.annealing.move_scorer import MoveScorer


class MoveNetwork(nn.Module):
    """Logarithm of the odds that a move improves the plan.

    Inputs are standardised by what the first rounds of training saw; columns that the policy must
    not read are multiplied by zero.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, widths: tuple[int, int], reads_trace: bool = True) -> None:
        super().__init__()
        columns = len(MOVE_COLUMNS)
        self.reads_trace = reads_trace
        self.first = nn.Linear(columns, widths[0])
        self.second = nn.Linear(widths[0], widths[1])
        self.last = nn.Linear(widths[1], 1)
        self.register_buffer("scale", torch.from_numpy(self._read()))
        self.register_buffer("shift", torch.zeros(columns))

    def forward(self, features: Float[Tensor, "moves columns"]) -> Float[Tensor, " moves"]:
        hidden = torch.relu(self.first(features * self.scale + self.shift))
        return self.last(torch.relu(self.second(hidden)))[:, 0]

    @property
    def is_standardised(self) -> bool:
        """Whether it has seen a sample, as one that was trained before has."""
        return bool((self.shift != 0).any())

    def standardise(self, features: Float32[np.ndarray, "moves columns"]) -> None:
        """Take means and deviations from a sample."""
        exact = features.astype(np.float64)  # so that the order of rows does not matter
        scale = self._read() / np.maximum(exact.std(axis=0), _LEAST_DEVIATION)
        self.scale.copy_(torch.from_numpy(scale))
        self.shift.copy_(torch.from_numpy(-exact.mean(axis=0) * scale))

    def as_scorer(self) -> MoveScorer:
        """The same in arrays for compiled search."""
        weights = (
            self.scale,
            self.shift,
            self.first.weight.T,
            self.first.bias,
            self.second.weight.T,
            self.second.bias,
            self.last.weight[0],
            self.last.bias,
        )
        widths = self.first.out_features, self.second.out_features
        return MoveScorer._make(
            [
                *(
                    np.array(value.detach().cpu().numpy(), np.float32, order="C")
                    for value in weights
                ),
                *(np.zeros(width, np.float32) for width in widths),
            ]
        )

    def _read(self) -> Float32[np.ndarray, " columns"]:
        return np.array(
            [self.reads_trace or name in BLIND_COLUMNS for name in MOVE_COLUMNS], np.float32
        )


#: Columns that hardly vary are not blown up.
_LEAST_DEVIATION = 1e-3
