"""When each piece of each of several overlapping steps runs, given how long each takes.

A *piece* is a run, send or receive of one step. Pieces of a step are taken in their order; between
steps a device works on the oldest one whose next piece is ready, as the workers do.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from placement.runtime.programs.device_program import DeviceProgram, Receive, Send
from placement.runtime.programs.prediction import overlap
from placement.runtime.programs.replay import Timeline
from simulator.steps import StepSchedule, StepsEvaluation


@dataclass(frozen=True, eq=False)
class StepsTimeline:
    """Begin and end of each piece per device, in seconds."""

    schedule: StepSchedule
    release: Float64[np.ndarray, " steps"]
    begin: tuple[Float64[np.ndarray, "steps _"], ...]
    end: tuple[Float64[np.ndarray, "steps _"], ...]

    def evaluation(self) -> StepsEvaluation:
        """Period and latency; memory is not looked at."""
        return evaluation_of(self.schedule, self.release, self.begin, self.end)

    @property
    def orders(self) -> list[np.ndarray]:
        """Per device, positions of the flattened pieces in the order in which they run."""
        return [np.argsort(begin.ravel(), kind="stable") for begin in self.begin]

    def overlap(self) -> list[Float64[np.ndarray, "steps _"]]:
        """For each piece the mean share of the other devices that are busy while it runs."""
        shares = []
        for share, order, begin in zip(
            overlap(self.in_order()), self.orders, self.begin, strict=True
        ):
            placed = np.empty(len(share))
            placed[order] = share
            shares.append(placed.reshape(begin.shape))
        return shares

    def in_order(self) -> Timeline:
        """All pieces of a device in the order in which they run, as if they were one step."""
        pairs = list(zip(self.begin, self.end, self.orders, strict=True))
        return Timeline(
            tuple(begin.ravel()[order] for begin, _, order in pairs),
            tuple(end.ravel()[order] for _, end, order in pairs),
        )


def evaluation_of(
    schedule: StepSchedule,
    release: Float64[np.ndarray, " steps"],
    begin: Sequence[Float64[np.ndarray, "steps _"]],
    end: Sequence[Float64[np.ndarray, "steps _"]],
) -> StepsEvaluation:
    """What times of pieces come to, in the simulator's terms; memory is not looked at."""
    ends = np.max([last[:, -1] for last in end if last.shape[1]], axis=0, initial=0.0)
    busy = tuple(float((last - first).sum()) for first, last in zip(begin, end, strict=True))
    makespan = float(ends.max() - release.min())
    return StepsEvaluation(schedule, release, ends, makespan, busy, ())


def replay_steps(
    program: DeviceProgram,
    seconds: Sequence[Float64[np.ndarray, "steps _"]],
    schedule: StepSchedule,
    latency_seconds: Float64[np.ndarray, "devices devices"] | None = None,
) -> StepsTimeline:
    """Run overlapping steps on paper.

    Args:
        program: the pieces of one step.
        seconds: per device, how long each piece of each step keeps it busy.
        schedule: how many steps, and how many on the way at once.
        latency_seconds: between the end of a send and the earliest begin of its receive, by
            source and target; none without.
    """
    return _Replay(program, seconds, schedule, latency_seconds).run()


class _Replay:
    """The devices in the middle of it."""

    def __init__(
        self,
        program: DeviceProgram,
        seconds: Sequence[Float64[np.ndarray, "steps _"]],
        schedule: StepSchedule,
        latency: Float64[np.ndarray, "devices devices"] | None,
    ) -> None:
        self.program, self.schedule, self.latency = program, schedule, latency
        count = schedule.steps
        self.seconds = [values.tolist() for values in seconds]
        self.begin = [np.zeros((count, len(pieces))) for pieces in program.steps]
        self.end = [np.zeros((count, len(pieces))) for pieces in program.steps]
        self.working = [at for at, pieces in enumerate(program.steps) if pieces]
        self.position = [[0] * count for _ in program.steps]
        self.on_the_way = [list[int]() for _ in program.steps]
        self.free = [0.0] * len(program.steps)
        self.unfinished = [len(self.working)] * count
        self.ends = [0.0] * count
        self.release = np.zeros(count)
        self.sent: dict[tuple[int, int], float] = {}
        self.looks: list[tuple[float, int]] = []
        """When which device looks for something to do."""

    def run(self) -> StepsTimeline:
        for step in range(self.schedule.most_in_flight if self.working else 0):
            self._let_in(step, 0.0)
        while self.looks:
            now, device = heapq.heappop(self.looks)
            if self.free[device] <= now:
                ready = self._oldest_ready(device, now)
                if ready is not None:
                    self._take(device, ready, now)
        if any(self.unfinished) and self.working:
            raise AssertionError("overlapping steps wait for each other")
        return StepsTimeline(self.schedule, self.release, tuple(self.begin), tuple(self.end))

    def _let_in(self, step: int, now: float) -> None:
        self.release[step] = now
        for device in self.working:
            # It may lie ahead of the devices: what releases a step is known when it begins.
            self.on_the_way[device].append(step)
            heapq.heappush(self.looks, (max(now, self.free[device]), device))

    def _oldest_ready(self, device: int, now: float) -> int | None:
        pieces, position = self.program.steps[device], self.position[device]
        for step in sorted(self.on_the_way[device]):
            piece = pieces[position[step]]
            if self.release[step] > now:
                continue
            if not isinstance(piece, Receive):
                return step
            if self.sent.get((piece.transfer, step), np.inf) <= now:
                return step
        return None

    def _take(self, device: int, step: int, now: float) -> None:
        """Run the next piece of a step."""
        at = self.position[device][step]
        piece = self.program.steps[device][at]
        end = now + self.seconds[device][step][at]
        self.begin[device][step, at], self.end[device][step, at] = now, end
        self.free[device] = end
        self.position[device][step] += 1
        heapq.heappush(self.looks, (end, device))
        if isinstance(piece, Send):
            target = self.program.transfers[piece.transfer].target
            wire = 0.0 if self.latency is None else float(self.latency[device, target])
            self.sent[piece.transfer, step] = end + wire
            heapq.heappush(self.looks, (end + wire, target))
        if self.position[device][step] == len(self.program.steps[device]):
            self.on_the_way[device].remove(step)
            self.unfinished[step] -= 1
            self.ends[step] = max(self.ends[step], end)
            later = step + self.schedule.in_flight
            if not self.unfinished[step] and later < self.schedule.steps:
                self._let_in(later, self.ends[step])
