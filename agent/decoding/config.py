"""What the one-shot policy is made of, how it draws plans, and how it learns."""

from dataclasses import dataclass, field

from agent.decoding.stream import StreamConfig
from agent.policy.sizes import check_sizes
from graphs.errors import GraphwrightError
from placement.decoding.styles import Noise


@dataclass(frozen=True)
class OneShotConfig:
    """Sizes and switches of the network; every mechanism can be switched off.

    Raises:
        GraphwrightError: a size out of range, or a width that the heads do not divide.
    """

    width: int = 64
    """Width of op and device embeddings."""
    heads: int = 4
    """Attention heads."""
    sage_layers: int = 2
    """Rounds of max-pool aggregation from producers and from consumers."""
    attention_layers: int = 1
    """Segment-recurrent layers; 0 leaves them out."""
    segment_ops: int = 128
    decoder_width: int = 16
    """Width of the small network that the decoder runs for each choice and device."""
    affinity_width: int = 16
    superposition: bool = True
    """Gate every layer by the pooled graph (Cheung et al. 2019, as used by Zhou et al.)."""

    def __post_init__(self) -> None:
        widths = ("width", "heads", "segment_ops", "decoder_width", "affinity_width")
        check_sizes(self, widths, ("sage_layers", "attention_layers"))
        if self.width % self.heads:
            raise GraphwrightError(
                f"width {self.width} is not a multiple of {self.heads} heads; choose one that is"
            )


def check_shares(name: str, shares: tuple[float, ...]) -> None:
    """Each is above 0, up to 1, and there is one.

    Raises:
        GraphwrightError: otherwise.
    """
    if not shares or not all(0 < share <= 1 for share in shares):
        raise GraphwrightError(
            f"{name} is {list(shares)}; give at least one share above 0, up to 1"
        )


@dataclass(frozen=True)
class DrawConfig:
    """How plans are drawn from one look at a graph.

    Raises:
        GraphwrightError: counts below one, shares that are none.
    """

    plans: int = 64
    first: int = 32
    """So many are drawn from nothing; all others redraw regions of the best plan so far."""
    each: int = 8
    """Plans of one step of the environment after that."""
    redrawn: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4)
    """About which share of the choices is redrawn."""
    noise: Noise = field(default_factory=lambda: Noise(temperatures=(0.0, 0.2, 0.5)))

    def __post_init__(self) -> None:
        for name in ("plans", "first", "each"):
            if getattr(self, name) < 1:
                raise GraphwrightError(f"{name} is {getattr(self, name)}; give at least 1")
        check_shares("redrawn", self.redrawn)


@dataclass(frozen=True)
class LearnConfig:
    """Policy gradients on whole plans.

    Raises:
        GraphwrightError: counts below one.
    """

    lr: float = 1e-3
    """At first; falls linearly to a twentieth."""
    graphs: int = 8
    """Of a batch, on all workers together."""
    plans: int = 64
    """Drawn of each graph, from one look and from nothing."""
    learned: int = 16
    """Plans of these that are learned from, at most: the best of each temperature, and as many of
    its others."""
    regions: int = 0
    """Of the best plan so far, redrawn one after the other; learned from where they are better."""
    redraws: int = 8
    """Plans of each region; all of them are learned from."""
    redrawn: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4)
    """About which share of the choices a region has."""
    region_weight: float = 0.5
    """How much what regions teach counts, beside plans drawn from nothing."""
    epochs: int = 1
    clip: float = 0.2
    """Of a choice's chances now and when it was drawn (PPO); counts from the second epoch on."""
    noise: Noise = field(default_factory=lambda: Noise(temperatures=(0.3, 0.6, 1.0)))
    level_prior: float = 0.01
    """How much it costs to move priorities and kernels away from the heuristics' without need:
    most such moves change nothing, and would go astray."""
    levels_alone: bool = False
    """Whether priorities and kernels alone are learned, and all else stays as it is."""
    style_weight: float = 0.1
    """How much it counts to foretell which style gives the best greedy plan."""
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        for name in ("graphs", "plans", "learned", "epochs"):
            if getattr(self, name) < 1:
                raise GraphwrightError(f"{name} is {getattr(self, name)}; give at least 1")
        if self.regions < 0 or self.redraws < 2:
            raise GraphwrightError(
                f"{self.regions} regions of {self.redraws} plans; give 0 or more regions, and at "
                "least 2 plans of each"
            )
        check_shares("redrawn", self.redrawn)
        if not 2 <= self.learned <= self.plans:
            raise GraphwrightError(
                f"learned is {self.learned} of {self.plans} plans; give at least 2, and no more "
                "than are drawn"
            )


@dataclass(frozen=True)
class OneShotTraining:
    """A training run of the one-shot policy."""

    policy: OneShotConfig = field(default_factory=OneShotConfig)
    draw: DrawConfig = field(default_factory=DrawConfig)
    learn: LearnConfig = field(default_factory=LearnConfig)
    stream: StreamConfig = field(default_factory=StreamConfig)
    rounds: int = 6000
    kept: int = 1000
    """Pairs of the stream that are kept at a time; each round may bring a new one."""
    all_tasks_share: float = 0.1
    """So often a graph of the batch has its priorities and kernels decided too."""
    fresh: float = 0.15
    """How often a slot of the batch is a new pair of the stream rather than one that is kept."""
    seed: int = 0
    validate_every: int = 250
    """Rounds between looks at the validation suites."""
    validation_suites: tuple[str, ...] = ("validation", "real-validation")
    validation_graphs: int = 24
    """Of each suite, at most."""
    validation_seeds: int = 2
    """Looks at each graph."""
    max_ops: int = 4000
    """Larger graphs are left out of validation."""
    save_every: int = 200
    """Rounds between checkpoints."""
    threads: int = 1
    """Threads that torch and the simulator may use."""
    device: str = "cpu"
    """Torch's device for the network, such as cuda."""
