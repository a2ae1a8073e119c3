"""Moves per CPU second of a search: as it is, and with every plan simulated to its end.

    python -m benchmarks.speed.moves [--moves 300] [--repeats 3] [--out FILE.md]

On graphs of more than 4,000 ops, from the plan of a short search, at a third of the temperature
that a search begins with. Plain annealing and annealing that the shipped policy guides; what is
left out changes no decision of plain annealing, which is checked. Both kinds take turns.
"""

import argparse
import os
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from agent.config import AgentConfig
from agent.placing.registry import load_policy
from benchmarks.rows import commit
from graphs.bundled_graphs import bundled_names, load_bundled
from graphs.catalogue import resolve
from placement.annealing.anneal import Annealer, Chain
from placement.annealing.feature_memo import make_memo
from placement.annealing.guided_anneal import GuidedAnnealer, Harvest
from placement.annealing.hierarchy import build_hierarchy
from placement.annealing.move_features import MOVE_COLUMNS
from placement.annealing.move_scorer import MoveScorer
from placement.place import place_problem
from placement.placers.registry import get_placer
from placement.problem import Problem
from placement.suites.pair import Headroom, Pair
from simulator.cluster_file import load_cluster
from simulator.event_engine.most_memory import most_memory

CLUSTER = "4xv100-pcie"
LEAST_OPS = 4_000
REAL = ("real/deberta-v3-base", "real/pnasnet5large-train", "real/whisper-tiny-train")
#: Generated, with memory in which everything that a device ever holds fits at once.
ROOMY = ("transformer:7:16000", "moe:7:8000")
HEAT = 1 / 3
#: Groups of so many ops are remembered: none.
_NEVER = 1 << 30


@dataclass(frozen=True)
class Row:
    """What was measured on one graph, CPU seconds of an evaluation."""

    name: str
    ops: int
    fits: bool
    accepted: tuple[float, float]
    """Share of evaluations, of plain annealing and guided."""
    whole: tuple[float, float]
    now: tuple[float, float]
    before: tuple[float, float]
    """Share of the step that is over when the first op starts that a move takes elsewhere."""


def main() -> None:
    """Print the table and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moves", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    checkpoint = load_policy(None, "latency")
    scorer, config = checkpoint.policy.moves.as_scorer(), checkpoint.config
    rows = []
    for problem in problems():
        rows.append(measure(problem, scorer, config, arguments.moves, arguments.repeats))
        print(rows[-1], flush=True)
    text = table(rows, arguments.moves, arguments.repeats, load)
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


def problems() -> list[Problem]:
    """Graphs of more than 4,000 ops: bundled, of the real suites, and with much memory."""
    roomy, tight = load_cluster(f"{CLUSTER}@1TiB"), f"{CLUSTER}@tight:1.3"
    bundled = [load_bundled(name) for name in bundled_names()]
    found = [Problem(graph, load_cluster(CLUSTER)) for graph in bundled]
    found += [Pair(name, tight, Headroom.TIGHT_MEMORY).problem() for name in REAL]
    found += [Problem(resolve(name), roomy) for name in ROOMY]
    large = [problem for problem in found if problem.graph.op_count > LEAST_OPS]
    return sorted(large, key=lambda problem: problem.graph.op_count)


def measure(
    problem: Problem, scorer: MoveScorer, config: AgentConfig, moves: int, repeats: int
) -> Row:
    """Both kinds of annealing, each in both ways, in turns."""
    plan = place_problem(problem, get_placer("search"), "search", 5.0, 0).plan
    annealer = Annealer(problem, build_hierarchy(problem, 0))
    whole = replace(annealer, whole=True)
    temperature = HEAT * config.guide.start_temperature
    ways = [Way(annealer, None, config), Way(whole, None, config)]
    ways += [Way(annealer, scorer, config), Way(whole, scorer, config)]
    seconds: list[list[float]] = [[] for _ in ways]
    ends: list[Chain] = []
    for repeat in range(repeats + 1):
        start = annealer.start(plan.devices, plan.ranks, repeat)
        for way, times in zip(ways, seconds, strict=True):
            begun = time.process_time()
            end = way.advance(start, moves if repeat else 2, temperature)
            if repeat:
                times.append((time.process_time() - begun) / max(end.evaluations, 1))
                ends.append(end)
    for now, then in zip(ends[0::4], ends[1::4], strict=True):
        assert np.array_equal(now.devices, then.devices)
        assert now.energy == then.energy
    shares = [
        statistics.mean(end.accepted / max(end.evaluations, 1) for end in ends[kind::4])
        for kind in (0, 2)
    ]
    fast, slow, guided, guided_slow = (statistics.median(times) for times in seconds)
    return Row(
        problem.graph.name,
        problem.graph.op_count,
        fits_at_once(annealer, plan.devices),
        (shares[0], shares[1]),
        (slow, guided_slow),
        (fast, guided),
        (
            first_start(annealer, start, scorer, config, 1.0),
            first_start(annealer, start, scorer, config, None),
        ),
    )


def first_start(
    annealer: Annealer,
    chain: Chain,
    scorer: MoveScorer,
    config: AgentConfig,
    random_share: float | None,
) -> float:
    """Mean share of the step that is over when the first op of a move starts, over 300 moves."""
    guidance = config.guide.guidance
    if random_share is not None:
        guidance = replace(guidance, random_share=random_share)
    harvest = Harvest(np.zeros((300, len(MOVE_COLUMNS)), np.float32), np.zeros(300, np.float32))
    GuidedAnnealer(annealer, scorer, guidance).advance(chain, 300, 0.0, HEAT, harvest)
    return float(harvest.features[:, MOVE_COLUMNS.index("first_start")].mean())


@dataclass(frozen=True)
class Way:
    """A kind of annealing."""

    annealer: Annealer
    scorer: MoveScorer | None
    """Guides it, where it is guided."""
    config: AgentConfig

    def advance(self, chain: Chain, moves: int, temperature: float) -> Chain:
        """A chain's next moves; a guided chain remembers nothing of the ones before."""
        if self.scorer is None:
            return self.annealer.advance(chain, moves, temperature)
        guided = GuidedAnnealer(self.annealer, self.scorer, self.config.guide.guidance)
        if self.annealer.whole:
            memo = make_memo(self.annealer.hierarchy, _NEVER)
            object.__setattr__(guided, "_guide", guided._guide._replace(memo=memo))
        return guided.advance(chain, moves, temperature, HEAT)


