"""A graph on a cluster as the one-shot policy meets it: what it sees, and its decoder.

Nothing here needs torch but `collate_choices`, which lays out what the network reads.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int32

from envs.episodes import Prepared
from envs.features.observation import Observation, observe
from envs.instance import Instance
from envs.rules import NO_START, Rules
from envs.tasks import Task
from placement.annealing.hierarchy import build_hierarchy
from placement.decoding.drawing import Decoder, make_decoder, untaught_scorer
from placement.decoding.styles import Noise, draw_styles
from placement.priorities import upward_ranks
from placement.problem import Problem
from simulator.plan import Plan

if TYPE_CHECKING:
    import torch

    from agent.decoding.network import ChoiceInput

#: Devices alone are decided, in one step from nothing.
PLACEMENT_ALONE = Rules((Task.PLACEMENT,), 1, NO_START)
#: Priorities and kernels too.
ALL_TASKS = Rules((Task.PLACEMENT, Task.SCHEDULING, Task.FUSION), 1, NO_START)


@dataclass(frozen=True, eq=False)
class Subject:
    """What all looks at an instance share."""

    prepared: Prepared
    decoder: Decoder
    rules: Rules = PLACEMENT_ALONE
    """What is decided: devices alone, or all three."""

    @property
    def decides_all(self) -> bool:
        """Whether priorities and kernels are decided too."""
        return len(self.rules.tasks) > 1

    @property
    def instance(self) -> Instance:
        return self.prepared.instance

    @cached_property
    def observation(self) -> Observation:
        """The graph and the cluster, before any plan has run."""
        return observe(self.instance, None, self.prepared.static)

    @cached_property
    def regions(self) -> Int32[np.ndarray, "levels choices"]:
        """Groups of choices that are redrawn together, from a few large ones to many small ones,
        each level numbered from 0."""
        problem = self.instance.problem
        labels = build_hierarchy(problem, self.instance.seed).labels
        rows = labels[: max(len(labels) - 1, 1), self.decoder.choices.decider]
        numbered = [np.unique(row, return_inverse=True)[1] for row in rows]
        return np.stack(numbered).astype(np.int32)


def make_subject(
    name: str,
    problem: Problem,
    seed: int,
    mark: Plan | None = None,
    rules: Rules = PLACEMENT_ALONE,
) -> Subject:
    """Lay a problem out; no heuristic runs.

    Args:
        mark: the plan that rewards are relative to; the first plan of a decoder that has learned
            nothing where it is left out.
        rules: what is decided.
    """
    decoder = make_decoder(problem)
    instance = Instance(name, problem, seed=seed, given_mark=mark or unlearned_plan(decoder))
    return Subject(Prepared(instance), decoder, rules)


def subject_of(instance: Instance, rules: Rules = PLACEMENT_ALONE) -> Subject:
    """The same of an instance that is there already, with its own mark."""
    decoder = make_decoder(instance.problem)
    if instance.given_mark is None:
        instance = replace(instance, given_mark=unlearned_plan(decoder))
    return Subject(Prepared(instance), decoder, rules)


def unlearned_plan(decoder: Decoder) -> Plan:
    """The plan of the first style, with nothing learned and nothing drawn."""
    problem = decoder.problem
    styles = draw_styles(problem, np.zeros(1, np.int32), Noise(), np.random.default_rng(0), 1)
    devices = decoder.devices(decoder.draw(untaught_scorer(decoder), styles, 0).chosen[0])
    return Plan.of(devices, upward_ranks(problem, devices))


def collate_choices(subjects: Sequence[Subject], segment_ops: int) -> "ChoiceInput":
    """Lay graphs and their choices end to end."""
    import torch

    from agent.decoding.network import ChoiceInput
    from agent.policy.inputs import collate_graphs

    graphs = collate_graphs([subject.observation for subject in subjects], segment_ops)
    choices = [subject.decoder.choices for subject in subjects]
    first_op = np.concatenate([[0], np.cumsum([len(item.choice_of) for item in choices])])
    counts = np.concatenate([np.bincount(item.choice_of, minlength=item.count) for item in choices])

    def end_to_end(parts: Sequence[np.ndarray]) -> "torch.Tensor":
        shifted = [part + first for part, first in zip(parts, first_op[:-1], strict=True)]
        return torch.from_numpy(np.concatenate(shifted).astype(np.int64))

    return ChoiceInput(
        graphs,
        end_to_end([np.argsort(item.choice_of, kind="stable") for item in choices]),
        torch.from_numpy(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)),
        end_to_end([item.decider for item in choices]),
        torch.from_numpy(np.repeat(np.arange(len(choices)), [item.count for item in choices])),
    )


def op_slices(subjects: Sequence[Subject]) -> list[slice]:
    """Where each graph's ops lie in a batch."""
    ends = np.cumsum([len(subject.decoder.choices.choice_of) for subject in subjects]).tolist()
    return [slice(begin, end) for begin, end in zip([0, *ends[:-1]], ends, strict=True)]


def choice_slices(subjects: Sequence[Subject]) -> list[slice]:
    """Where each graph's choices lie in a batch."""
    ends = np.cumsum([subject.decoder.choices.count for subject in subjects]).tolist()
    return [slice(begin, end) for begin, end in zip([0, *ends[:-1]], ends, strict=True)]
