"""How a policy learns: settings of each way, without what learns by them (no torch)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MoveConfig:
    """What is tried, remembered and learned from."""

    lr: float = 2e-3
    """At first; falls linearly to a fiftieth."""
    least_evaluations: int = 2000
    """The fewest evaluations of a search that is learned from; their number is drawn evenly on a
    logarithmic scale."""
    most_evaluations: int = 20000
    kept: int = 4000
    """Moves kept of each search, drawn from all that it tried."""
    remembered: int = 2_000_000
    """Moves that are learned from, the last ones of all searches."""
    updates: int = 150
    """Steps of the optimizer in each round."""
    batch: int = 4096
    """Moves of a step."""
    gain_power: float = 0.5
    """An improvement weighs as much as its gain over 0.0003 to this power."""
    random_share: float = 0.2
    """How often a search that is learned from tries a move whatever its score."""
    fused_share: float = 0.25
    """How often a search places fused kernels in place of ops."""
    overlaid_share: float = 0.5
    """How often a search is gone on with from its best plan, with the groups that this plan and the
    first one suggest (`placement.annealing.overlay`)."""


@dataclass(frozen=True)
class OutcomeConfig:
    """What is tried and learned from."""

    moves_per_level: int = 80
    least_gain: float = 1e-4
    """Fall of the energy that counts as an improvement."""
    max_depth: int = 3000
    """Evaluations of annealing between states at most: plans as search meets them later on."""


@dataclass(frozen=True)
class PpoConfig:
    """The update."""

    lr: float = 1e-3
    epochs: int = 3
    """Passes over the same samples."""
    clip: float = 0.2
    entropy: float = 0.5
    """Weight of the entropy at the beginning, in standard deviations per nat, for samples of one
    choice: one that is a deviation better than another becomes exp(1 / weight) times as likely. Of
    a sample of N choices each explains but a share of the spread, about 1 / sqrt(N), and its
    entropy weighs as much less: the same setting is for moves, of one or two choices, and for
    whole decisions, of hundreds (0.02 per choice of 600)."""
    entropy_end: float = 0.05
    max_kl: float = 0.05
    """No further epoch once the policy has moved so far, in nats per draw, the mean over tasks."""
    max_grad_norm: float = 1.0
    max_advantage: float = 4.0


@dataclass(frozen=True)
class SampleConfig:
    """How decisions are drawn."""

    samples: int = 48
    """Plans per graph and forward pass."""
    moves: tuple[int, ...] = (1, 2)
    """How many groups a sample moves; drawn for each level."""
    merged: int = 8
    """How many of the samples that improve are tried together: the best two, the best three, ..."""
