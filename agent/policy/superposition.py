"""One network for many graphs: every layer's input is gated by the graph at hand."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class Gate(nn.Module):
    """`g(c(x0) * x)` of Zhou et al. (arXiv 2010.12438, section 3.4): scales what enters a layer.

    The scale lies between 0 and 2 and begins as 1, so that an untrained gate changes nothing.
    """

    def __init__(self, width: int, enabled: bool) -> None:
        super().__init__()
        self.scale = nn.Linear(width, width) if enabled else None
        if self.scale is not None:
            nn.init.zeros_(self.scale.weight)
            nn.init.zeros_(self.scale.bias)

    def forward(
        self,
        values: Float[Tensor, "ops width"],
        context: Float[Tensor, "graphs width"],
        graph_of: Int[Tensor, " ops"],
    ) -> Float[Tensor, "ops width"]:
        """Gate the ops of each graph by that graph's context."""
        if self.scale is None:
            return values
        return values * (2 * torch.sigmoid(self.scale(context)))[graph_of]
