"""All placers by name: heuristics and search, and policies where one is at hand."""

from pathlib import Path
from typing import TYPE_CHECKING

from graphs.errors import GraphwrightError
from graphs.file_presence import is_file
from placement.placer import Placer
from placement.placers.registry import PLACERS
from placement.placers.registry import get_placer as plain_placer

if TYPE_CHECKING:
    from agent.config import AgentConfig
    from agent.runs.checkpoint import Checkpoint
    from agent.runs.unbuilt_policy import UnbuiltPolicy

POLICY, UNTRAINED = "policy", "policy-untrained"
#: Placers of the one-shot policy (`agent.decoding.placer`): the policy, one plan of it, its
#: control, the policy with updates on the graph, and with as many plans but no update.
ONE_SHOTS = (
    "one-shot",
    "one-shot-greedy",
    "one-shot-untaught",
    "one-shot-tuned",
    "one-shot-more",
)

#: Where the policy is that comes with the package, if one does.
SHIPPED = Path(__file__).parent.parent / "pretrained"


def placer_names() -> tuple[str, ...]:
    """All of them; `policy` needs a checkpoint where none is shipped."""
    return (*PLACERS, POLICY, UNTRAINED, *ONE_SHOTS)


def default_placer() -> str:
    """What `place` uses when nothing is asked for."""
    return POLICY if has_shipped_policy() else "search"


def placer_of(policy: Path) -> str:
    """The placer that a checkpoint or a run's folder is for."""
    from agent.decoding.placer import ONE_SHOT, policy_at
    from agent.runs.policy_file import ONE_SHOT_META as META

    return ONE_SHOT if is_file(policy_at(policy) / META) else POLICY


def has_shipped_policy() -> bool:
    return (SHIPPED / "policy.json").is_file()


def get_placer(name: str, policy: Path | None = None) -> Placer:
    """A placer by name, for the time of one step.

    Torch is imported only where a network is built, and a search that a policy guides needs none.

    Args:
        policy: a checkpoint or a run's folder, for `policy` and `policy-untrained`; of
            `train-one-shot` for the placers that begin with `one-shot`.

    Raises:
        GraphwrightError: no placer of that name, no policy to use, or one trained for throughput.
    """
    if name == POLICY:
        from agent.placing.policy_placer import PolicyPlacer, with_starter

        unbuilt = _find_policy(policy)
        return with_starter(PolicyPlacer(unbuilt, unbuilt.config))
    if name == UNTRAINED:
        return _make_untrained(policy)
    if name in ONE_SHOTS:
        from agent.decoding.placer import one_shot_placer

        return one_shot_placer(name, policy)
    if name not in PLACERS:
        raise GraphwrightError(f"unknown placer {name!r}; there are {', '.join(placer_names())}")
    return plain_placer(name)


def load_policy(policy: Path | None, objective: str | None = None) -> "Checkpoint":
    """A policy's checkpoint: the one given, the best of a run, or the one that is shipped.

    Args:
        objective: what it must have been trained for; None takes any.

    Raises:
        GraphwrightError: there is none, it cannot be read, or it has another objective.
    """
    from agent.runs.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(_folder_of(policy))
    _require_objective(checkpoint.config, objective, policy)
    return checkpoint


def _find_policy(policy: Path | None) -> "UnbuiltPolicy":
    """The same for the time of one step, with the large network left on disk."""
    from agent.runs.unbuilt_policy import find_policy

    unbuilt = find_policy(_folder_of(policy))
    _require_objective(unbuilt.config, "latency", policy)
    return unbuilt


def _folder_of(policy: Path | None) -> Path:
    if policy is None and not has_shipped_policy():
        raise GraphwrightError(
            "which policy? None comes with this version; give --policy with a checkpoint or a "
            "run's folder: `graphwright train --out runs/mine` makes one"
        )
    return SHIPPED if policy is None else policy_folder(policy)


def _require_objective(config: "AgentConfig", objective: str | None, policy: Path | None) -> None:
    trained_for = config.objective
    if objective is not None and trained_for != objective:
        whose = "the policy that comes with this version" if policy is None else f"policy {policy}"
        raise GraphwrightError(
            f"{whose} was trained for {trained_for}, not for {objective}: ask for --objective "
            f"{trained_for}, or train another with `graphwright train --objective {objective}`"
        )


def policy_folder(path: Path) -> Path:
    """The best policy of a run's folder, else its last; any other path stands for itself."""
    from agent.runs.policy_file import META, stored_at
    from agent.runs.run_folder import RunFolder

    run = RunFolder(path)
    if not is_file(run.config_file) or is_file(path / META):
        return path
    return next((at for at in (run.best, run.checkpoint) if stored_at(at).is_dir()), path)


def _make_untrained(policy: Path | None) -> Placer:
    """A network that has learned nothing, built like the policy that is at hand."""
    from agent.config import AgentConfig
    from agent.placing.policy_placer import untrained_placer

    config = AgentConfig()
    if policy is not None or has_shipped_policy():
        config = _find_policy(policy).config
    return untrained_placer(config, seed=0, name=UNTRAINED)
