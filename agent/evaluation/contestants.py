"""The columns of the table: each a way to place a graph, all under the same budget.

Torch is imported for the columns that have networks alone (`needs_torch`).
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agent.baselines.tensorflow_default import tensorflow_default
from agent.config import AgentConfig
from agent.decoding.placer import UNTAUGHT, one_shot_placer
from agent.evaluation.code_digest import code_digest, placement_code
from agent.evaluation.columns import (
    COLUMNS,
    FINE_TUNED,
    GDP,
    GIPH,
    GREEDY,
    HDP,
    ONE_SHOTS,
    PLACETO,
    PUBLISHED,
    TENSORFLOW,
    UNTRAINED,
    ZERO_SHOT,
    column_names,
    column_of,
)
from agent.evaluation.period_columns import deciding_by_period, period_column_names
from agent.placing.policy_placer import PolicyPlacer, untrained_placer, with_starter
from agent.policy.state import EpisodeState, begin
from agent.policy.view import group_instance
from agent.runs.plain_values import to_plain
from envs.actions import action_of
from envs.episodes import Prepared
from envs.instance import Instance
from graphs.errors import GraphwrightError
from placement.heuristics.registry import HEURISTICS
from placement.placer import Budget, Candidate, Placed, Placer, silent
from placement.placers.registry import SEARCHES, get_placer
from placement.problem import Problem
from placement.throughput import Throughput

if TYPE_CHECKING:
    from torch import nn

    from agent.baselines.doppler import DopplerPlacer
    from agent.baselines.giph import GiphPlacer
    from agent.baselines.placeto import PlacetoPlacer
    from agent.policy.network import Policy
    from agent.runs.checkpoint import Checkpoint

#: Added to the seed of a control's network, so that it is not the one that training began with.
_OTHER_NETWORK = 1_000_003
#: Settings of steps that overlap.
_OVERLAP = {"objective", "in_flight", "micro_batches"}


@dataclass(frozen=True)
class Attempt:
    """What a contestant made of a problem."""

    placed: Placed
    raw: Candidate | None = None
    """What the policy itself decided, where a fallback may have replaced it."""
    updates: int = 0
    """Updates of the policy on this graph."""


#: Decide within the budget; the same seed decides the same but for where the budget ends.
Attempting = Callable[[Problem, Budget, int], Attempt]


@dataclass(frozen=True)
class Contestant:
    """One column."""

    name: str
    attempt: Attempting
    policy_digest: str | None = None
    """Digest of the policy that the column uses."""
    updates: int = 0
    """Updates of the policy on each graph, at most."""
    column_digest: str = ""
    """Of what the column is made of, where its name does not say: the configuration of the
    untrained control or of a published placer, the code of a placer that is no column of the
    table."""


def needs_torch(name: str) -> bool:
    """Whether a column has a network, or may have one: placers of other distributions may."""
    return name not in (TENSORFLOW, UNTAUGHT, *HEURISTICS, *SEARCHES)


def contestants(
    names: tuple[str, ...],
    checkpoint: "Checkpoint | None",
    updates: int,
    overlap: Throughput | None = None,
    one_shot: Path | None = None,
) -> tuple[Contestant, ...]:
    """The columns by name, in the order of the table.

    Args:
        names: which; all, or all that need no policy, where empty.
        checkpoint: the policy; the untrained control has its configuration.
        updates: updates of the fine-tuned column.
        overlap: score plans by the period of steps that overlap; the policy must have been trained
            for throughput.
        one_shot: checkpoint or run's folder of the one-shot policy; the shipped one if left out.

    Raises:
        GraphwrightError: an unknown column, or one that needs a policy where there is none.
    """
    for name in names:
        column_of(name)
    known = tuple(COLUMNS) if overlap is None else period_column_names(names)
    wanted = names or tuple(
        name
        for name in known
        if (checkpoint or not column_of(name).uses_policy) and not column_of(name).on_request
    )
    digest = policy_digest(checkpoint.policy, checkpoint.config) if checkpoint else None
    columns = []
    for name in column_names():
        if name not in wanted:
            continue
        if name in ONE_SHOTS:
            columns.append(_one_shot_column(name, one_shot, updates, overlap))
            continue
        column = column_of(name)
        if column.uses_policy and checkpoint is None:
            raise GraphwrightError(f"column {name} needs a trained policy; give --policy")
        columns.append(
            Contestant(
                name,
                _attempting(name, checkpoint, updates, overlap),
                digest if column.uses_policy else None,
                updates if name == FINE_TUNED else 0,
                _column_digest(name, _configured(checkpoint, overlap)),
            )
        )
    return tuple(columns)


def _one_shot_column(
    name: str, folder: Path | None, updates: int, overlap: Throughput | None
) -> Contestant:
    """A column of the one-shot policy.

    Raises:
        GraphwrightError: steps that overlap, which it has not learned to plan; or no policy.
    """
    if overlap is not None:
        raise GraphwrightError(
            f"column {name} decides for the time of one step; leave it out, or --objective"
        )
    placer = one_shot_placer(name, folder, updates)
    digest = None if placer.policy is None else weights_digest(placer.policy)
    settings = json.dumps(to_plain(placer.draw), sort_keys=True).encode()
    return Contestant(
        name,
        lambda problem, budget, seed: _place(placer, problem, budget, seed),
        digest,
        placer.updates,
        hashlib.blake2b(settings + placement_code(), digest_size=8).hexdigest(),
    )


def weights_digest(policy: "nn.Module", settings: bytes = b"") -> str:
    """Sixteen hexadecimal digits that identify weights, and settings that go with them."""
    state = hashlib.blake2b(settings, digest_size=8)
    for name, values in sorted(policy.state_dict().items()):
        state.update(name.encode())
        state.update(np.ascontiguousarray(values.detach().cpu().numpy()).tobytes())
    return state.hexdigest()


def policy_digest(policy: "Policy", config: AgentConfig) -> str:
    """Sixteen hexadecimal digits that identify weights and configuration."""
    return weights_digest(policy, _settings_text(config))


def _settings_text(config: AgentConfig) -> bytes:
    settings = to_plain(config)
    if config.objective == "latency":
        # As before there was a choice, so that rows of earlier runs are known by the same digest.
        settings = {key: value for key, value in settings.items() if key not in _OVERLAP}
    return json.dumps(settings, sort_keys=True).encode()


def _column_digest(name: str, config: AgentConfig) -> str:
    """See `Contestant.column_digest`."""
    if name == UNTRAINED:
        return hashlib.blake2b(_settings_text(config), digest_size=8).hexdigest()
    if name in PUBLISHED:
        settings = json.dumps(to_plain(_published(name).config), sort_keys=True).encode()
        return hashlib.blake2b(settings, digest_size=8).hexdigest()
    return "" if name in COLUMNS else code_digest(get_placer(name))


def _published(name: str) -> "PlacetoPlacer | GiphPlacer | DopplerPlacer":
    """A placer of `PUBLISHED`, by its name."""
    if name == PLACETO:
        from agent.baselines.placeto import PlacetoPlacer

        return PlacetoPlacer()
    if name == GIPH:
        from agent.baselines.giph import GiphPlacer

        return GiphPlacer()
    from agent.baselines.doppler import DopplerPlacer

    return DopplerPlacer()


def _without_policy(name: str) -> Placer:
    """The placer of a column that needs no trained policy."""
    if name == TENSORFLOW:
        return tensorflow_default
    if name == GDP:
        from agent.baselines.gdp import GdpPlacer

        return GdpPlacer()
    if name == HDP:
        from agent.baselines.hdp import HdpPlacer

        return HdpPlacer()
    return _published(name) if name in PUBLISHED else get_placer(name)


def _configured(checkpoint: "Checkpoint | None", overlap: Throughput | None) -> AgentConfig:
    """The policy's configuration, with the steps that overlap."""
    config = checkpoint.config if checkpoint else AgentConfig()
    if overlap is None:
        return config
    return replace(
        config,
        objective="throughput",
        in_flight=overlap.in_flight or 0,
        micro_batches=overlap.micro_batches,
    )


