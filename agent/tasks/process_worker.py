"""The process of `agent.tasks.process_pool`: does one task after the other."""

import sys

from agent.tasks.perform import perform
from agent.tasks.process_pool import DoTask
from placement.runtime.processes.worker_process import ReceiveFile, serve


def _answer(message: DoTask, _receive: ReceiveFile) -> bytes:
    return perform(message.job, message.task)


if __name__ == "__main__":
    serve(sys.argv[1:], _answer)
