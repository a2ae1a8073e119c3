"""Training the one-shot policy on the stream, resumable to the last bit."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import torch

from agent.decoding.checkpoint import OneShotCheckpoint, load_one_shot, save_one_shot
from agent.decoding.config import OneShotTraining
from agent.decoding.learning import learn_from_plans
from agent.decoding.network import LEVEL_HEADS, OneShotPolicy
from agent.decoding.stream import draw_draft
from agent.decoding.subject import ALL_TASKS, Subject, make_subject
from agent.decoding.validation import validate_one_shot, validation_cases
from agent.runs.checkpoint import optimizer_state, restore_optimizer
from agent.runs.policy_file import CheckpointError
from agent.runs.run_folder import BEST, CHECKPOINT
from agent.runs.tracking.tracker import Tracker
from agent.training.workers import Workers
from graphs.errors import GraphwrightError

#: The policy that is looked at and kept is a mean over about so many rounds.
_AVERAGED_ROUNDS = 100
_AVERAGE = "average/"
#: The rate falls to this share of what it was at first.
_LAST_RATE = 0.05


@dataclass(frozen=True, eq=False)
class Trained:
    """What a run ends with."""

    policy: OneShotPolicy
    """The mean over the last rounds."""
    rounds: int
    folder: Path
    figures: Mapping[str, float] = field(default_factory=dict)
    """Of the last look at the validation suite."""


class _Pool:
    """The pairs of the stream that are at hand in a round; those drawn last stay in memory."""

    def __init__(self, config: OneShotTraining) -> None:
        self.config = config
        self._subjects: OrderedDict[int, Subject] = OrderedDict()

    def draw(self, number: int, slot: int) -> Subject:
        """The subject of a slot in round `number`: the same whenever it is asked for."""
        config = self.config
        came = int(number * config.learn.graphs * config.fresh)
        rng = np.random.default_rng([config.seed, number, slot, 3])
        subject = self._subject(came + int(rng.integers(config.kept)))
        decides_all = rng.random() < config.all_tasks_share
        return replace(subject, rules=ALL_TASKS) if decides_all else subject

    def _subject(self, index: int) -> Subject:
        if index not in self._subjects:
            draft = draw_draft(self.config.stream, self.config.seed, index)
            self._subjects[index] = make_subject(draft.name, draft.problem(), self.config.seed)
        self._subjects.move_to_end(index)
        while len(self._subjects) > self.config.kept:
            self._subjects.popitem(last=False)
        return self._subjects[index]


class _Run:
    """The state that changes: the policy, the optimizer and the round.

    All draws come from (seed, round, slot), so that an interrupted run that is resumed ends with
    the same policy as one that was not.
    """

    def __init__(
        self, config: OneShotTraining, workers: Workers, policy: OneShotPolicy | None
    ) -> None:
        self.config, self.workers = config, workers
        workers.check_shares(config.learn.graphs)
        if config.threads:
            torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.policy = (policy or OneShotPolicy(config.policy)).to(config.device)
        for name, parameter in self.policy.named_parameters():
            parameter.requires_grad_(not config.learn.levels_alone or name.startswith(LEVEL_HEADS))
        self.optimizer = torch.optim.Adam(
            [own for own in self.policy.parameters() if own.requires_grad],
            lr=config.learn.lr,
            betas=(0.9, 0.98),
        )
        self.average = deepcopy(self.policy)
        self.pool = _Pool(config)
        self.round = 0

    def run_round(self) -> dict[str, float]:
        """A batch of graphs; returns figures."""
        config, begun = self.config, process_time()
        rate = config.learn.lr * max(1 - self.round / config.rounds, _LAST_RATE)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        own = range(self.workers.rank, config.learn.graphs, self.workers.count)
        subjects = [self.pool.draw(self.round, slot) for slot in own]
        prepared = process_time()
        rngs = [np.random.default_rng([config.seed, self.round, slot, 4]) for slot in own]
        learned = learn_from_plans(
            self.policy, self.optimizer, subjects, rngs, config.learn, config.device
        )
        self.round += 1
        self._average()
        figures = self.workers.mean(learned.figures)
        figures["lr"] = rate
        figures["prepare_cpu_seconds"] = prepared - begun
        figures["learn_cpu_seconds"] = process_time() - prepared
        return figures

    def _average(self) -> None:
        """Take the policy into the mean: of gradients from few graphs each, the last weights are
        noise in part (Polyak and Juditsky 1992)."""
        share = max(1 / self.round, 1 / _AVERAGED_ROUNDS)
        with torch.no_grad():
            for mean, own in zip(self.average.parameters(), self.policy.parameters(), strict=True):
                mean.lerp_(own, share)

    def checkpoint(self, about: Mapping[str, Any]) -> OneShotCheckpoint:
        """Everything needed to go on."""
        state = optimizer_state(self.policy, self.optimizer)
        state |= {f"{_AVERAGE}{name}": value for name, value in self.average.state_dict().items()}
        return OneShotCheckpoint(self.policy, self.config, {"round": self.round, **about}, state)

    def restore(self, checkpoint: OneShotCheckpoint) -> None:
        """Go on from a checkpoint.

        Raises:
            CheckpointError: it holds a policy alone, or another kind of network.
        """
        if checkpoint.optimizer is None:
            raise CheckpointError("the checkpoint holds a policy, but no state to resume from")
        if checkpoint.training.policy != self.config.policy:
            raise CheckpointError("the checkpoint's policy is built differently than this run's")
        self.policy.load_state_dict(checkpoint.policy.state_dict())
        moments = {
            name: value
            for name, value in checkpoint.optimizer.items()
            if not name.startswith(_AVERAGE)
        }
        restore_optimizer(self.policy, self.optimizer, moments)
        self.average.load_state_dict(
            {
                name.removeprefix(_AVERAGE): value
                for name, value in checkpoint.optimizer.items()
                if name.startswith(_AVERAGE)
            }
        )
        self.round = int(checkpoint.about["round"])


def _go_on() -> bool:
    """Never stops."""
    return False


def train_one_shot(
    config: OneShotTraining,
    folder: Path,
    tracker: Tracker,
    resume: Path | None = None,
    init: Path | None = None,
    workers: Workers | None = None,
    stop: Callable[[], bool] = _go_on,
) -> Trained:
    """Run until `config.rounds`; checkpoints go to `folder / "checkpoint"`, the best on the
    validation suite to `folder / "best"`.

    Args:
        config: all settings.
        folder: of the run.
        tracker: of the first worker; the others' are told nothing.
        resume: a checkpoint of the same run to go on from.
        init: a checkpoint whose weights to start a new run from.
        workers: processes that share each batch.
        stop: asked after each round; a run that stops leaves a checkpoint.

    Raises:
        GraphwrightError: a suite without graphs, a checkpoint that does not fit.
    """
    workers = workers or Workers()
    run = _Run(config, workers, None if init is None else _weights(init, config))
    best: float | None = None
    if resume is not None:
        checkpoint = load_one_shot(resume)
        run.restore(checkpoint)
        best = checkpoint.about.get("best_validation")
    cases = validation_cases(config) if workers.is_first else ()
    if workers.is_first and not cases:
        raise GraphwrightError(
            f"suites {', '.join(config.validation_suites)} have no graph of at most "
            f"{config.max_ops} ops on several devices; raise max_ops"
        )
    figures: dict[str, float] = {}
    stopped = False
    while run.round < config.rounds and not stopped:
        told = run.run_round()
        last = run.round == config.rounds
        stopped = workers.any(stop())
        if not workers.is_first:
            continue
        tracker.log(run.round, told)
        if last or run.round % config.validate_every == 0:
            validated = validate_one_shot(run.average, cases, config)
            figures = validated.figures
            tracker.log(run.round, figures)
            tracker.table("validation/graphs", validated.rows, run.round)
            ratio = figures["validation/best_to_untaught"]
            if best is None or ratio <= best:
                best = ratio
                about = {"round": run.round, "best_validation": best, **figures}
                save_one_shot(folder / BEST, OneShotCheckpoint(run.average, config, about))
        if last or stopped or run.round % config.save_every == 0:
            save_one_shot(folder / CHECKPOINT, run.checkpoint({"best_validation": best}))
    return Trained(run.average, run.round, folder, figures)


def _weights(init: Path, config: OneShotTraining) -> OneShotPolicy:
    checkpoint = load_one_shot(init)
    if checkpoint.training.policy != config.policy:
        raise CheckpointError(f"{init}: its policy is built differently than this run's")
    return checkpoint.policy
