"""Which part of a policy learns when: three phases that share the rounds of a run."""

from dataclasses import dataclass
from enum import StrEnum

from agent.config import TrainConfig


class PhaseName(StrEnum):
    """What is learned from."""

    MOVES = "moves"
    """The small network, from the searches that it guides."""
    OUTCOMES = "outcomes"
    """The large network, from moves tried at plans that search meets."""
    POLICY = "policy"
    """The large network, by policy gradients."""


@dataclass(frozen=True)
class Phase:
    """The phase of a round."""

    name: PhaseName
    progress: float
    """Share of the phase that is done, from 0 to 1."""


def phase_of(config: TrainConfig, number: int) -> Phase:
    """The phase that a round belongs to, `number` rounds having been done before it.

    Policies that guide no search have policy gradients alone.
    """
    done, begun = number / config.rounds, 0.0
    if config.agent.guides_search:
        shares = {PhaseName.MOVES: config.move_share, PhaseName.OUTCOMES: config.outcome_share}
        for name, share in shares.items():
            if done < begun + share:
                return Phase(name, (done - begun) / share)
            begun += share
    return Phase(PhaseName.POLICY, (done - begun) / max(1.0 - begun, 1e-9))
