"""The process of one chain at a time; `placement.chains.chain_team` starts it."""

import os
import sys

from placement.chains.chain_process import ChainProcess, unpickled
from placement.chains.messages import Advance, Advanced, GetReady, OpenProblem, UseMoves
from placement.placers.warm_up import warm_up
from placement.runtime.processes.messages import Message
from placement.runtime.processes.worker_process import ReceiveFile, serve


class _Worker:
    """The process's problem, once it was told."""

    def __init__(self) -> None:
        self._process: ChainProcess | None = None

    def answer(self, message: Message[object], receive: ReceiveFile) -> Advanced | None:
        """Do what a message asks for."""
        if isinstance(message, GetReady):
            warm_up()
            return None
        if isinstance(message, OpenProblem):
            descriptor = receive()
            try:
                self._process = ChainProcess(unpickled(descriptor, message.bytes))
            finally:
                os.close(descriptor)
            return None
        assert self._process is not None, "no problem was given"
        if isinstance(message, UseMoves):
            self._process.use(message.moves)
            return None
        assert isinstance(message, Advance)
        return self._process.advance(message)


if __name__ == "__main__":
    serve(sys.argv[1:], _Worker().answer)
