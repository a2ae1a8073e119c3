"""The looks of a run at its validation graphs: what they tell, and the best policy that they keep.

A run looks at its policy before the first round, and tells with every look what a network that has
learned nothing reaches, so that each curve has a line to be read against.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from agent.config import TrainConfig
from agent.policy.network import Policy
from agent.runs.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from agent.runs.policy_file import stored_at
from agent.runs.run_folder import BEST
from agent.runs.tracking.plan_pictures import track_plan
from agent.runs.tracking.tracker import Tracker
from agent.training.best import Best
from agent.training.validation import Validation
from agent.training.workers import Workers

#: The names of figures of a policy that has learned nothing: `validation/untrained_ratio`.
_FIGURE, _UNTRAINED = "validation/", "validation/untrained_"


@runtime_checkable
class Looked(Protocol):
    """What is looked at: a run in progress."""

    policy: Policy
    round: int
    has_learned: set[str]

    def checkpoint(self, about: Mapping[str, Any]) -> Checkpoint:
        """The policy with where it comes from."""
        ...


class Looks:
    """Changes with each look: what is best, and what the last one came to."""

    def __init__(
        self, config: TrainConfig, workers: Workers, folder: Path, tracker: Tracker
    ) -> None:
        self.config = config
        self.workers = workers
        self.folder = folder
        self.tracker = tracker
        self.validation = Validation(config, workers)
        self.best = Best(config.agent)
        self.untrained: dict[str, float] = {}

    @property
    def about(self) -> dict[str, Any]:
        """What a checkpoint keeps, to go on from."""
        return {"best": dict(self.best.ratios), "untrained": dict(self.untrained)}

    def restore(self, about: Mapping[str, Any], run: Path) -> None:
        """Go on from a checkpoint; what was best lies in the run's folder, or in the one that it
        was begun in."""
        self.untrained = dict(about.get("untrained", {})) or self._of_nothing_learned()
        kept = next((at for at in (self.folder / BEST, run / BEST) if stored_at(at).is_dir()), None)
        if kept is not None and "best" in about:
            self.best.restore(load_checkpoint(kept).policy, about["best"])

    def begin(self, run: Looked) -> dict[str, float]:
        """The look before the first round."""
        self.untrained = self._of_nothing_learned(None if run.has_learned else run.policy)
        return self.look(run)

    def look(self, run: Looked) -> dict[str, float]:
        """Validate the policy, tell what it came to, and keep it where it is best; returns figures.

        All workers must look at once.
        """
        validated = self.validation.look(run.policy)
        figures = validated.figures
        better = self.best.offer(run.policy, figures, run.has_learned)
        told = {**figures, **self.untrained}
        if self.workers.is_first:
            self.tracker.log(run.round, told)
            self.tracker.table("validation/graphs", validated.rows, run.round)
            policy = self.best.policy
            if policy is not None and run.has_learned:
                about = run.checkpoint({**told, **self.about}).about
                save_checkpoint(self.folder / BEST, Checkpoint(policy, self.config.agent, about))
            if better and (number := validated.most_improved) is not None:
                instance = self.validation.instance(number)
                track_plan(self.tracker, instance, validated.reached[number].plan, run.round)
        return told

    def _of_nothing_learned(self, policy: Policy | None = None) -> dict[str, float]:
        """What the run's own first network reaches, or another that has learned nothing."""
        if policy is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.config.seed)
                policy = Policy(self.config.agent.policy).to(self.config.device)
        return {
            name.replace(_FIGURE, _UNTRAINED): value
            for name, value in self.validation.look(policy).figures.items()
        }