def _attempting(
    name: str, checkpoint: "Checkpoint | None", updates: int, overlap: Throughput | None
) -> Attempting:
    config = _configured(checkpoint, overlap)
    if name == UNTRAINED:
        return lambda problem, budget, seed: _place(
            control(config, seed, checkpoint), problem, budget, seed
        )
    if overlap is not None and not column_of(name).uses_policy:
        decide = deciding_by_period(name, overlap)
        return lambda problem, budget, seed: Attempt(decide(problem, budget, seed))
    if checkpoint is None or not column_of(name).uses_policy:
        placer = _without_policy(name)
        return lambda problem, budget, seed: _place(placer, problem, budget, seed)
    trained = with_starter(PolicyPlacer(checkpoint.policy, config))
    if name == GREEDY:
        return lambda problem, _budget, seed: greedy_attempt(trained, problem, seed)
    if name == ZERO_SHOT:
        return lambda problem, budget, seed: _place(trained, problem, budget, seed)
    return lambda problem, budget, seed: fine_tuned_attempt(
        trained.fine_tuned(updates), problem, budget, seed
    )


def control(config: AgentConfig, seed: int, checkpoint: "Checkpoint | None" = None) -> PolicyPlacer:
    """The policy's loop with a network that has learned nothing, another one for each seed.

    Raises:
        GraphwrightError: the checkpoint given has that very network.
    """
    placer = untrained_placer(config, _OTHER_NETWORK + seed)
    if checkpoint and policy_digest(placer.network, config) == policy_digest(
        checkpoint.policy, config
    ):
        raise GraphwrightError("the policy given is untrained: it is the control's own network")
    return placer


