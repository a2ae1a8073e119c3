"""A budget for tests that counts looks instead of seconds."""

from dataclasses import dataclass, field

from placement.placer import Budget


@dataclass(frozen=True)
class Rounds(Budget):
    """A budget that is spent after so many looks at it, so that no test asks a clock."""

    cpu_seconds: float = 40.0
    used: list[int] = field(default_factory=lambda: [0])

    @property
    def spent_seconds(self) -> float:
        return float(self.used[0])

    @property
    def is_spent(self) -> bool:
        self.used[0] += 1
        return self.used[0] > self.cpu_seconds
