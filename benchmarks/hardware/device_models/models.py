"""Small models of each family, in torch; weights are random, only the graphs matter."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional


class Convolution(nn.Sequential):
    """Convolution, normalisation, activation."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        super().__init__(layer, nn.BatchNorm2d(outputs), nn.ReLU())


class Residual(nn.Module):
    """Convolutions one after another: a chain."""

    def __init__(self, blocks: int = 6, width: int = 16) -> None:
        super().__init__()
        self.stem = Convolution(3, width, 5, 2)
        self.blocks = nn.ModuleList(
            nn.Sequential(Convolution(width, width), Convolution(width, width))
            for _ in range(blocks)
        )
        self.head = nn.Linear(width, 100)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        for block in self.blocks:
            x = functional.relu(x + block(x))
        return self.head(x.mean((2, 3)))


class Separable(nn.Module):
    """Depthwise and pointwise convolutions in turn: a chain that moves more than it computes."""

    def __init__(self, blocks: int = 8, width: int = 96) -> None:
        super().__init__()
        self.stem = Convolution(3, width, 5, 4)
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(width, width, 3, 1, 1, groups=width, bias=False),
                    nn.BatchNorm2d(width),
                    nn.ReLU(),
                    Convolution(width, width, 1),
                )
                for _ in range(blocks)
            )
        )
        self.head = nn.Linear(width, 100)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(image)).mean((2, 3)))


class Inception(nn.Module):
    """Blocks of four branches that are joined again."""

    def __init__(self, blocks: int = 4, width: int = 128) -> None:
        super().__init__()
        self.stem = Convolution(3, width, 5, 2)
        part = width // 4
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                (
                    Convolution(width, part, 1),
                    nn.Sequential(Convolution(width, part, 1), Convolution(part, part)),
                    nn.Sequential(
                        Convolution(width, part, 1),
                        Convolution(part, part),
                        Convolution(part, part),
                    ),
                    nn.Sequential(nn.AvgPool2d(3, 1, 1), Convolution(width, part, 1)),
                )
            )
            for _ in range(blocks)
        )
        self.head = nn.Linear(width, 100)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        for block in self.blocks:
            x = torch.cat([branch(x) for branch in block], 1)
        return self.head(x.mean((2, 3)))


class Branches(nn.Module):
    """Towers that meet at the end only."""

    def __init__(self, towers: int = 2, depth: int = 5, width: int = 64) -> None:
        super().__init__()
        self.stem = Convolution(3, width)
        self.towers = nn.ModuleList(
            nn.Sequential(*(Convolution(width, width) for _ in range(depth))) for _ in range(towers)
        )

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        return torch.stack([tower(x).mean((2, 3)) for tower in self.towers]).sum(0)


class Recurrent(nn.Module):
    """An LSTM of several layers, unrolled."""

    def __init__(self, layers: int = 4, hidden: int = 384) -> None:
        super().__init__()
        self.cells = nn.ModuleList(nn.LSTMCell(hidden, hidden) for _ in range(layers))
        self.head = nn.Linear(hidden, 1000)
        self.hidden = hidden

    def forward(self, sequence: Tensor) -> Tensor:
        zero = torch.zeros(sequence.shape[1], self.hidden)
        states = [(zero, zero) for _ in self.cells]
        outputs = []
        for step in range(sequence.shape[0]):
            x = sequence[step]
            for at, cell in enumerate(self.cells):
                hidden, memory = states[at]
                gates = functional.linear(x, cell.weight_ih, cell.bias_ih)
                gates = gates + functional.linear(hidden, cell.weight_hh, cell.bias_hh)
                i, f, g, o = gates.chunk(4, 1)
                memory = torch.sigmoid(f) * memory + torch.sigmoid(i) * torch.tanh(g)
                x = torch.sigmoid(o) * torch.tanh(memory)
                states[at] = (x, memory)
            outputs.append(self.head(x))
        return torch.stack(outputs)


class Transformer(nn.Module):
    """Encoder layers, written out."""

    def __init__(self, layers: int = 3, width: int = 256, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {
                    "query": nn.Linear(width, width),
                    "key": nn.Linear(width, width),
                    "value": nn.Linear(width, width),
                    "out": nn.Linear(width, width),
                    "up": nn.Linear(width, 4 * width),
                    "down": nn.Linear(4 * width, width),
                    "before": nn.LayerNorm(width),
                    "after": nn.LayerNorm(width),
                }
            )
            for _ in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        for layer in self.layers:
            y = layer["before"](x)
            query, key, value = (
                layer[name](y).view(batch, length, self.heads, -1).transpose(1, 2)
                for name in ("query", "key", "value")
            )
            scores = query @ key.transpose(2, 3) / (width // self.heads) ** 0.5
            mixed = (scores.softmax(-1) @ value).transpose(1, 2).reshape(batch, length, width)
            x = x + layer["out"](mixed)
            x = x + layer["down"](functional.gelu(layer["up"](layer["after"](x))))
        return x


class TrainingStep(nn.Module):
    """Loss, gradients by hand and updates of a perceptron of two towers."""

    def __init__(self, depth: int = 5, width: int = 512) -> None:
        super().__init__()
        shape = (2, depth, width, width)
        self.weights = nn.Parameter(torch.randn(shape) / width**0.5)
        self.rate = 0.01

    def forward(self, x: Tensor, target: Tensor) -> tuple[Tensor, ...]:
        results: list[Tensor] = []
        for tower in self.weights:
            kept, y = [], x
            for weight in tower:
                kept.append(y)
                y = functional.relu(y @ weight)
            error = y - target
            results.append((error * error).mean())
            gradient = error * (2.0 / error.numel())
            outputs = [*kept[1:], y]
            for at in reversed(range(len(kept))):
                gradient = gradient * (outputs[at] > 0)
                results.append(tower[at] - self.rate * (kept[at].T @ gradient))
                gradient = gradient @ tower[at].T
        return tuple(results)


MODELS: Mapping[str, tuple[Callable[[], nn.Module], Callable[[], tuple[Tensor, ...]]]] = {
    "residual": (Residual, lambda: (torch.randn(1, 3, 256, 256),)),
    "inception": (Inception, lambda: (torch.randn(1, 3, 112, 112),)),
    "branches": (Branches, lambda: (torch.randn(1, 3, 56, 56),)),
    "lstm": (Recurrent, lambda: (torch.randn(10, 32, 384),)),
    "transformer": (Transformer, lambda: (torch.randn(2, 128, 256),)),
    "training-step": (TrainingStep, lambda: (torch.randn(128, 512), torch.randn(128, 512))),
}
#: What overlapping steps are measured on besides: a second chain of convolutions.
FURTHER: Mapping[str, tuple[Callable[[], nn.Module], Callable[[], tuple[Tensor, ...]]]] = {
    "separable": (Separable, lambda: (torch.randn(1, 3, 224, 224),)),
}
