"""Search whose moves a policy proposes: annealing between passes of the network.

The network reads the trace of the plan at hand and scores every move of every group; annealing
tries the likely ones, each once, among moves drawn at random; after a while the network looks
again. Evaluations take a tenth of a millisecond, a pass tens of milliseconds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from agent.config import AgentConfig, GuideConfig
from agent.policy.choices import log_chances
from agent.policy.inputs import PolicyInput, collate
from agent.policy.network import Scores
from agent.rollout import task_scores
from agent.state import State, decided_plan
from envs.tasks import Task
from placement.anneal import Annealer, Chain, Proposals
from placement.placer import Budget
from placement.search import DEFAULT as SEARCH
from simulator.plan import Plan

_FIRST_EVALUATIONS = 50


def proposals(
    scores: Scores,
    batch: PolicyInput,
    state: State,
    config: GuideConfig,
    rng: np.random.Generator,
) -> Proposals | None:
    """All moves of a single graph's groups in a drawn order, likely ones first; none twice.

    Each level is as likely as the others. The order is that of draws without replacement
    (Kool et al., arXiv 1903.06059): log chances plus Gumbel noise, sorted. None where no move is
    possible.
    """
    offsets = state.subject.groups.level_offsets
    groups, devices, chances = [], [], []
    for first, last in pairwise(offsets.tolist()):
        mine = task_scores(Task.PLACEMENT, scores[Task.PLACEMENT], batch, first, last, False)
        chance = log_chances(config.sharpness * mine.double(), whole=False).numpy()[0]
        possible = np.flatnonzero(np.isfinite(chance))
        group, device = np.divmod(possible, mine.shape[1])
        groups.append(group + first)
        devices.append(device)
        chances.append(chance[possible])
    log_chance = np.concatenate(chances)
    if not log_chance.size:
        return None
    order = np.argsort(-(log_chance + rng.gumbel(size=log_chance.size)), kind="stable")
    return Proposals(
        np.concatenate(groups)[order].astype(np.int32),
        np.concatenate(devices)[order].astype(np.int32),
        config.share,
    )


@dataclass(frozen=True, eq=False)
class Guided:
    """What a guided search ends with."""

    chain: Chain
    passes: int

    @property
    def best_plan(self) -> Plan:
        """The best plan that was met."""
        return _plan(self.chain.best_devices, self.chain.best_ranks)


def guided_search(
    policy: nn.Module,
    state: State,
    budget: Budget,
    seed: int,
    config: AgentConfig,
    on_pass: Callable[[Guided], None],
    max_passes: int | None = None,
    evaluations_per_pass: int = _FIRST_EVALUATIONS,
) -> Guided:
    """Anneal from a state until the budget or the passes are spent.

    Args:
        on_pass: told after each pass.
        max_passes: with a limit, each pass is followed by just `evaluations_per_pass` proposals,
            so that the result does not depend on the clock; without, by as many as keep the
            network's share of the time.
    """
    guide = config.guide
    annealer = Annealer(
        state.instance.problem, state.subject.groups.hierarchy, SEARCH.neighbour_share
    )
    chain = annealer.start(state.plan.devices, state.plan.ranks, seed)
    begun, span = budget.spent_seconds, max(budget.left_seconds, 1e-9)
    passes, moves = 0, evaluations_per_pass
    rng = np.random.default_rng([seed, 3])
    while not budget.is_spent and (max_passes is None or passes < max_passes):
        before = budget.spent_seconds
        batch = collate([state.view(config.policy.reads_trace)], config.policy.segment_ops)
        with torch.no_grad():
            found = proposals(policy(batch), batch, state, guide, rng)
        if found is None:
            break
        looked = budget.spent_seconds
        if max_passes is not None:
            heat = guide.start_temperature * (1 - passes / max_passes)
            chain = annealer.advance(chain, evaluations_per_pass, heat, found)
        else:
            wanted = (looked - before) * (1 / guide.network_share - 1)
            while not budget.is_spent and budget.spent_seconds - looked < wanted:
                now = budget.spent_seconds
                left = max(1 - (now - begun) / span, 0.0)
                chain = annealer.advance(chain, moves, guide.start_temperature * left, found)
                found = found.after(chain.proposed)
                spent = budget.spent_seconds
                pace = max(spent - now, 1e-5) / moves
                ahead = min(wanted - (spent - looked), budget.left_seconds, span / _STEPS)
                moves = int(np.clip(ahead / pace, 10, 4 * moves))
        passes += 1
        chain = annealer.reprioritised(chain)
        on_pass(Guided(chain, passes))
        state = decided_plan(state, _plan(chain.devices, chain.ranks))
    return Guided(chain, passes)


#: Temperature falls in at least so many steps.
_STEPS = 100


def _plan(devices: np.ndarray, ranks: np.ndarray) -> Plan:
    return Plan.of(devices, -ranks.astype(np.float64))
