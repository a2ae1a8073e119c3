"""What one process of a search does; the same object works in the process that asks."""

import mmap
import pickle
import time

from placement.annealing.anneal import Annealer
from placement.annealing.guided_anneal import GuidedAnnealer
from placement.chains.messages import Advance, Advanced, Moves
from placement.problem import Problem


class ChainProcess:
    """A problem, the moves of its chains, and the buffers that they need."""

    def __init__(self, problem: Problem) -> None:
        """Args:
        problem: what is placed.
        """
        self._problem = problem
        self._moves: Moves | None = None
        self._annealer: Annealer | None = None
        self._guided: GuidedAnnealer | None = None

    def use(self, moves: Moves) -> None:
        """Take other moves for the rounds that follow."""
        self._moves = moves
        self._annealer = Annealer(self._problem, moves.hierarchy, moves.neighbour_share)
        self._guided = None

    def advance(self, asked: Advance) -> Advanced:
        """One round; its result depends on what is asked and on the rounds before alone."""
        begun = time.process_time()
        moves, annealer = self._moves, self._annealer
        assert moves is not None, "no moves were given"
        assert annealer is not None
        if moves.scorer is None or moves.guidance is None:
            chain = annealer.advance(asked.chain, asked.moves, asked.temperature)
            chain = annealer.reprioritise(chain)
        else:
            if asked.fresh or self._guided is None:
                # It remembers what was tried, which is about another plan.
                self._guided = GuidedAnnealer(annealer, moves.scorer, moves.guidance)
            guided = self._guided
            chain = guided.advance(asked.chain, asked.moves, asked.temperature, asked.heat)
            chain = guided.reprioritise(chain)
        return Advanced(chain, time.process_time() - begun)


def pickled(problem: Problem) -> bytes:
    """A problem for another process, without what can be worked out there."""
    given = (
        problem.graph,
        problem.given_cluster,
        problem.constraints,
        problem.given_costs,
        problem.known_plans,
    )
    return pickle.dumps(given, pickle.HIGHEST_PROTOCOL)


def unpickled(descriptor: int, size: int) -> Problem:
    """The problem in a file; the descriptor may be shared with other processes."""
    with mmap.mmap(descriptor, size, prot=mmap.PROT_READ) as content:
        return Problem(*pickle.loads(content))
