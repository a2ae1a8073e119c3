"""A policy that learns on the one graph that it is to place, and its control that does not.

Both are what `evaluate` sets beside each other in its columns `fine-tuned` and `zero-shot`: the
same placers, each with the whole budget.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from agent.placing.policy_placer import PolicyPlacer, with_starter
from agent.policy.network import Policy
from agent.policy.state import EpisodeState
from agent.runs.checkpoint import Checkpoint
from agent.runs.tracking.plan_pictures import track_plan
from agent.runs.tracking.tracker import Tracker
from envs.instance import Instance
from placement.place import Placement
from placement.placer import Budget, Candidate, OnProgress, Placed, silent
from placement.placers.warm_up import warm_up
from placement.problem import Problem


@dataclass(frozen=True)
class FineTuneConfig:
    """How long, and how fast."""

    updates: int = 50
    """Updates at most."""
    budget_seconds: float = 120.0
    """CPU seconds, for placing without learning and for fine-tuning each."""
    lr: float | None = None
    """None takes the policy's own."""
    seed: int = 0
    device: str = "cpu"
    """Torch's device for the network, such as cuda."""


@dataclass(frozen=True, eq=False)
class FineTuned:
    """What came of it."""

    placement: Placement
    """The best plan of all."""
    portfolio: Candidate
    zero_shot: Candidate
    """What the policy finds without learning, in the same CPU seconds: the control."""
    fine_tuned: Candidate
    checkpoint: Checkpoint
    updates: int
    """How many the budget allowed."""
    zero_shot_cpu_seconds: float = 0.0
    fine_tuned_cpu_seconds: float = 0.0


def fine_tune(
    problem: Problem,
    checkpoint: Checkpoint,
    config: FineTuneConfig,
    tracker: Tracker,
    on_progress: OnProgress = silent,
) -> FineTuned:
    """Place a graph without learning, then with, each in the whole budget; the policy given is not
    changed.

    Raises:
        InfeasibleError: constraints leave some op no device.
    """
    warm_up()
    # What both share is worked out before either clock runs.
    _ = problem.bounds, problem.simulator.program, problem.unit_allowed, problem.seconds
    kept: list[Policy] = []
    done: list[int] = []

    def watch(number: int, state: EpisodeState, update: Mapping[str, float] | None) -> None:
        if update is not None:
            done.append(number)
        tracker.log(number, _figures(state, update))

    plain = with_starter(
        PolicyPlacer(checkpoint.policy, checkpoint.config, name="zero-shot", device=config.device)
    )
    tuned = replace(
        plain.fine_tuned(config.updates, config.lr),
        name="fine-tuned",
        watch=watch,
        hand_over=kept.append,
    )
    first = Budget(config.budget_seconds)
    zero_shot = plain(problem, first, config.seed, lambda share: on_progress(share / 2))
    control_seconds = first.spent_seconds
    second = Budget(config.budget_seconds)
    learned = tuned(problem, second, config.seed, lambda share: on_progress(0.5 + share / 2))
    learned_seconds = second.spent_seconds
    spent = control_seconds + learned_seconds
    best = min((learned.best, zero_shot.best), key=lambda item: item.rank_key)
    placed = Placed(
        best,
        (learned.candidates[0], zero_shot.best, learned.best),
        learned.progress,
        zero_shot.evaluations + learned.evaluations,
    )
    trace = problem.simulator.trace(best.plan)
    result = FineTuned(
        Placement(problem, placed, trace, "finetune", config.budget_seconds, spent, config.seed),
        learned.candidates[0],
        zero_shot.best,
        learned.best,
        Checkpoint(
            kept[0].cpu() if kept else checkpoint.policy,
            checkpoint.config,
            {
                **checkpoint.about,
                "fine_tuned": {
                    "graph": problem.graph.name,
                    "digest": problem.graph.digest,
                    "cluster": problem.given_cluster.name,
                    "updates": len(done),
                    "seed": config.seed,
                },
            },
        ),
        len(done),
        control_seconds,
        learned_seconds,
    )
    name = f"{problem.graph.name} on {problem.given_cluster.name}"
    track_plan(tracker, Instance(name, problem, seed=config.seed), best.plan, len(done))
    tracker.summary(summary_of(result))
    return result


def summary_of(result: FineTuned) -> dict[str, float]:
    """Step times, and what fine-tuning comes down to."""
    times = {
        "portfolio_seconds": result.portfolio,
        "zero_shot_seconds": result.zero_shot,
        "fine_tuned_seconds": result.fine_tuned,
    }
    return {
        **{name: float(item.evaluation.makespan_seconds) for name, item in times.items()},
        "updates": result.updates,
        "zero_shot_cpu_seconds": result.zero_shot_cpu_seconds,
        "fine_tuned_cpu_seconds": result.fine_tuned_cpu_seconds,
    }


def _figures(state: EpisodeState, update: Mapping[str, float] | None) -> dict[str, float]:
    figures = {
        "step_seconds": float(state.evaluation.makespan_seconds),
        "excess_bytes": float(state.evaluation.excess_bytes),
    }
    return figures | dict(update or {})
