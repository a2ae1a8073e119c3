"""Plans that an engineer would deploy: among equally fast ones, the simplest."""

from placement.simplicity.complexity import Complexity, complexity_of, is_contiguous
from placement.simplicity.judge import Judge
from placement.simplicity.rules import Simplicity, known_error
from placement.simplicity.simplify import Simplified, simplify

__all__ = [
    "Complexity",
    "Judge",
    "Simplicity",
    "Simplified",
    "complexity_of",
    "is_contiguous",
    "known_error",
    "simplify",
]
