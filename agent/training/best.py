"""The best policy of a run, put together of its two networks as they did best, each by its own
measure.

A network that did as well as before is taken as it is now, so that what a measure cannot tell apart
is never older than it need be. One that has not learned anything is kept only until the first look
at one that has: it is there to compare with, not to be used.
"""

from collections.abc import Collection, Mapping

from torch import Tensor

from agent.config import AgentConfig
from agent.policy.network import Policy
from agent.training.validation import PROPOSALS, RATIO, SEARCH, SMALL_NETWORK

#: The two networks of a policy that guides search.
SMALL, LARGE = "small", "large"
_MEASURES: Mapping[str, str] = {SMALL: SEARCH, LARGE: PROPOSALS}


class Best:
    """What was kept so far; changes with each offer."""

    def __init__(self, config: AgentConfig) -> None:
        self.config = config
        self.ratios: dict[str, float] = {}
        """What each network was measured to reach, of those that had learned."""
        self._state: dict[str, Tensor] = {}

    @property
    def policy(self) -> Policy | None:
        """The networks that did best together; None before any was offered."""
        if not self._state:
            return None
        policy = Policy(self.config.policy)
        policy.load_state_dict(self._state)
        return policy

    def restore(self, policy: Policy, ratios: Mapping[str, float]) -> None:
        """Go on from what was kept before."""
        self._state = _copied(policy)
        self.ratios = dict(ratios)

    def offer(
        self, policy: Policy, figures: Mapping[str, float], has_learned: Collection[str]
    ) -> bool:
        """Take over each network that is no worse than the best so far.

        Args:
            policy: as it is now.
            figures: of its validation; nothing is taken over without any.
            has_learned: the networks that were trained.

        Returns:
            Whether one that was trained is strictly better.
        """
        better = False
        offered = _copied(policy) if figures else {}
        for network, measure in self._measures.items():
            learned = network in has_learned
            now, before = figures.get(measure), self.ratios.get(network)
            if now is None or (before is not None and (not learned or now > before)):
                continue
            self._state |= {
                name: value for name, value in offered.items() if self._owns(network, name)
            }
            if learned:
                better |= before is None or now < before
                self.ratios[network] = now
        return better

    @property
    def _measures(self) -> Mapping[str, str]:
        """The figure that each network is judged by; without guided search there is but one."""
        return _MEASURES if self.config.guides_search else {LARGE: RATIO}

    def _owns(self, network: str, name: str) -> bool:
        if not self.config.guides_search:
            return True
        return name.startswith(SMALL_NETWORK) == (network == SMALL)


def _copied(policy: Policy) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in policy.state_dict().items()}
