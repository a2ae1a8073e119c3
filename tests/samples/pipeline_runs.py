"""Torch models that are cut into stages, and their runner scripts on several processes."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

TOKENS, WIDTH = 20, 8
#: Of a micro-batch.
SAMPLES, LENGTH = 2, 3
MICRO_BATCHES = 4


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.up = nn.Linear(WIDTH, 2 * WIDTH)
        self.down = nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(torch.relu(self.up(self.norm(x))))


class Chain(nn.Module):
    """Layers in a row, and what torch's own stages refuse: weights that both ends read, an input
    and a tensor of the first layer that the last one reads, results in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(TOKENS, WIDTH)
        self.layers = nn.ModuleList([Block() for _ in range(4)])
        self.head = nn.Linear(WIDTH, TOKENS, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor, scale: Tensor) -> dict[str, Tensor]:
        first = x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x)
        return {"logits": self.head(x + first * scale), "last": x}


def chain() -> Chain:
    """The same one in every process."""
    torch.manual_seed(0)
    return Chain().eval()


def inputs_of(samples: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(samples)
    return (
        torch.randint(0, TOKENS, (samples, LENGTH), generator=generator),
        torch.randn(samples, 1, 1, generator=generator),
    )


def cross(output: dict[str, Tensor], labels: Tensor) -> Tensor:
    return functional.cross_entropy(output["logits"].flatten(0, 1), labels.flatten())


def unit_descent(parameters: Any) -> torch.optim.Optimizer:
    """Takes exactly the gradient away."""
    return torch.optim.SGD(parameters, lr=1.0)


def write_chain(path: Path) -> Path:
    torch.export.save(torch.export.export(chain(), inputs_of(SAMPLES)), path)
    return path


def run_stages(script: Path, *flags: str, processes: int = 2) -> list[tuple[int, str]]:
    """Start the script once for each stage; exit status and what each wrote."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return finished([
        subprocess.Popen(
            [sys.executable, str(script), "--device", "cpu", *flags],
            env={
                **os.environ,
                "PYTHONPATH": str(Path(__file__).parent),
                "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes),
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(processes)
    ])  # fmt: skip


def finished(processes: Sequence["subprocess.Popen[str]"]) -> list[tuple[int, str]]:
    try:
        return [
            (process.returncode, output)
            for process in processes
            for output in (process.communicate(timeout=3600)[0],)
        ]
    finally:
        for process in processes:
            process.kill()
