"""The configuration of a training run: frozen, nested, plain values."""

from dataclasses import dataclass, field

import numpy as np

from agent.learning.config import MoveConfig, OutcomeConfig, PpoConfig, SampleConfig
from agent.policy.config import PolicyConfig
from envs.overlapping import OBJECTIVES
from envs.rewards import REWARDS, Reward, get_reward
from envs.rules import NO_START, Rules
from envs.tasks import Task
from graphs.errors import GraphwrightError
from placement.annealing.guided_anneal import Guidance
from placement.annealing.hierarchy import LEVEL_SIZES
from placement.throughput import Throughput

#: The reward unless one is asked for. Of moves: of many samples the best is kept, so that a bad one
#: costs nothing.
WHOLE_REWARD, MOVE_REWARD = "sqrt-time", "log-improvement"
AUTO = "auto"


@dataclass(frozen=True)
class EpisodeConfig:
    """What an episode is.

    Raises:
        GraphwrightError: an unknown reward, or no step.
    """

    steps: int = 4
    """Refinement passes: each sees the best plan so far and its trace."""
    whole: bool = False
    """Decide for every op in each pass, instead of moving some groups of the plan before."""
    from_scratch: bool = False
    """The first pass sees no plan and decides for every op; else it begins at a heuristic's."""
    portfolio_share: float = 0.5
    """How often training begins at the portfolio's best plan, not at another heuristic's."""
    group_sizes: tuple[int, ...] = LEVEL_SIZES
    """About how many groups the levels have above single units; empty: units only."""
    reward: str = AUTO
    """A reward of the environment by name; auto: `sqrt-time` of whole decisions, `log-improvement`
    of moves."""

    def __post_init__(self) -> None:
        if self.reward not in (AUTO, *REWARDS):
            raise GraphwrightError(
                f"unknown reward {self.reward!r}; there are {AUTO}, {', '.join(REWARDS)}"
            )
        if self.steps < 1:
            raise GraphwrightError(f"steps is {self.steps}; an episode needs at least one")


@dataclass(frozen=True)
class GuideConfig:
    """How a policy guides a search; tuned on validation graphs (docs/experiments.md)."""

    candidates: int = 64
    """Moves drawn at random for each that is simulated; the small network chooses among them."""
    sharpness: float = 2.0
    """Scores are multiplied by it before they become chances."""
    random_share: float = 0.1
    """How often a move is tried whatever its score."""
    read_after: int = 4
    """Accepted moves after which the trace is read anew."""
    start_temperature: float = 0.02
    """Uphill steps accepted at the start, as a share of step time; falls linearly to zero."""
    least_temperature: float = 0.002
    full_evaluations: int = 30_000
    """A search that has time for fewer evaluations begins cooler in proportion, at the least
    temperature at least."""
    starts: int = 4
    """Chains at first, each from the same plan; the best goes on."""
    starts_evaluations: int = 8000
    """A search that has time for fewer is one chain."""
    starts_share: float = 0.4
    """Share of the time that all of these take together."""
    overlays: int = 3
    """Levels of groups that these chains add for the one that goes on: the pieces in which the
    best plan and each of the next best agree."""
    family_evaluations: int = 60_000
    """With time for at least twice as many, there are several families of chains, each with about
    so many evaluations."""
    most_families: int = 8
    families_share: float = 0.75
    """Share of the time that all families take together, before the best goes on."""
    reheat: float = 0.5
    """Temperature at which the best goes on, as a share of the start temperature."""
    proposals_share: float = 0.05
    """At most about this share of the time goes into passes of the large network beforehand."""

    def temperature(self, evaluations: float) -> float:
        """What a search begins with that has time for so many evaluations."""
        share = min(evaluations / self.full_evaluations, 1.0)
        return max(self.start_temperature * share, self.least_temperature)

    def families(self, evaluations: float) -> int:
        """How many families of chains there is time for."""
        return int(np.clip(evaluations / self.family_evaluations, 1, self.most_families))

    @property
    def guidance(self) -> Guidance:
        """What the compiled loop needs."""
        return Guidance(self.candidates, self.sharpness, self.random_share, self.read_after)


