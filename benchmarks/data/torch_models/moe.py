"""A mixture of experts with static shapes: each expert takes its best-scored tokens.

The sizes are those of Granite 3.0 1B A400M: 24 layers, 32 experts, 8 of them for each token. Its
dispatch takes as many tokens per expert as come; here an expert has a capacity, and tokens above
it are dropped, as in the Switch Transformer.
"""

import torch
from torch import Tensor, nn

from benchmarks.data.torch_models.llama import GatedFeed, Llama, LlamaConfig


class Experts(nn.Module):
    """Routes each token to `chosen` of `count` experts of `capacity` tokens each."""

    def __init__(
        self, width: int, feed_width: int, *, count: int, chosen: int, capacity: int
    ) -> None:
        super().__init__()
        self.chosen, self.capacity = chosen, capacity
        self.router = nn.Linear(width, count, bias=False)
        self.experts = nn.ModuleList(GatedFeed(width, feed_width) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(0, 1)  # [tokens, width]
        best, index = self.router(tokens).topk(self.chosen, dim=-1)
        scores = torch.zeros(tokens.shape[0], len(self.experts), dtype=x.dtype)
        gates = scores.scatter(1, index, best.softmax(-1))  # [tokens, experts]
        rows, results = [], []
        for gate, expert in zip(gates.unbind(1), self.experts, strict=True):
            score, taken = gate.topk(self.capacity)
            rows.append(taken)
            results.append(expert(tokens[taken]) * score[:, None])
        mixed = torch.zeros_like(tokens).index_put(
            (torch.cat(rows),), torch.cat(results), accumulate=True
        )
        return mixed.view_as(x)


def granite_moe(tokens: int) -> Llama:
    """The model for `tokens` tokens in a batch; an expert's capacity is 1.25 times its share."""
    config = LlamaConfig(
        vocabulary=49_155, width=1024, layers=24, heads=16, key_value_heads=8, rotation_base=1e4
    )
    experts, chosen = 32, 8
    capacity = tokens * chosen * 5 // (experts * 4)
    return Llama(
        config, lambda: Experts(1024, 512, count=experts, chosen=chosen, capacity=capacity)
    )
