"""Segment-recurrent attention over the topological order (Dai et al. 2019, as used by GDP)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import GraphNorm

from agent.policy.inputs import GraphInput
from agent.policy.superposition import Gate


class SegmentAttention(nn.Module):
    """Each segment attends to itself and to the cached states of the one before it.

    No positions are embedded: the graph network carries them. Time and memory are linear in the
    number of ops. The cache lets no gradient through.
    """

    def __init__(self, width: int, heads: int, superposition: bool) -> None:
        super().__init__()
        self.heads = heads
        self.norm = GraphNorm(width)
        self.gate = Gate(width, superposition)
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.output = nn.Linear(width, width)
        self.feed_norm = nn.LayerNorm(width)
        self.feed_gate = Gate(width, superposition)
        self.feed = nn.Sequential(
            nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)
        )

    def forward(
        self,
        ops: Float[Tensor, "ops width"],
        batch: GraphInput,
        context: Float[Tensor, "graphs width"],
    ) -> Float[Tensor, "ops width"]:
        x = self.norm(ops, batch.graph_of_op, batch.graph_count)
        x = self.gate(x, context, batch.graph_of_op)
        ops = ops + self.output(self._attend(x, batch))
        x = self.feed_gate(self.feed_norm(ops), context, batch.graph_of_op)
        return ops + self.feed(x)

    def _attend(
        self, x: Float[Tensor, "ops width"], batch: GraphInput
    ) -> Float[Tensor, "ops width"]:
        segments, size = batch.segments.shape
        real = batch.segments >= 0
        cut = x[batch.segments.clamp(min=0)] * real[:, :, None]
        cache = torch.roll(cut, 1, dims=0).detach()
        seen = torch.cat([torch.roll(real, 1, dims=0) & batch.follows[:, None], real], dim=1)
        keys, values = self.key_value(torch.cat([cache, cut], dim=1)).chunk(2, dim=2)
        attended = functional.scaled_dot_product_attention(
            self._by_head(self.query(cut)),
            self._by_head(keys),
            self._by_head(values),
            attn_mask=seen[:, None, None, :].expand(segments, 1, size, 2 * size),
        )
        flat = attended.transpose(1, 2).reshape(segments * size, -1)
        return flat[real.reshape(-1)]

    def _by_head(
        self, values: Float[Tensor, "segments ops width"]
    ) -> Float[Tensor, "segments heads ops head_width"]:
        segments, ops, width = values.shape
        return values.view(segments, ops, self.heads, width // self.heads).transpose(1, 2)