@dataclass(frozen=True)
class AgentConfig:
    """Everything that decides how a policy behaves and learns."""

    policy: PolicyConfig = field(default_factory=PolicyConfig)
    ppo: PpoConfig = field(default_factory=PpoConfig)
    sample: SampleConfig = field(default_factory=SampleConfig)
    episode: EpisodeConfig = field(default_factory=EpisodeConfig)
    moves: MoveConfig = field(default_factory=MoveConfig)
    outcomes: OutcomeConfig = field(default_factory=OutcomeConfig)
    guide: GuideConfig = field(default_factory=GuideConfig)
    objective: str = "latency"
    """latency: plans are worth the time of one step. throughput: the period of steps that overlap;
    the policy then learns and decides by samples alone, for guided search knows one step only."""
    in_flight: int = 0
    """Of throughput, the most steps on the way at once; 0: twice the devices that a plan uses, or
    all micro-batches, and fewer where these do not fit in memory."""
    micro_batches: int = 8
    """Of throughput, the parts of training steps; graphs that update nothing serve requests."""

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise GraphwrightError(
                f"objective is {self.objective!r}; there are {', '.join(OBJECTIVES)}"
            )
        if self.in_flight < 0:
            raise GraphwrightError(f"in_flight is {self.in_flight}; give 0 or more")
        if self.in_flight and self.objective == "latency":
            raise GraphwrightError(
                f"in_flight is {self.in_flight}, but steps overlap for throughput only; add "
                "objective throughput"
            )
        if self.micro_batches < 1:
            raise GraphwrightError(f"micro_batches is {self.micro_batches}; give at least 1")

    @property
    def overlap(self) -> Throughput | None:
        """Steps that overlap, as instances take them; None for latency."""
        if self.objective == "latency":
            return None
        return Throughput(self.in_flight or None, self.micro_batches)

    @property
    def rules(self) -> Rules:
        """The rules of the environment that the policy acts in; training begins at other
        heuristics' plans too."""
        start = NO_START if self.episode.from_scratch else "portfolio"
        return Rules(tuple(Task(task) for task in self.policy.tasks), self.episode.steps, start)

    @property
    def reward(self) -> Reward:
        """The reward of that environment."""
        if self.episode.reward != AUTO:
            return get_reward(self.episode.reward)
        return get_reward(WHOLE_REWARD if self.episode.whole else MOVE_REWARD)

    @property
    def guides_search(self) -> bool:
        """Whether plans are found by search that the policy guides: it moves groups between
        devices and decides nothing else, for the time of one step, which is all that the search
        scores and that the small network has lessons of."""
        moves = self.policy.tasks == (Task.PLACEMENT,) and not self.episode.whole
        return moves and self.objective == "latency"


@dataclass(frozen=True)
class TrainConfig:
    """A pretraining run.

    Raises:
        GraphwrightError: counts below one.
    """

    agent: AgentConfig = field(default_factory=AgentConfig)
    suite: str = "train"
    """A suite's name, the file of one, or a folder of models (with `clusters`)."""
    clusters: tuple[str, ...] = ()
    graphs_per_batch: int = 4
    """Graphs of a batch, on all workers together."""
    max_ops: int = 4000
    """Larger graphs of the suite are left out of training."""
    rounds: int = 1000
    """Episodes of every slot of the batch."""
    move_share: float = 0.7
    """Share of the rounds in which, first, the small network learns which moves improve a plan,
    from the searches that it guides (only where the policy moves groups between devices)."""
    outcome_share: float = 0.25
    """Share of the rounds in which the large network then learns the same of plans that search
    meets; the rest are policy gradients."""
    seed: int = 0
    validate_every: int = 100
    """Rounds between looks at the validation suite."""
    validation_suite: str = "validation"
    validation_graphs: int = 16
    validation_steps: int = 8
    """Passes of the policy for each."""
    save_every: int = 25
    """Rounds between checkpoints."""
    threads: int = 0
    """Threads that torch may use, and those that score plans; 0 leaves the choice to torch, and
    scores plans on all cores."""
    device: str = "cpu"
    """Torch's device for the network, such as cuda."""
    mixed_precision: bool = False
    """bfloat16 in the network's forward pass."""
    compile: bool = False
    """`torch.compile` the network; not on the CPU, where torch 2.13 fails to compile it."""

    def __post_init__(self) -> None:
        if self.compile and self.device == "cpu":
            raise GraphwrightError(
                "compile with device cpu: torch's compiler fails on this network there; leave it "
                "out, or give --device cuda"
            )
        for name in ("graphs_per_batch", "rounds", "save_every", "validate_every", "max_ops"):
            if getattr(self, name) < 1:
                raise GraphwrightError(f"{name} is {getattr(self, name)}; it must be at least 1")
