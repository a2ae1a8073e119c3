"""How good a one-shot policy is on graphs that it does not learn from, beside its control."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.decoding.config import OneShotTraining
from agent.decoding.network import OneShotPolicy
from agent.decoding.sampling import Look, draw_plans, greedy_plan, look_at, look_untaught
from agent.decoding.subject import Subject, subject_of
from envs.instance import Instance
from placement.annealing.energy import energy_of_evaluation
from placement.suites import Pair, get_suite

#: Differences of energies beyond this count as this: of a plan that does not fit in memory the
#: energy is a price, and one such plan would drown all others in a mean.
_MOST = 1.0


@dataclass(frozen=True, eq=False)
class Case:
    """A graph of a validation suite, and what the portfolio and the control make of it."""

    pair: Pair
    subject: Subject
    portfolio_energy: float
    untaught_best: float
    """The control's best of a look, a mean over the seeds."""
    untaught_greedy: float


@dataclass(frozen=True, eq=False)
class Validated:
    """Per graph, the energies found; of the best, a mean over the seeds."""

    cases: Sequence[Case]
    best: tuple[float, ...]
    greedy: tuple[float, ...]

    @property
    def figures(self) -> dict[str, float]:
        """Geometric means of step times over the portfolio's, and over the control's. Nothing
        without graphs."""
        if not self.best:
            return {}
        portfolio = [case.portfolio_energy for case in self.cases]
        control = [case.untaught_best for case in self.cases]
        return {
            "validation/best_to_untaught": _ratio(self.best, control),
            "validation/best_ratio": _ratio(self.best, portfolio),
            "validation/greedy_ratio": _ratio(self.greedy, portfolio),
            "validation/untaught_best_ratio": _ratio(control, portfolio),
            "validation/untaught_greedy_ratio": _ratio(
                [case.untaught_greedy for case in self.cases], portfolio
            ),
        }

    @property
    def rows(self) -> list[Mapping[str, Any]]:
        """A row per graph."""
        return [
            {
                "graph": case.pair.graph_ref,
                "cluster": case.pair.cluster_ref,
                "best_ratio": float(np.exp(best - case.portfolio_energy)),
                "greedy_ratio": float(np.exp(greedy - case.portfolio_energy)),
                "untaught_ratio": float(np.exp(case.untaught_best - case.portfolio_energy)),
            }
            for case, best, greedy in zip(self.cases, self.best, self.greedy, strict=True)
        ]


def validation_cases(config: OneShotTraining) -> tuple[Case, ...]:
    """Graphs evenly spread over each of the suites, without single devices and large graphs;
    their portfolios and the control run once."""
    return tuple(
        _case(pair, config) for suite in config.validation_suites for pair in _pairs(suite, config)
    )


def _pairs(suite: str, config: OneShotTraining) -> list[Pair]:
    fitting = [
        pair
        for pair in get_suite(suite).pairs
        if pair.asked_ops <= config.max_ops and pair.device_count > 1
    ]
    count = min(config.validation_graphs, len(fitting))
    at = np.unique(np.linspace(0, len(fitting) - 1, count).round().astype(int))
    return [fitting[index] for index in at]


def validate_one_shot(
    policy: OneShotPolicy, cases: Sequence[Case], config: OneShotTraining
) -> Validated:
    """One look at each graph; the same seeds each time, so that figures compare."""
    looks = [look_at(policy, case.subject, config.device) for case in cases]
    best = [_best(look, case.subject, config) for look, case in zip(looks, cases, strict=True)]
    greedy = [
        greedy_plan(look, case.subject).energy for look, case in zip(looks, cases, strict=True)
    ]
    return Validated(cases, tuple(best), tuple(greedy))


def _case(pair: Pair, config: OneShotTraining) -> Case:
    instance = Instance(pair.graph_ref, pair.problem())
    energy = energy_of_evaluation(instance.portfolio.evaluation)
    subject = subject_of(instance)
    look = look_untaught(subject)
    greedy = greedy_plan(look, subject).energy
    return Case(pair, subject, energy, _best(look, subject, config), greedy)


def _best(look: Look, subject: Subject, config: OneShotTraining) -> float:
    seeds = range(1, config.validation_seeds + 1)
    return float(
        np.mean([draw_plans(look, subject, config.draw, seed).best.energy for seed in seeds])
    )


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return float(np.exp(np.clip(np.subtract(ours, theirs), -_MOST, _MOST).mean()))
