"""What a round of `train` is made of, what it takes to have others work slots out, what follows.

    python -m benchmarks.speed.experience_cost
    python -m benchmarks.speed.experience_cost --without-ray

Rounds of each phase run in one process, where every slot is packed, sent nowhere, worked out and
unpacked as if another process did it. From that, and from what an actor of Ray costs for an empty
task, it works out on paper with how many workers the learner, the process that hands out, and the
network into it would be busy all the time. Writes `benchmarks/results/experience_cost.md`.
"""

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent.config import TrainConfig
from agent.tasks.in_process import InProcess
from agent.tasks.perform import packed, perform, result_of
from agent.tasks.registry import PROCESSES, RAY_ACTORS
from agent.training.loop import Pretraining
from agent.training.phases import PhaseName
from agent.training.workers import Workers
from benchmarks.rows import RESULTS, commit
from benchmarks.speed.task_cost import NETWORKS, WORKERS, Cost, measured
from placement.placers.warm_up import warm_up

#: Shares of the rounds that make all of them rounds of one phase.
SHARES = {PhaseName.MOVES: (1.0, 0.0), PhaseName.OUTCOMES: (0.0, 1.0), PhaseName.POLICY: (0.0, 0.0)}


class Weighed(InProcess):
    """A runner that does tasks here as others would, and keeps what that took."""

    def __init__(self) -> None:
        self.slots = 0
        self.worker_seconds = self.packing_seconds = 0.0
        self.sent_bytes = self.job_bytes = self.result_bytes = 0

    def run(self, job: Any, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Results one after the other; CPU seconds of each side."""
        begun = time.process_time()
        whole = packed(job)
        self.packing_seconds += time.process_time() - begun
        self.job_bytes = len(whole)
        for number, task in enumerate(tasks):
            begun = time.process_time()
            sent = packed(task)
            asked = time.process_time()
            outcome = perform(whole, sent)
            done = time.process_time()
            result = result_of(outcome)
            self.packing_seconds += time.process_time() - done + asked - begun
            self.worker_seconds += done - asked
            self.sent_bytes += len(sent)
            self.result_bytes += len(outcome)
            self.slots += 1
            yield number, result


@dataclass(frozen=True)
class PhaseCost:
    """CPU seconds of rounds of one phase, a round or a slot."""

    name: str
    round_seconds: float
    experience_seconds: float
    """Of a round: graphs, searches, moves tried, plans drawn."""
    worker_seconds: float = 0.0
    """Of a slot, where others work it out."""
    packing_seconds: float = 0.0
    """Of a slot, in the process that hands it out."""
    result_bytes: float = 0.0
    job_bytes: float = 0.0
    """Of what is sent once a round to each machine."""

    @property
    def learn_seconds(self) -> float:
        """Of a round."""
        return self.round_seconds - self.experience_seconds


def phase_cost(config: TrainConfig, name: PhaseName, rounds: int) -> PhaseCost:
    """Rounds of a new run, all of one phase."""
    moves, outcomes = SHARES[name]
    weighed = Weighed()
    run = Pretraining(
        replace(config, move_share=moves, outcome_share=outcomes), Workers(), runner=weighed
    )
    figures = [run.run_round() for _ in range(rounds)]
    experience = sum(one["experience_cpu_seconds"] for one in figures) / rounds
    learning = sum(one["learn_cpu_seconds"] for one in figures) / rounds
    slots = max(weighed.slots, 1)
    return PhaseCost(
        name.value,
        experience + learning,
        experience,
        weighed.worker_seconds / slots,
        weighed.packing_seconds / slots,
        weighed.result_bytes / slots,
        weighed.job_bytes,
    )


def main() -> None:
    """Measure, then write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4, help="of each phase")
    parser.add_argument("--graphs", type=int, default=8, help="of a round")
    parser.add_argument("--max-ops", type=int, default=2000)
    parser.add_argument("--without-ray", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS / "experience_cost.md")
    given = parser.parse_args()
    busy = os.getloadavg()[0]
    warm_up()
    handing = argparse.Namespace(jobs=2, tasks=300, rounds=3)
    names = (PROCESSES,) if given.without_ray else (PROCESSES, RAY_ACTORS)
    costs = [measured(name, handing) for name in names]
    config = TrainConfig(
        graphs_per_batch=given.graphs, max_ops=given.max_ops, threads=1, rounds=1000
    )
    phases = [phase_cost(config, name, given.rounds) for name in SHARES]
    text = page(phases, costs, given, busy)
    given.out.write_text(text, encoding="utf-8")
    print(text)


