"""How the plans of a sample differ: whose weights count, at how much noise, on which devices."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32, Int64

from graphs.errors import GraphwrightError
from placement.decoding.decoder import Styles
from placement.heuristics.placements import device_order
from placement.problem import Problem


@dataclass(frozen=True)
class Noise:
    """What a style is drawn from beside its weights.

    Raises:
        GraphwrightError: nothing to draw from, a negative temperature, a share that is none.
    """

    temperatures: tuple[float, ...] = (0.2, 0.5, 1.0)
    """Of scores; each plan has one."""
    memory_shares: tuple[float, ...] = (1.0, 1.0, 0.9, 0.75)
    """Of memory that the decoder's estimate may fill, which the simulator may see otherwise."""
    fewer_devices: float = 0.15
    """How often a plan may use some of the devices only, the fastest ones."""

    def __post_init__(self) -> None:
        if not self.temperatures or min(self.temperatures) < 0:
            raise GraphwrightError(
                f"temperatures are {list(self.temperatures)}; give at least one, none below 0"
            )
        if not self.memory_shares or not all(0 < share <= 1 for share in self.memory_shares):
            raise GraphwrightError(
                f"memory_shares are {list(self.memory_shares)}; give at least one above 0, up to 1"
            )
        if not 0 <= self.fewer_devices <= 1:
            raise GraphwrightError(
                f"fewer_devices is {self.fewer_devices}; give a share from 0 to 1"
            )


def draw_styles(
    problem: Problem,
    styles: Int32[np.ndarray, " plans"],
    noise: Noise,
    rng: np.random.Generator,
    greedy: int = 0,
) -> Styles:
    """What each plan is drawn with.

    Args:
        problem: whose devices there are.
        styles: whose weights count, for each plan.
        noise: what is drawn from.
        rng: draws.
        greedy: so many plans, the first ones, take the best device each time, on all devices;
            the very first may fill all memory.
    """
    plans, count = len(styles), problem.cluster.device_count
    fastest = device_order(problem)
    devices = np.ones((plans, count), bool)
    for row in np.flatnonzero(rng.random(plans) < noise.fewer_devices):
        devices[row, fastest[int(rng.integers(1, count + 1)) :]] = False
    drawn = Styles(
        temperature=rng.choice(noise.temperatures, plans).astype(np.float64),
        style=np.array(styles, np.int32),
        memory_share=rng.choice(noise.memory_shares, plans).astype(np.float64),
        devices=devices,
        number=rng.integers(1 << 62, size=plans),
    )
    drawn.temperature[:greedy] = 0.0
    drawn.memory_share[: min(greedy, 1)] = max(noise.memory_shares)
    drawn.devices[:greedy] = True
    return drawn


def pick(styles: Styles, plans: Int64[np.ndarray, " picked"]) -> Styles:
    """The styles of some plans; drawn again with the same seed they give the same."""
    return Styles(*(np.ascontiguousarray(values[plans]) for values in styles))
