"""Pretraining over the graphs of a suite, resumable to the last bit.

First the small network learns from the searches that it guides, then the large one from moves tried
at plans that search meets, then, if rounds are left, the large one by policy gradients.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import process_time
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from agent.config import TrainConfig
from agent.learning.improving import draw_pass, learn
from agent.learning.moves import Lessons, learn_moves, of_kernels, searched, some
from agent.learning.outcomes import annealed, learn_outcomes, try_moves
from agent.learning.ppo import Update
from agent.policy.network import Policy
from agent.policy.state import State, begin
from agent.policy.view import Subject, make_subject
from agent.runs.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    optimizer_state,
    restore_optimizer,
    save_checkpoint,
)
from agent.runs.plain_values import to_plain
from agent.runs.run_folder import BEST, CHECKPOINT
from agent.runs.tracking.plan_pictures import track_plan
from agent.runs.tracking.tracker import Tracker
from agent.training.validation import validate
from agent.training.workers import Workers
from envs.episodes import Episodes, episodes_from
from graphs.errors import GraphwrightError
from placement.annealing.overlay import overlaid
from placement.placer import Report, silent
from placement.suites import get_suite


@dataclass(frozen=True, eq=False)
class Pretrained:
    """What a run ends with."""

    policy: Policy
    rounds: int
    folder: Path
    validation: Mapping[str, float] = field(default_factory=dict)


class Pretraining:
    """One run: the state that changes is the policy, the optimizer and the round.

    All draws come from (seed, round, slot), so that an interrupted run that is resumed ends with
    the same policy as one that was not, and so do one worker and several.
    """

    def __init__(self, config: TrainConfig, workers: Workers, policy: Policy | None = None) -> None:
        self.config = config
        self.workers = workers
        workers.check_shares(config.graphs_per_batch)
        if config.threads:
            torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.policy = (policy or Policy(config.agent.policy)).to(config.device)
        self.network: nn.Module = self.policy
        if config.compile:
            self.network = cast(nn.Module, torch.compile(self.policy, dynamic=True))
        self.optimizer = torch.optim.Adam(
            [value for name, value in self.policy.named_parameters() if "moves." not in name],
            lr=config.agent.ppo.lr,
        )
        self.move_optimizer = torch.optim.Adam(self.policy.moves.parameters())
        self.lessons: dict[int, Lessons] = {}
        self.round = 0
        self.episodes = training_episodes(config)
        self._subjects: OrderedDict[int, Subject] = OrderedDict()

    def run_round(self) -> dict[str, float]:
        """An episode in each slot of the batch, with an update per step; returns figures."""
        config = self.config
        own = range(self.workers.rank, config.graphs_per_batch, self.workers.count)
        before = process_time()
        states = [self._begin(slot) for slot in own]
        prepared = process_time()
        rate = config.agent.ppo.lr * (1 - 0.9 * self.round / config.rounds)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        guides, progress = config.agent.guides_search, self.round / config.rounds
        with torch.autocast(config.device.split(":")[0], torch.bfloat16, config.mixed_precision):
            if guides and progress < config.move_share:
                figures = self._learn_moves(states)
            elif guides and progress < config.move_share + config.outcome_share:
                figures = self._learn_outcomes(states)
            else:
                figures = self._learn_policy(states)
        self.round += 1
        figures = self.workers.mean(figures)
        figures["lr"] = rate
        figures["prepare_cpu_seconds"] = prepared - before
        figures["learn_cpu_seconds"] = process_time() - prepared
        return figures

    def _learn_moves(self, states: Sequence[State]) -> dict[str, float]:
        """Search from each state, guided by the small network, and learn from all that was tried
        so far."""
        config, agent = self.config, self.config.agent
        network, improving, logs = self.policy.moves, [], []
        slots = range(self.workers.rank, config.graphs_per_batch, self.workers.count)
        room = max(agent.moves.remembered // config.graphs_per_batch, 1)
        for slot, state, rng in zip(slots, states, self._generators(0, len(states)), strict=True):
            problem, hierarchy = state.instance.problem, state.subject.groups.hierarchy
            plan, mark = state.plan, state.instance.reference_seconds
            if rng.random() < agent.moves.fused_share:
                problem, hierarchy, plan = of_kernels(problem, plan, config.seed)
                mark = problem.evaluate(plan).makespan_seconds
            lessons, chain = searched(
                network,
                problem,
                hierarchy,
                plan,
                agent.guide.guidance,
                agent.guide.start_temperature,
                agent.moves,
                rng,
            )
            if rng.random() < agent.moves.overlaid_share:
                later, chain = searched(
                    network,
                    problem,
                    overlaid(problem, hierarchy, chain.best_devices, [plan.devices]),
                    chain.best_plan,
                    agent.guide.guidance,
                    agent.guide.start_temperature * agent.guide.reheat,
                    agent.moves,
                    rng,
                )
                lessons = lessons.and_then(later, room)
            self.lessons[slot] = self.lessons.get(slot, Lessons.none()).and_then(lessons, room)
            improving.append(lessons.improving.mean() if len(lessons.changes) else 0.0)
            logs.append(chain.best_energy - np.log(mark))
        if not network.is_standardised:
            seen = np.concatenate([self.lessons[slot].features for slot in slots])
            if len(seen := self.workers.gathered(seen)):  # single devices teach nothing
                network.standardise(seen.astype(np.float32))
        last = max(config.move_share * config.rounds, 1)
        rate = agent.moves.lr * (1 - 0.98 * min(self.round / last, 1.0))
        for group in self.move_optimizer.param_groups:
            group["lr"] = rate
        figures: list[dict[str, float]] = []
        each = max(agent.moves.batch // config.graphs_per_batch, 1)
        for step in range(agent.moves.updates):
            batches = [
                some(self.lessons[slot], each, rng)
                for slot, rng in zip(slots, self._generators(step + 1, len(states)), strict=True)
            ]
            figures.append(
                learn_moves(
                    network,
                    self.move_optimizer,
                    batches,
                    agent.moves,
                    config.device,
                    each * config.graphs_per_batch,
                )
            )
        return {
            "improving_share": float(np.mean(improving)),
            "log_against_portfolio": float(np.mean(logs)),
            "move_lr": rate,
            "lessons": float(sum(len(lessons.changes) for lessons in self.lessons.values())),
            **{key: float(np.mean([one[key] for one in figures])) for key in figures[0]},
        }

    def _learn_outcomes(self, states: Sequence[State]) -> dict[str, float]:
        """Try moves at states that search meets, and learn which of them improve."""
        config = self.config
        found: list[dict[str, float]] = []
        for step in range(config.agent.episode.steps):
            rngs = self._generators(step, len(states))
            outcomes = [
                try_moves(state, config.agent.policy.reads_trace, config.agent.outcomes, rng)
                for state, rng in zip(states, rngs, strict=True)
            ]
            figures = learn_outcomes(
                self.network,
                self.optimizer,
                outcomes,
                config.agent.outcomes,
                config.agent.policy.segment_ops,
                config.agent.ppo.max_grad_norm,
                config.graphs_per_batch,
                config.device,
            )
            gains = np.concatenate([item.gains for item in outcomes])
            better = gains > config.agent.outcomes.least_gain
            found.append({**figures, "improving_share": float(better.mean()) if len(gains) else 0})
            if step + 1 < config.agent.episode.steps:
                states = [
                    annealed(state, config.agent.outcomes, rng)
                    for state, rng in zip(states, rngs, strict=True)
                ]
        return {key: float(np.mean([one[key] for one in found])) for key in found[0]}

    def _learn_policy(self, states: Sequence[State]) -> dict[str, float]:
        """PPO on episodes of a few passes, each from the best plan of the pass before."""
        config = self.config
        before = np.array([state.energy for state in states])
        updates: list[Update] = []
        better: list[float] = []
        for step in range(config.agent.episode.steps):
            rngs = self._generators(step, len(states))
            passed = draw_pass(self.network, config.agent, states, rngs, config.device)
            updates.append(
                learn(
                    self.network,
                    self.optimizer,
                    config.agent,
                    passed,
                    self.round / config.rounds,
                    config.graphs_per_batch,
                )
            )
            better.extend(float(one.improving.mean()) for one in passed.rollouts)
            states = passed.best
        after = np.array([state.energy for state in states])
        marks = np.array([state.instance.reference_energy for state in states])
        means = {
            key: float(np.mean([getattr(one, key) for one in updates]))
            for key in ("loss", "entropy", "kl", "clipped_share", "grad_norm", "epochs")
        }
        return {
            "improving_share": float(np.mean(better)),
            "log_gain": float((before - after).mean()),
            "log_against_portfolio": float((after - marks).mean()),
            **means,
        }

    def _generators(self, step: int, count: int) -> list[np.random.Generator]:
        """One per slot of this worker, the same whoever else there is."""
        slots = range(self.workers.rank, self.config.graphs_per_batch, self.workers.count)
        assert len(slots) == count
        return [np.random.default_rng([self.config.seed, self.round, k, 1 + step]) for k in slots]

    def checkpoint(self, about: Mapping[str, Any]) -> Checkpoint:
        """Everything needed to go on."""
        state = optimizer_state(self.policy, self.optimizer)
        state |= optimizer_state(self.policy.moves, self.move_optimizer, "moves.")
        for slot, lessons in self.lessons.items():
            state[f"lessons/{slot}/features"] = torch.from_numpy(lessons.features)
            state[f"lessons/{slot}/changes"] = torch.from_numpy(lessons.changes)
        train = {"round": self.round, "train": to_plain(self.config), **about}
        return Checkpoint(self.policy, self.config.agent, train, state)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint.

        Raises:
            CheckpointError: it holds a policy alone, or another kind of network.
        """
        if checkpoint.optimizer is None or "round" not in checkpoint.about:
            raise CheckpointError("the checkpoint holds a policy, but no state to resume from")
        if checkpoint.config.policy != self.config.agent.policy:
            raise CheckpointError("the checkpoint's policy is built differently than this run's")
        self.policy.load_state_dict(checkpoint.policy.state_dict())
        restore_optimizer(self.policy, self.optimizer, checkpoint.optimizer)
        restore_optimizer(self.policy.moves, self.move_optimizer, checkpoint.optimizer, "moves.")
        self.lessons = {
            int(key.split("/")[1]): Lessons(
                value.numpy(), checkpoint.optimizer[key.replace("features", "changes")].numpy()
            )
            for key, value in checkpoint.optimizer.items()
            if key.startswith("lessons/") and key.endswith("/features")
        }
        self.round = int(checkpoint.about["round"])

    def _begin(self, slot: int) -> State:
        config, episode = self.config, self.config.agent.episode
        rng = np.random.default_rng([config.seed, self.round, slot, 0])
        index = int(rng.integers(len(self.episodes)))
        subject = self._subject(index)
        plans = subject.instance.heuristic_plans
        which = 0
        if rng.random() >= episode.portfolio_share:
            which = int(rng.integers(min(_STARTS, len(plans))))
        start = None if episode.from_scratch else plans[which].plan
        return begin(subject, config.agent.rules, start)

    def _subject(self, index: int) -> Subject:
        if index not in self._subjects:
            prepared = self.episodes.at(index)
            self._subjects[index] = make_subject(
                prepared, self.config.agent.episode.group_sizes, self.config.seed
            )
        self._subjects.move_to_end(index)
        while len(self._subjects) > _KEPT_SUBJECTS:
            self._subjects.popitem(last=False)
        return self._subjects[index]


