"""Several processes that train one policy on different graphs of each batch."""

import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count as count_up
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
import torch

from graphs.errors import GraphwrightError

Item = TypeVar("Item")


@runtime_checkable
class Counters(Protocol):
    """What workers of all machines count in together; torch's stores are some."""

    def add(self, key: str, amount: int, /) -> int:
        """Count up; returns the new count."""
        ...


@dataclass(frozen=True)
class Workers:
    """How many there are and which one this is; alone unless started by `torchrun`."""

    rank: int = 0
    count: int = 1
    device: str = "cpu"
    """Where sums over workers are made: NCCL knows CUDA's memory only."""
    store: Counters | None = None
    """What all of them count in; none of one that is alone."""
    _calls: Iterator[int] = field(default_factory=count_up, compare=False, repr=False)

    @property
    def is_first(self) -> bool:
        """Whether this one writes files and tracks the run."""
        return self.rank == 0

    def check_shares(self, graphs_per_batch: int) -> None:
        """Whether each worker gets as many graphs of a batch as the others.

        Raises:
            GraphwrightError: it does not.
        """
        if graphs_per_batch % self.count:
            raise GraphwrightError(
                f"graphs_per_batch is {graphs_per_batch}, which {self.count} workers cannot share "
                "evenly"
            )

    def mean(self, figures: Mapping[str, float]) -> dict[str, float]:
        """Means over workers that hold equally many graphs."""
        if self.count == 1:
            return dict(figures)
        totals = torch.tensor([figures[key] for key in sorted(figures)], dtype=torch.float64)
        totals = totals.to(self.device)
        torch.distributed.all_reduce(totals)
        means = (totals / self.count).tolist()
        return dict(zip(sorted(figures), means, strict=True))

    def largest(self, figure: float) -> float:
        """The largest of all workers' figures, the same for each; all of them must ask."""
        if self.count == 1:
            return figure
        found = torch.tensor(figure, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
        return float(found)

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """The rows of all workers, the same for each."""
        if self.count == 1:
            return rows
        parts: list[np.ndarray | None] = [None] * self.count
        torch.distributed.all_gather_object(parts, rows)
        return np.concatenate([part for part in parts if part is not None])

    def gather_items(self, items: Sequence[Item]) -> list[Item]:
        """What all workers hold, the same for each; all of them must ask."""
        if self.count == 1:
            return list(items)
        parts: list[Sequence[Item] | None] = [None] * self.count
        torch.distributed.all_gather_object(parts, items)
        return [item for part in parts if part is not None for item in part]

    def turns(self, total: int) -> Iterator[int]:
        """Numbers below `total`, each to one worker: to the first that asks; all must begin."""
        if self.count == 1:
            yield from range(total)
            return
        assert self.store is not None, "workers that share turns need a store"
        key = f"graphwright/turns/{next(self._calls)}"
        while (turn := self.store.add(key, 1) - 1) < total:
            yield turn

    def exchange(self, outgoing: Sequence[Sequence[Item]]) -> list[Item]:
        """What all workers have for this one; all of them must ask.

        Args:
            outgoing: what this one has, by worker that it is for.
        """
        mine = list(outgoing[self.rank])
        if self.count == 1:
            return mine
        parts = [
            b"" if worker == self.rank or not items else pickle.dumps(items)
            for worker, items in enumerate(outgoing)
        ]
        sizes = torch.tensor([len(part) for part in parts], device=self.device)
        coming = torch.empty_like(sizes)
        torch.distributed.all_to_all_single(coming, sizes)
        lengths = coming.tolist()
        sent = torch.frombuffer(bytearray(b"".join(parts)) or bytearray(1), dtype=torch.uint8)
        sent = sent[: sum(map(len, parts))].to(self.device)
        received = torch.empty(sum(lengths), dtype=torch.uint8, device=self.device)
        torch.distributed.all_to_all_single(received, sent, lengths, [len(part) for part in parts])
        for part in torch.split(received.cpu(), lengths):
            if len(part):
                mine.extend(pickle.loads(part.numpy().tobytes()))
        return mine

    def any(self, value: bool) -> bool:
        """Whether it holds for any worker; all of them must ask."""
        if self.count == 1:
            return value
        total = torch.tensor(float(value), device=self.device)
        torch.distributed.all_reduce(total)
        return bool(total > 0)


def join_workers(device: str) -> Workers:
    """Join the group that `torchrun` made, over NCCL for CUDA and gloo otherwise.

    On CUDA each worker of a machine takes a GPU of its own.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Workers()
    from torch.distributed.rendezvous import rendezvous

    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    store, rank, count = next(rendezvous("env://"))
    backend = "nccl" if on_gpu else "gloo"
    torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=count)
    return Workers(rank, count, "cuda" if on_gpu else "cpu", store)


def leave_workers() -> None:
    """End the group, if there is one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
