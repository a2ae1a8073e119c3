"""What a campaign has found: kinds of failures, and what it took."""

import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent.parent
#: Frames of these are the fuzzer's own.
_OWN = str(Path(__file__).resolve().parent)


@dataclass(frozen=True)
class Finding:
    """A failure; two of one kind and place are the same."""

    kind: str
    """The exception, `hang`, or the signal that ended the process."""
    place: str
    """The innermost of the project's functions; empty where that is not known."""
    message: str = ""

    @property
    def key(self) -> str:
        return f"{self.kind} at {self.place}" if self.place else self.kind


@dataclass
class Tally:
    """What a campaign did."""

    target: str
    seed: int
    executions: int = 0
    refused: int = 0
    """Executions that ended in an error of the project's own."""
    findings: dict[str, int] = field(default_factory=dict)
    """How often each kind of failure was seen."""
    slowest_seconds: float = 0.0
    """Of processor time, one execution."""
    peak_bytes: int = 0
    """Resident memory of the process."""
    lines: int = 0
    """Lines that were reached, where they were counted."""
    processor_seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def finding_of(error: BaseException, kind: str | None = None) -> Finding:
    """What an exception is as a finding."""
    place = ""
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        is_ours = path.is_relative_to(_ROOT) and ".venv" not in path.parts
        if is_ours and not frame.filename.startswith(_OWN):
            place = f"{path.relative_to(_ROOT)}:{frame.name}"
    text = str(error).split("\n")[0][:200]
    return Finding(kind or type(error).__name__, place, text)
