"""What every worker process does: pin itself, answer messages, end with its parent."""

import ctypes
import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from typing import TypeVar

from placement.runtime.processes.mailboxes import AbortedStep
from placement.runtime.processes.messages import Failed

_PR_SET_PDEATHSIG = 1

#: Takes the file that came along with a message; returns its descriptor.
ReceiveFile = Callable[[], int]

Told = TypeVar("Told")
Answered = TypeVar("Answered")


def serve(arguments: Sequence[str], answer: Callable[[Told, ReceiveFile], Answered]) -> None:
    """Answer one message at a time until the parent closes the socket.

    Args:
        arguments: the inherited socket's descriptor, the core to stay on (-1: any), the parent.
        answer: does what a message asks for. It may raise; the parent is told why.
    """
    descriptor, core, parent = (int(text) for text in arguments)
    _die_with_parent(parent)
    # Terminals and schedulers signal the whole group; the parent cleans up, and ends its workers.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if core >= 0 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    with Connection(descriptor) as pipe:
        while True:
            try:
                message = pipe.recv()
            except (EOFError, OSError):
                return
            reply: Answered | Failed
            try:
                reply = answer(message, lambda: recv_handle(pipe))
            except AbortedStep as error:
                reply = Failed(str(error), aborted=True)
            except Exception as error:  # noqa: BLE001 - sent to the parent, which decides
                reply = Failed(f"{type(error).__name__}: {error}")
            gc.collect(0)
            pipe.send(reply)


def _die_with_parent(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)
