"""Runs of `train-one-shot` side by side: what is it worth that one has and another lacks?

    python benchmarks/quality/one_shot_ablation.py runs/full runs/none [--seeds 4]

The last policy of each run on the pairs of both validation suites, with draws that no look of
training had: the best of 64 plans over the control's and over that of the first run. Writes
`results/one_shot_ablation.md`.
"""

import argparse
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from agent.decoding.checkpoint import load_one_shot
from agent.decoding.config import OneShotTraining
from agent.decoding.network import OneShotPolicy
from agent.decoding.sampling import draw_plans, look_at, look_untaught
from agent.decoding.validation import Case, validation_cases
from benchmarks.rows import RESULTS, commit
from placement.suites.ratios import ratio

#: Seeds of training's own looks are below.
_FIRST_SEED = 20
#: As in training's looks: a plan that does not fit has a price, which would drown all others.
_MOST = 1.0


def main() -> None:
    """Look, compare, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=4)
    given = parser.parse_args()
    config = OneShotTraining(validation_seeds=1)
    cases = validation_cases(config)
    seeds = range(_FIRST_SEED, _FIRST_SEED + given.seeds)
    found = {"untaught": energies(None, cases, config, seeds)}
    for run in given.runs:
        checkpoint = load_one_shot(run / "checkpoint")
        policy = OneShotPolicy(checkpoint.training.policy)
        mean = {
            name.removeprefix("average/"): value
            for name, value in (checkpoint.optimizer or {}).items()
            if name.startswith("average/")
        }
        policy.load_state_dict(mean)
        found[f"{run.name}, round {checkpoint.about['round']}"] = energies(
            policy, cases, config, seeds
        )
    lines = [
        "# Parts of the one-shot policy left out",
        "",
        f"`python benchmarks/quality/one_shot_ablation.py {' '.join(map(str, given.runs))} --seeds",
        f"{given.seeds}`, {commit()}.",
        f"{len(cases)} pairs of `validation` and `real-validation`, the best of 64 plans; 95%",
        "intervals (Student's) over pairs.",
        "",
        "| run | over the control | over the first run |",
        "|---|---|---|",
    ]
    names = list(found)
    for name in names[1:]:
        against = [compare(found[name], found[other]) for other in (names[0], names[1])]
        lines.append(f"| {name} | {against[0]} | {'' if name == names[1] else against[1]} |")
    text = "\n".join([*lines, ""])
    (RESULTS / "one_shot_ablation.md").write_text(text, encoding="utf-8")
    print(text)


def energies(
    policy: OneShotPolicy | None, cases: tuple[Case, ...], config: OneShotTraining, seeds: range
) -> Float64[np.ndarray, "pairs seeds"]:
    """Of the best plan of each look, above the portfolio's."""
    rows = []
    for case in cases:
        look = look_untaught(case.subject) if policy is None else look_at(policy, case.subject)
        best = [draw_plans(look, case.subject, config.draw, seed).best.energy for seed in seeds]
        rows.append(np.clip(np.subtract(best, case.portfolio_energy), -_MOST, _MOST))
    return np.array(rows)


def compare(
    ours: Float64[np.ndarray, "pairs seeds"], theirs: Float64[np.ndarray, "pairs seeds"]
) -> str:
    """The geometric mean of ratios, with its interval."""

    def by_pair(table: np.ndarray) -> dict[tuple[str, str], dict[int, float]]:
        return {
            (str(pair), ""): dict(enumerate(np.exp(row).tolist())) for pair, row in enumerate(table)
        }

    item = ratio("ours", "theirs", by_pair(ours), by_pair(theirs))
    return f"{item.geometric_mean:.3f} ({item.low:.3f}-{item.high:.3f})"


if __name__ == "__main__":
    main()
