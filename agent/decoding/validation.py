"""How good a one-shot policy is on graphs that it does not learn from, beside its control."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.decoding.config import DrawConfig, OneShotTraining
from agent.decoding.network import OneShotPolicy
from agent.decoding.sampling import Found, draw_plans, greedy_plan, look_at, look_untaught
from agent.decoding.subject import Subject, subject_of
from envs.instance import Instance
from placement.annealing.energy import energy_of_evaluation
from placement.suites import Pair, get_suite


@dataclass(frozen=True, eq=False)
class Case:
    """A graph of the validation suite, and what the portfolio makes of it."""

    pair: Pair
    subject: Subject
    portfolio_energy: float
    untaught: Found
    """What the control finds."""


@dataclass(frozen=True, eq=False)
class Validated:
    """Per graph, the logarithms of step times over the portfolio's."""

    cases: Sequence[Case]
    best: tuple[float, ...]
    greedy: tuple[float, ...]

    @property
    def figures(self) -> dict[str, float]:
        """Geometric means; what does not fit counts at its price. Nothing without graphs."""
        if not self.best:
            return {}
        untaught = [case.untaught.best.energy - case.portfolio_energy for case in self.cases]
        alone = [
            greedy_plan(look_untaught(case.subject), case.subject).energy - case.portfolio_energy
            for case in self.cases
        ]
        return {
            "validation/best_ratio": float(np.exp(np.mean(self.best))),
            "validation/greedy_ratio": float(np.exp(np.mean(self.greedy))),
            "validation/untaught_best_ratio": float(np.exp(np.mean(untaught))),
            "validation/untaught_greedy_ratio": float(np.exp(np.mean(alone))),
        }

    @property
    def rows(self) -> list[Mapping[str, Any]]:
        """A row per graph."""
        return [
            {
                "graph": case.pair.graph_ref,
                "cluster": case.pair.cluster_ref,
                "best_ratio": float(np.exp(best)),
                "greedy_ratio": float(np.exp(greedy)),
                "untaught_ratio": float(np.exp(case.untaught.best.energy - case.portfolio_energy)),
            }
            for case, best, greedy in zip(self.cases, self.best, self.greedy, strict=True)
        ]


def validation_cases(config: OneShotTraining) -> tuple[Case, ...]:
    """Graphs evenly spread over the suite, without single devices and large graphs; their
    portfolios run once."""
    fitting = [
        pair
        for pair in get_suite(config.validation_suite).pairs
        if pair.asked_ops <= config.max_ops and pair.device_count > 1
    ]
    count = min(config.validation_graphs, len(fitting))
    at = np.unique(np.linspace(0, len(fitting) - 1, count).round().astype(int))
    return tuple(_case(fitting[index], config.draw) for index in at)


def validate_one_shot(
    policy: OneShotPolicy, cases: Sequence[Case], draw: DrawConfig, device: str = "cpu"
) -> Validated:
    """One look at each graph; the same seeds each time, so that figures compare."""
    best, greedy = [], []
    for case in cases:
        look = look_at(policy, case.subject, device)
        found = draw_plans(look, case.subject, draw, 1)
        best.append(found.best.energy - case.portfolio_energy)
        greedy.append(greedy_plan(look, case.subject).energy - case.portfolio_energy)
    return Validated(cases, tuple(best), tuple(greedy))


def _case(pair: Pair, draw: DrawConfig) -> Case:
    instance = Instance(pair.graph_ref, pair.problem())
    energy = energy_of_evaluation(instance.portfolio.evaluation)
    subject = subject_of(instance)
    return Case(pair, subject, energy, draw_plans(look_untaught(subject), subject, draw, 1))
