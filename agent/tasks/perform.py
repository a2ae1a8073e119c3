"""One task in another process: what is sent there, done there, and sent back."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agent.tasks.task_runner import TaskError
from graphs.errors import GraphwrightError

#: The job that this process did last, by what it was unpickled from: it keeps what it loaded.
AT_HAND: dict[bytes, Callable[[Any], Any]] = {}


@dataclass(frozen=True)
class Raised:
    """A mistake of the user's that a task met, in place of its result."""

    error: GraphwrightError


def packed(value: Any) -> bytes:
    """A job, a task or a result as bytes.

    Raises:
        TaskError: it holds what cannot be sent, such as a function made in a session.
    """
    try:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise TaskError(f"what cannot be sent to another process: {error}") from error


def perform(job: bytes, task: bytes) -> bytes:
    """Do a task of a job; the outcome is the result, or a `Raised`."""
    if job not in AT_HAND:
        AT_HAND.clear()
        AT_HAND[job] = pickle.loads(job)
    try:
        outcome = AT_HAND[job](pickle.loads(task))
    except GraphwrightError as error:
        outcome = Raised(_plain(error))
    return packed(outcome)


def result_of(outcome: bytes) -> Any:
    """The result of a task.

    Raises:
        GraphwrightError: what the task met.
    """
    value = pickle.loads(outcome)
    if isinstance(value, Raised):
        raise value.error
    return value


def _plain(error: GraphwrightError) -> GraphwrightError:
    """The error itself if it comes out of a pickle as it went in, else its words."""
    try:
        again = pickle.loads(pickle.dumps(error))
    except (pickle.PicklingError, AttributeError, TypeError):
        return TaskError(str(error))
    return error if str(again) == str(error) else TaskError(str(error))
