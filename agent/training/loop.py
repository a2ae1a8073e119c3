"""Pretraining over the graphs of a suite, resumable to the last bit.

Three phases share the rounds (`agent.training.phases`): first the small network learns from the
searches that it guides, then the large one from moves tried at plans that search meets, then, if
rounds are left, the large one by policy gradients.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import process_time
from typing import Any, cast

import torch
from torch import nn

from agent.config import TrainConfig
from agent.learning.moves import Lessons
from agent.policy.network import Policy
from agent.runs.checkpoint import (
    Checkpoint,
    load_checkpoint,
    optimizer_state,
    restore_optimizer,
    save_checkpoint,
)
from agent.runs.plain_values import to_plain
from agent.runs.policy_file import CheckpointError
from agent.runs.run_folder import CHECKPOINT
from agent.runs.tracking.tracker import Tracker
from agent.tasks.task_runner import TaskRunner
from agent.training.batch import Batch
from agent.training.best import LARGE, SMALL
from agent.training.gathering import Gatherer, HandedOut, InTurns
from agent.training.looks import Looks
from agent.training.move_phase import MovePhase
from agent.training.outcome_phase import learn_from_outcomes
from agent.training.phases import Phase, PhaseName, phase_of
from agent.training.policy_phase import learn_policy
from agent.training.starts import Starts
from agent.training.workers import Workers
from placement.placer import OnProgress, silent
from simulator.threads import set_threads


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

    def __init__(
        self,
        config: TrainConfig,
        workers: Workers,
        policy: Policy | None = None,
        runner: TaskRunner | None = None,
    ) -> None:
        """Args:
        runner: works out what slots teach; by default the workers do.
        """
        self.config = config
        self.workers = workers
        self.gatherer: Gatherer = InTurns(workers) if runner is None else HandedOut(workers, runner)
        workers.check_shares(config.graphs_per_batch)
        if config.threads:
            torch.set_num_threads(config.threads)
            set_threads(config.threads)
        torch.manual_seed(config.seed)
        self.policy = (policy or Policy(config.agent.policy)).to(config.device)
        self.network: nn.Module = self.policy
        if config.compile:
            self.network = cast(nn.Module, torch.compile(self.policy, dynamic=True))
        self.optimizer = torch.optim.Adam(
            [value for name, value in self.policy.named_parameters() if "moves." not in name],
            lr=config.agent.ppo.lr,
        )
        self.moves = MovePhase(self.policy.moves)
        self.round = 0
        self.has_learned: set[str] = set()
        """The networks that were trained; see `agent.training.best`."""
        self.rates: dict[str, float] = {}
        """The last learning rate of each phase; none goes up again, whatever rounds are added."""
        self.starts = Starts(config)

    def run_round(self) -> dict[str, float]:
        """An episode in each slot of the batch, with an update per step; returns figures."""
        config = self.config
        before = process_time()
        phase = phase_of(config, self.round)
        batch = Batch(config, self.workers, self.round, self.starts, phase, self.gatherer)
        rate = self._rate(phase)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(config.device.split(":")[0], torch.bfloat16, config.mixed_precision):
            figures = self._learn(batch, rate)
        self.round += 1
        spent = process_time() - before
        figures["learn_cpu_seconds"] = spent - figures["experience_cpu_seconds"]
        figures = self.workers.mean(figures)
        figures["busiest_cpu_seconds"] = self.workers.largest(spent)
        figures["lr"] = rate
        return figures

    def _rate(self, phase: Phase) -> float:
        """The learning rate: in each phase it begins at its full height, and falls."""
        agent = self.config.agent
        if phase.name == PhaseName.MOVES:
            rate = agent.moves.lr * (1 - 0.98 * phase.progress)
        else:
            rate = agent.ppo.lr * (1 - 0.9 * phase.progress)
        self.rates[phase.name] = min(rate, self.rates.get(phase.name, rate))
        return self.rates[phase.name]

    def _learn(self, batch: Batch, rate: float) -> dict[str, float]:
        """What the phase that the run is in makes of a batch."""
        if batch.phase.name == PhaseName.MOVES:
            self.has_learned.add(SMALL)
            return self.moves.learn(batch, rate)
        self.has_learned.add(LARGE)
        if batch.phase.name == PhaseName.OUTCOMES:
            return learn_from_outcomes(self.network, self.optimizer, batch)
        return learn_policy(self.network, self.optimizer, batch)

    def checkpoint(self, about: Mapping[str, Any]) -> Checkpoint:
        """Everything needed to go on."""
        state = optimizer_state(self.policy, self.optimizer)
        state |= optimizer_state(self.policy.moves, self.moves.optimizer, "moves.")
        for slot, lessons in self.moves.lessons.items():
            state[f"lessons/{slot}/features"] = torch.from_numpy(lessons.features)
            state[f"lessons/{slot}/changes"] = torch.from_numpy(lessons.changes)
        train = {
            "round": self.round,
            "train": to_plain(self.config),
            "has_learned": sorted(self.has_learned),
            "rates": {str(name): rate for name, rate in self.rates.items()},
            **about,
        }
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
        restore_optimizer(self.policy.moves, self.moves.optimizer, checkpoint.optimizer, "moves.")
        self.moves.lessons = {
            int(key.split("/")[1]): Lessons(
                value.numpy(), checkpoint.optimizer[key.replace("features", "changes")].numpy()
            )
            for key, value in checkpoint.optimizer.items()
            if key.startswith("lessons/") and key.endswith("/features")
        }
        self.round = int(checkpoint.about["round"])
        self.has_learned = set(checkpoint.about.get("has_learned", (SMALL, LARGE)))
        self.rates = dict(checkpoint.about.get("rates", {}))


def _go_on() -> bool:
    """Never stops."""
    return False


def pretrain(
    config: TrainConfig,
    folder: Path,
    tracker: Tracker,
    resume: Path | None = None,
    on_progress: OnProgress = silent,
    workers: Workers | None = None,
    init: Path | None = None,
    stop: Callable[[], bool] = _go_on,
    runner: TaskRunner | None = None,
) -> Pretrained:
    """Run until `config.rounds`; checkpoints go to `folder / "checkpoint"`, the best on the
    validation suite to `folder / "best"`.

    Args:
        tracker: of the first worker; the others' are told nothing.
        resume: a checkpoint of the same run to go on from.
        init: a checkpoint whose weights to start a new run from.
        stop: asked after each round; a run that stops leaves a checkpoint.
        runner: of this worker, for what slots teach in the first two phases; the run ends the same
            with one as without.

    Raises:
        GraphwrightError: a suite without graphs, a checkpoint that does not fit.
    """
    workers = workers or Workers()
    policy = None if init is None else _weights(init, config)
    run = Pretraining(config, workers, policy, runner)
    looks = Looks(config, workers, folder, tracker)
    if resume is not None:
        checkpoint = load_checkpoint(resume)
        run.restore(checkpoint)
        looks.restore(checkpoint.about, resume.parent)
    elif init is not None:
        run.has_learned = {SMALL, LARGE}
    figures = looks.begin(run) if resume is None else {}
    stopped = False
    while run.round < config.rounds and not stopped:
        told = run.run_round()
        if workers.is_first:
            tracker.log(run.round, told)
            on_progress(run.round / config.rounds)
        stopped = workers.any(stop())
        last = run.round == config.rounds
        if last or run.round % config.validate_every == 0:
            figures = looks.look(run)
        if workers.is_first and (last or stopped or run.round % config.save_every == 0):
            save_checkpoint(folder / CHECKPOINT, run.checkpoint(looks.about))
    return Pretrained(run.policy, run.round, folder, figures)


def _weights(init: Path, config: TrainConfig) -> Policy:
    checkpoint = load_checkpoint(init)
    if checkpoint.config.policy != config.agent.policy:
        raise CheckpointError(f"{init}: its policy is built differently than this run's")
    return checkpoint.policy