def fits_at_once(annealer: Annealer, devices: np.ndarray) -> bool:
    """Whether all that each device ever holds fits at the same time."""
    capacity = np.array(annealer.problem.cluster.memory_bytes)
    most = np.zeros_like(capacity)
    program = annealer.problem.simulator.program.arrays
    most_memory(program, devices.copy(), most, np.zeros_like(capacity))
    return bool((most <= capacity).all())


def table(rows: list[Row], moves: int, repeats: int, load: float) -> str:
    """All rows, and the geometric means of the ratios."""
    lines = [
        "# Moves per CPU second of a search",
        "",
        f"`python -m benchmarks.speed.moves --moves {moves} --repeats {repeats}`, commit "
        f"{commit()}, load {load:.1f} before the run. CPU microseconds of an evaluation, medians:",
        "where every plan is simulated to its end with its memory, and as a search does it. Fits:",
        "whether all that each device ever holds fits at once.",
        "",
        "| graph | ops | fits | plain: accepted | whole | now | times as many | guided: accepted "
        "| whole | now | times as many |",
        "|" + "---|" * 11,
    ]
    for row in rows:
        cells = [row.name, f"{row.ops:,}", "yes" if row.fits else "no"]
        for kind in range(2):
            slow, fast = row.whole[kind], row.now[kind]
            cells += [f"{row.accepted[kind]:.0%}", f"{slow * 1e6:.0f}", f"{fast * 1e6:.0f}"]
            cells.append(f"{slow / fast:.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "Geometric means of how many times as many moves there are:", ""]
    for fits, which in ((True, "all fits at once"), (False, "memory is followed")):
        ratios = np.array(
            [np.divide(row.whole, row.now) for row in rows if row.fits is fits] or [(1.0, 1.0)]
        )
        plain, guided = np.exp(np.log(ratios).mean(axis=0))
        lines.append(f"- where {which}: {plain:.2f} plain, {guided:.2f} guided")
    plain, guided = np.mean([row.before for row in rows], axis=0)
    lines += [
        "",
        f"When the first op starts that a move takes elsewhere, {plain:.0%} of the step are over "
        f"(guided: {guided:.0%}), means: what could be kept of the simulation before.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
