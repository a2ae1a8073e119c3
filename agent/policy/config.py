"""What the policy is made of; every mechanism can be switched off."""

from dataclasses import dataclass

from agent.policy.sizes import check_sizes
from envs.tasks import Task
from graphs.errors import GraphwrightError

TASKS = tuple(Task)


@dataclass(frozen=True)
class PolicyConfig:
    """Sizes and switches of the network.

    Raises:
        GraphwrightError: a size out of range, a width that the heads do not divide, widths that are
            not two, or no task.
    """

    width: int = 64
    """Width of op and device embeddings."""
    heads: int = 4
    """Attention heads."""
    sage_layers: int = 2
    """Rounds of max-pool aggregation from producers and from consumers."""
    attention_layers: int = 1
    """Segment-recurrent layers, shared by the tasks."""
    segment_ops: int = 128
    pair_width: int = 32
    """Width of what is known of a group on a device."""
    tasks: tuple[str, ...] = ("placement",)
    """Decided in this order: later ones see earlier ones."""
    sequential_attention: bool = True
    superposition: bool = True
    """Gate every layer by the pooled graph (Cheung et al. 2019, as used by Zhou et al.)."""
    cross_task: bool = True
    """Later tasks see the states and expected decisions of earlier ones."""
    reads_trace: bool = True
    """See what happened under the previous plan, not only what it was."""
    device_embeddings: bool = True
    """Score ops against devices; off: one output per device number, as GDP has."""
    move_widths: tuple[int, ...] = (64, 32)
    """Widths of the two layers of the small network that scores single moves in a search."""
    max_devices: int = 16
    """How many outputs there are when `device_embeddings` is off."""

    def __post_init__(self) -> None:
        widths = ("width", "heads", "segment_ops", "pair_width", "move_widths", "max_devices")
        check_sizes(self, widths, ("sage_layers", "attention_layers"))
        if self.width % self.heads:
            raise GraphwrightError(
                f"width {self.width} is not a multiple of {self.heads} heads; choose one that is"
            )
        if len(self.move_widths) != 2:
            raise GraphwrightError(
                f"move_widths is {list(self.move_widths)}; give the widths of two layers"
            )
        unknown = [task for task in self.tasks if task not in TASKS]
        if unknown or not self.tasks:
            raise GraphwrightError(
                f"tasks {', '.join(self.tasks) or 'none'}: choose from {', '.join(TASKS)}"
            )
