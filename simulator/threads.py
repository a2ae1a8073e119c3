"""How many threads score plans at once in this process, as `torch.set_num_threads` is for torch."""

import os
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import lru_cache

_limit: list[int] = [0]


def set_threads(count: int) -> None:
    """From now on at most so many threads score plans; 0: one for each core.

    What is scored does not depend on it.
    """
    _limit[0] = max(count, 0)


def thread_count() -> int:
    """Threads that score plans where nobody asks for another number."""
    return _limit[0] or os.cpu_count() or 1


def pool_of(threads: int) -> Executor:
    """So many threads, the same ones each time; other ones in a process that was forked."""
    return _pool(threads, os.getpid())


@lru_cache(maxsize=4)
def _pool(threads: int, _process: int) -> Executor:
    return ThreadPoolExecutor(threads, "simulator")
