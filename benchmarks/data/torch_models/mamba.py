"""Mamba: layers of selective state spaces, the scan unrolled over chunks; sizes of Mamba-130m.

The published model scans with one kernel of its own, for which exporters have no op. Inside a
chunk the recurrence `h = exp(A dt) h + B x dt` is solved with cumulative sums, which are exact as
long as the sum of `A dt` over a chunk stays small enough for `exp`; the state passes from chunk
to chunk.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Mixer(nn.Module):
    """One selective state space with its gate."""

    def __init__(
        self, width: int, inner: int, state: int, rank: int, kernel: int, chunk: int
    ) -> None:
        super().__init__()
        self.state, self.rank, self.chunk = state, rank, chunk
        self.project_in = nn.Linear(width, 2 * inner, bias=False)
        self.conv = nn.Conv1d(inner, inner, kernel, groups=inner, padding=kernel - 1)
        self.select = nn.Linear(inner, rank + 2 * state, bias=False)
        self.step = nn.Linear(rank, inner)
        self.decay_log = nn.Parameter(torch.arange(1.0, state + 1).log().repeat(inner, 1))
        self.skip = nn.Parameter(torch.ones(inner))
        self.project_out = nn.Linear(inner, width, bias=False)

    def scan(self, x: Tensor, step: Tensor, enter: Tensor, leave: Tensor) -> Tensor:
        """x, step: [batch, length, inner]; enter, leave: [batch, length, state]."""
        decay = -self.decay_log.exp()
        batch, inner = x.shape[0], x.shape[2]
        held = torch.zeros(batch, 1, inner, self.state, dtype=x.dtype)
        outputs = []
        parts = (tensor.split(self.chunk, dim=1) for tensor in (x * step, step, enter, leave))
        for value, width, into, out_of in zip(*parts, strict=True):
            faded = (width[..., None] * decay).cumsum(1)  # [batch, chunk, inner, state]
            added = value[..., None] * into[:, :, None] * (-faded).exp()
            states = faded.exp() * (held + added.cumsum(1))
            held = states[:, -1:]
            outputs.append((states * out_of[:, :, None]).sum(-1))
        return torch.cat(outputs, dim=1)

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        inner, gate = self.project_in(x).chunk(2, dim=-1)
        inner = self.conv(inner.transpose(1, 2))[..., :length].transpose(1, 2)
        inner = functional.silu(inner)
        step, enter, leave = self.select(inner).split([self.rank, self.state, self.state], -1)
        step = functional.softplus(self.step(step))
        y = self.scan(inner, step, enter, leave) + inner * self.skip
        return self.project_out(y * functional.silu(gate))


class Mamba(nn.Module):
    """Mixers behind their normalizations; the output projection is the embedding."""

    def __init__(
        self,
        vocabulary: int = 50_280,
        width: int = 768,
        layers: int = 24,
        state: int = 16,
        kernel: int = 4,
        chunk: int = 32,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.norms = nn.ModuleList(nn.RMSNorm(width) for _ in range(layers))
        self.mixers = nn.ModuleList(
            Mixer(width, 2 * width, state, width // 16, kernel, chunk) for _ in range(layers)
        )
        self.norm = nn.RMSNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens)
        for norm, mixer in zip(self.norms, self.mixers, strict=True):
            x = x + mixer(norm(x))
        return functional.linear(self.norm(x), self.tokens.weight)  # [batch, length, vocabulary]
