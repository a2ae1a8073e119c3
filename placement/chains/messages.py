"""What the processes of a search are told, and what they answer."""

from dataclasses import dataclass

from placement.annealing.anneal import Chain
from placement.annealing.guided_anneal import Guidance
from placement.annealing.hierarchy import Hierarchy
from placement.annealing.move_scorer import MoveScorer
from placement.runtime.processes.messages import Message


@dataclass(frozen=True, eq=False)
class Moves:
    """What a chain may do: groups that move, and what picks among their moves."""

    hierarchy: Hierarchy
    neighbour_share: float
    """See `placement.annealing.anneal.Annealer`."""
    scorer: MoveScorer | None = None
    """None: moves are drawn at random."""
    guidance: Guidance | None = None
    """How the scores decide; of a scorer alone."""


@dataclass(frozen=True)
class GetReady(Message[None]):
    """Load the kernels."""


@dataclass(frozen=True)
class OpenProblem(Message[None]):
    """Read the problem from the file that comes along."""

    bytes: int
    """Length of the pickled problem."""


@dataclass(frozen=True, eq=False)
class UseMoves(Message[None]):
    """From now on chains move so."""

    moves: Moves


@dataclass(frozen=True, eq=False)
class Advanced:
    """Where a chain is after a round."""

    chain: Chain
    cpu_seconds: float
    """That the round took."""


@dataclass(frozen=True, eq=False)
class Advance(Message[Advanced]):
    """One round of a chain: moves, then priorities anew."""

    chain: Chain
    moves: int
    temperature: float
    heat: float
    """Temperature as a share of what the search began with."""
    fresh: bool
    """Whether the chain is at another plan than the round before left it at."""