def greedy_attempt(trained: PolicyPlacer, problem: Problem, seed: int) -> Attempt:
    """An episode of as many steps as in training, each taking what the policy thinks best.

    Of its plans the last one counts, and the portfolio's stands where that is worse.
    """
    instance = Instance(problem.graph.name, problem, seed=seed, overlap=trained.config.overlap)
    start = instance.portfolio
    raw = greedy_decision(trained, instance, seed)
    best = min(start, raw, key=lambda item: item.rank_key)
    evaluations = len(instance.heuristic_plans) + trained.config.episode.steps
    return Attempt(Placed(best, (start, raw), evaluations=evaluations), raw)


def greedy_decision(trained: PolicyPlacer, instance: Instance, seed: int) -> Candidate:
    """The plan after the last greedy step."""
    import torch

    from agent.learning.rollout import greedy
    from agent.policy.inputs import collate

    config, episode = trained.config, trained.config.episode
    state = begin(group_instance(Prepared(instance), episode.group_sizes, seed), config.rules)
    for _ in range(state.rules.length):
        batch = collate([state.view(config.policy.reads_trace)], config.policy.segment_ops)
        with torch.no_grad():
            scores = trained.network(batch)
        choices = greedy(state, scores, batch, 0, episode.whole)
        after, _ = state.step([action_of(choices, state.rules.tasks)], config.reward)
        state = state.at(after[0])
    return state.candidate("policy-greedy")


def fine_tuned_attempt(tuned: PolicyPlacer, problem: Problem, budget: Budget, seed: int) -> Attempt:
    """Learn on the graph first, then go on without; the updates that the budget allowed."""
    counter = _UpdateCounter()
    placed = replace(tuned, watch=counter)(problem, budget, seed, silent)
    return Attempt(placed, updates=counter.updates)


class _UpdateCounter:
    """A `Watch` that counts updates."""

    def __init__(self) -> None:
        self.updates = 0

    def __call__(
        self, number: int, state: EpisodeState, update: Mapping[str, float] | None
    ) -> None:
        self.updates += update is not None


def _place(placer: Placer, problem: Problem, budget: Budget, seed: int) -> Attempt:
    return Attempt(placer(problem, budget, seed, silent))
