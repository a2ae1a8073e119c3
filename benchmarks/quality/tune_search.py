"""The search's temperature and move mix on a few pairs of the validation suite.

    python benchmarks/quality/tune_search.py [--budget 10] [--pairs 6] [--seeds 2] [--out FILE.md]

Prints, per setting, the geometric mean of step time over the portfolio's, and the time of the
pairs in simulated milliseconds. Held-out suites play no part.
"""

import argparse
import sys
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

from placement.place import place_problem
from placement.placers.registry import get_placer
from placement.placers.search import SearchConfig, search
from placement.problem import Problem
from placement.suites import Headroom, get_suite

TEMPERATURES = (0.0005, 0.002, 0.006, 0.02)
NEIGHBOUR_SHARES = (0.0, 0.5, 0.9)


def main() -> None:
    """Print the table and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", type=float, default=10.0)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    pairs = [p for p in get_suite("validation").pairs if p.headroom is not Headroom.NONE]
    chosen = pairs[:: max(1, len(pairs) // arguments.pairs)][: arguments.pairs]
    problems = [pair.problem() for pair in chosen]
    floors = [makespan(problem, "portfolio", None, 0.0, 0) for problem in problems]
    lines = [
        f"`{' '.join(['python', *sys.argv])}`: {len(problems)} pairs, {arguments.seeds} seeds",
        "",
        "| start temperature | neighbour share | search / portfolio |",
        "|---|---|---|",
    ]
    for temperature, share in product(TEMPERATURES, NEIGHBOUR_SHARES):
        config = SearchConfig(temperature, share)
        ratios = [
            makespan(problem, "search", config, arguments.budget, seed) / floor
            for problem, floor in zip(problems, floors, strict=True)
            for seed in range(arguments.seeds)
        ]
        lines.append(f"| {temperature} | {share} | {np.exp(np.mean(np.log(ratios))):.4f} |")
        print(lines[-1], flush=True)
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n")


def makespan(
    problem: Problem, name: str, config: SearchConfig | None, budget: float, seed: int
) -> float:
    """Simulated seconds of the plan found."""
    placer = get_placer(name) if config is None else partial(search, config=config)
    return place_problem(problem, placer, name, budget, seed).trace.makespan_seconds


if __name__ == "__main__":
    main()
