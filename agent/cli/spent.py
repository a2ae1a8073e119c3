"""What a command spent on what: processor time, and time by the clock."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Spent:
    """CPU seconds by part, in order; the first part began when the process did."""

    parts: dict[str, float] = field(default_factory=dict)
    begun_seconds: float = field(default_factory=time.perf_counter)
    """By the clock, when the first part was being measured."""
    _counted: float = 0.0
    _counted_ended: float = 0.0

    def lap(
        self,
        name: str,
        of_which: Mapping[str, float] | None = None,
        elsewhere: float = 0.0,
        with_ended: bool = False,
    ) -> None:
        """Count what was spent since the last lap to a part.

        Args:
            of_which: CPU seconds of it that are parts of their own.
            elsewhere: CPU seconds of other processes, which are a part of their own.
            with_ended: count processes too that this one started and that have ended since, as the
                one that reads a model does.
        """
        now, ended = time.process_time(), _of_ended_processes()
        own = dict(of_which or {})
        spent = max(now - self._counted - sum(own.values()), 0.0)
        if with_ended:
            spent += ended - self._counted_ended
        self._counted_ended = ended
        self.parts[name] = self.parts.get(name, 0.0) + spent
        self.parts.update(own)
        if elsewhere:
            self.parts["other processes"] = self.parts.get("other processes", 0.0) + elsewhere
        self._counted = now

    def as_dict(self) -> Mapping[str, float]:
        """Plain values, as `--json` prints them."""
        return {
            **{f"{name}_cpu_seconds": seconds for name, seconds in self.parts.items()},
            "wall_seconds": time.perf_counter() - self.begun_seconds,
        }

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in self.parts.items())
        wall = time.perf_counter() - self.begun_seconds
        return f"CPU s: {parts}; {wall:.1f} s by the clock since the command was read"


def _of_ended_processes() -> float:
    """CPU seconds of all processes that this one has started and that have ended."""
    times = os.times()
    return times.children_user + times.children_system
