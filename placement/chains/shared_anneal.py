"""Annealing by several chains at once, which adopt the best plan of all when they lag behind.

Chains exchange plans after a number of rounds, never by the clock: with the same moves per round
the same seed gives the same plans, whichever process is faster. How many moves a round has and how
many rounds there are follows from the budget, as in a search of one chain.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from placement.annealing.anneal import Chain
from placement.chains.chain_team import ChainTeam
from placement.placer import Budget

#: Rounds between two looks at each other's plans.
EXCHANGE_ROUNDS = 5
_FIRST_MOVES = 50

#: Told after each round where the chains are.
OnRound = Callable[[Sequence[Chain]], None]


class Pace:
    """How far a search is, and how many moves its next round has."""

    def __init__(
        self,
        team: ChainTeam,
        budget: Budget,
        max_rounds: int | None = None,
        moves: int = _FIRST_MOVES,
        least_energy: float = -np.inf,
    ) -> None:
        """Args:
        budget: of CPU seconds of all processes together, or of seconds by the clock.
        max_rounds: with a limit each round has `moves` moves and the result does not depend on
            the budget, as long as it lasts.
        least_energy: nothing is gained below it.
        """
        self._team = team
        self._budget = budget
        self._max_rounds = max_rounds
        self._least_energy = least_energy
        self._rounds = 0
        self._best_energy = np.inf
        self.moves = moves
        self._begun_seconds = self.spent_seconds
        self._span_seconds = max(self.left_seconds, 1e-9)

    @property
    def spent_seconds(self) -> float:
        """Of the budget: of CPU seconds also those of other processes."""
        elsewhere = 0.0 if self._budget.by_the_clock else self._team.cpu_seconds
        return self._budget.spent_seconds + elsewhere

    @property
    def left_seconds(self) -> float:
        return self._budget.cpu_seconds - self.spent_seconds

    @property
    def progress(self) -> float:
        """Share of the rounds or of the budget that is used; 1 where nothing more can be gained."""
        if self.left_seconds <= 0 or self._best_energy <= self._least_energy:
            return 1.0
        if self._max_rounds is not None:
            return self._rounds / max(self._max_rounds, 1)
        return (self.spent_seconds - self._begun_seconds) / self._span_seconds

    def count(self, chains: Sequence[Chain], seconds: float, aim: float) -> None:
        """Note a round.

        Args:
            seconds: of the budget that it took.
            aim: seconds that one should take.
        """
        self._rounds += 1
        self._best_energy = min(self._best_energy, *(chain.best_energy for chain in chains))
        if self._max_rounds is None:
            ahead = min(aim, max(self.left_seconds, 0.0))
            wanted = self.moves * ahead / max(seconds, 1e-4)
            self.moves = int(np.clip(wanted, 10, 4 * self.moves))

    def round_seconds(self, share: float, rounds: int) -> float:
        """What a round should take of which so many make up a share of the whole search."""
        return share * self._span_seconds / rounds


def anneal_together(
    team: ChainTeam,
    chains: Sequence[Chain],
    pace: Pace,
    temperature: float,
    heat: float,
    until: float,
    rounds: int,
    on_round: OnRound,
    exchange: bool = True,
) -> list[Chain]:
    """Cool chains down together until a share of the search is used.

    Args:
        chains: at most as many as the team takes.
        temperature: of a search at its beginning.
        heat: what these chains begin with, as a share of it; it falls linearly to zero.
        until: share of the whole search at which they end.
        rounds: in about so many.
        exchange: whether chains adopt the best plan of all; else they stay apart.

    Raises:
        TeamError: a process was lost.
    """
    begun, number = pace.progress, 0
    fresh = [True] * len(chains)
    chains = list(chains)
    while (before := pace.progress) < min(until, 1.0):
        warmth = heat * (until - before) / (until - begun)
        since = pace.spent_seconds
        chains = team.advance(chains, pace.moves, temperature * warmth, warmth, fresh)
        number += 1
        pace.count(chains, pace.spent_seconds - since, pace.round_seconds(until - begun, rounds))
        fresh = [False] * len(chains)
        if exchange and number % EXCHANGE_ROUNDS == 0:
            chains, fresh = exchanged(chains, temperature * warmth)
        on_round(chains)
    return chains


def exchanged(chains: Sequence[Chain], temperature: float) -> tuple[list[Chain], list[bool]]:
    """Chains after those that lag have adopted the best plan of all; and which ones did.

    A chain lags if its best plan is worse than the best of all by more than the temperature, the
    uphill step that is usual now: while it is warm chains go ways of their own, in the end all are
    near the best plan. Its draws stay its own.
    """
    best = min(chains, key=lambda chain: chain.best_energy)
    lags = [chain.best_energy > best.best_energy + temperature for chain in chains]
    return [
        replace(
            chain,
            devices=best.best_devices,
            ranks=best.best_ranks,
            energy=best.best_energy,
            best_devices=best.best_devices,
            best_ranks=best.best_ranks,
            best_energy=best.best_energy,
        )
        if behind
        else chain
        for chain, behind in zip(chains, lags, strict=True)
    ], lags