#: How many of the portfolio's best plans training begins at.
_STARTS = 4
_KEPT_SUBJECTS = 600


def training_episodes(config: TrainConfig) -> Episodes:
    """The pairs of the suite whose graphs are small enough; unread models count as such."""
    suite = get_suite(config.suite, config.clusters)
    pairs = [pair for pair in suite.pairs if pair.asked_ops <= config.max_ops]
    if not pairs:
        raise GraphwrightError(
            f"suite {suite.name} has no graph of at most {config.max_ops} ops; raise max_ops"
        )
    return episodes_from(pairs=pairs, seed=config.seed)


def _go_on() -> bool:
    """Never stops."""
    return False


def pretrain(
    config: TrainConfig,
    folder: Path,
    tracker: Tracker,
    resume: Path | None = None,
    report: Report = silent,
    workers: Workers | None = None,
    init: Path | None = None,
    stop: Callable[[], bool] = _go_on,
) -> Pretrained:
    """Run until `config.rounds`; checkpoints go to `folder / "checkpoint"`, the best on the
    validation suite to `folder / "best"`.

    Args:
        tracker: of the first worker; the others' are told nothing.
        resume: a checkpoint of the same run to go on from.
        init: a checkpoint whose weights to start a new run from.
        stop: asked after each round; a run that stops leaves a checkpoint.

    Raises:
        GraphwrightError: a suite without graphs, a checkpoint that does not fit.
    """
    crew = workers or Workers()
    run = Pretraining(config, crew, None if init is None else _weights(init, config))
    best: float | None = None
    figures: dict[str, float] = {}
    if resume is not None:
        found = load_checkpoint(resume)
        run.restore(found)
        best = found.about.get("best_validation")
    stopped = False
    while run.round < config.rounds and not stopped:
        told = run.run_round()
        if crew.is_first:
            tracker.log(run.round, told)
            report(run.round / config.rounds)
        stopped = crew.any(stop())
        last = run.round == config.rounds
        if last or run.round % config.validate_every == 0:
            validated = validate(run.policy, config)
            figures = validated.figures
            ratio = figures.get("validation/ratio", np.inf)
            better = ratio < (np.inf if best is None else best)
            best = ratio if better else best
            if crew.is_first:
                tracker.log(run.round, figures)
                tracker.table("validation/graphs", validated.rows, run.round)
                if better and (shown := validated.most_improved) is not None:
                    about = run.checkpoint({**figures, "best_validation": best}).about
                    save_checkpoint(folder / BEST, Checkpoint(run.policy, config.agent, about))
                    track_plan(tracker, shown.instance, shown.plan, run.round)
        if crew.is_first and (last or stopped or run.round % config.save_every == 0):
            save_checkpoint(folder / CHECKPOINT, run.checkpoint({"best_validation": best}))
    return Pretrained(run.policy, run.round, folder, figures)


def _weights(init: Path, config: TrainConfig) -> Policy:
    found = load_checkpoint(init)
    if found.config.policy != config.agent.policy:
        raise CheckpointError(f"{init}: its policy is built differently than this run's")
    return found.policy