def page(
    phases: Sequence[PhaseCost], costs: Sequence[Cost], given: argparse.Namespace, busy: float
) -> str:
    """Markdown."""
    config = TrainConfig()
    shares = (
        config.move_share, config.outcome_share, 1 - config.move_share - config.outcome_share,
    )  # fmt: skip
    lines = [
        "# What a round of `train` is made of",
        "",
        f"`python -m benchmarks.speed.experience_cost`, commit {commit()}, {os.cpu_count()} cores, "
        f"load {busy:.1f} before the run. CPU seconds, means of {given.rounds} rounds of "
        f"{given.graphs} graphs of at most {given.max_ops:,} ops, one thread.",
        "",
        "| phase | of the rounds, by default | a round | of it experience | working a slot out "
        "| handing it out | bytes that come back |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for phase, share in zip(phases, shares, strict=True):
        cells = [
            phase.name, f"{share:.0%}", f"{phase.round_seconds:.2f}",
            f"{phase.experience_seconds / phase.round_seconds:.0%}",
        ]  # fmt: skip
        handed = ["-"] * 3
        if phase.result_bytes:
            handed = [
                f"{phase.worker_seconds:.2f}", f"{1e3 * phase.packing_seconds:.1f} ms",
                f"{phase.result_bytes:,.0f}",
            ]  # fmt: skip
        lines.append("| " + " | ".join([*cells, *handed]) + " |")
    lines += [
        "",
        "Experience is what is done before there is anything to learn from: graphs are built, "
        "plans searched, moves tried, plans drawn. Slots of the policy phase are not handed out: "
        "their plans are drawn from what the network says in each of their steps.",
        "",
        "An empty task costs the process that hands it out "
        + ", ".join(f"{1e3 * cost.driver_seconds:.2f} ms of CPU ({cost.name})" for cost in costs)
        + ".",
        "",
        f"## {WORKERS:,} workers, on paper",
        "",
        "With so many workers a part would be busy all the time, if nothing else limits them. No "
        "machine of that size was there.",
        "",
        "| phase | one core that learns | one that hands out | 1 Gbit/s into it | 10 Gbit/s |",
        "|---|---:|---:|---:|---:|",
    ]
    overhead = costs[-1].driver_seconds
    for phase in phases:
        if not phase.result_bytes:
            continue
        learning = "see below"
        if phase.name == PhaseName.OUTCOMES:
            learning = f"{phase.worker_seconds * given.graphs / phase.learn_seconds:,.1f}"
        carried = [rate / phase.result_bytes * phase.worker_seconds for rate in NETWORKS.values()]
        out = phase.worker_seconds / (phase.packing_seconds + overhead)
        cells = [learning, f"{out:,.0f}", *(f"{cell:,.0f}" for cell in carried)]
        lines.append(f"| {phase.name} | " + " | ".join(cells) + " |")
    moves = phases[0]
    least = moves.worker_seconds + moves.learn_seconds
    lines += [
        "",
        "What the first phase learns in a round does not grow with the slots (as many updates on "
        f"as many moves): {moves.learn_seconds:.2f} CPU seconds. A round with a slot for each "
        f"worker takes about {least:.2f} seconds, in {moves.learn_seconds / least:.0%} of which "
        "all workers wait for the learner. Each machine is sent "
        f"{moves.job_bytes:,.0f} bytes a round, network included.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
