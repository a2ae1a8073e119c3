"""Where the episodes of a training run begin."""

from collections import OrderedDict

import numpy as np

from agent.config import TrainConfig
from agent.policy.state import EpisodeState, begin
from agent.policy.view import GroupedInstance, group_instance
from envs.episodes import Episodes, episodes_from
from graphs.errors import GraphwrightError
from placement.suites import get_suite

#: How many of the portfolio's best plans training begins at.
_STARTS = 4
_KEPT_SUBJECTS = 600


class Starts:
    """Draws the first state of a slot's episode; keeps the graphs that were drawn last."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.episodes = training_episodes(config)
        self._subjects: OrderedDict[int, GroupedInstance] = OrderedDict()

    def draw(self, number: int, slot: int) -> EpisodeState:
        """The first state of a slot in round `number`: the same whenever it is asked for."""
        config, episode = self.config, self.config.agent.episode
        rng = np.random.default_rng([config.seed, number, slot, 0])
        index = int(rng.integers(len(self.episodes)))
        subject = self._subject(index)
        plans = subject.instance.heuristic_plans
        which = 0
        if rng.random() >= episode.portfolio_share:
            which = int(rng.integers(min(_STARTS, len(plans))))
        start = None if episode.from_scratch else plans[which].plan
        return begin(subject, config.agent.rules, start)

    def _subject(self, index: int) -> GroupedInstance:
        if index not in self._subjects:
            prepared = self.episodes.at(index)
            self._subjects[index] = group_instance(
                prepared, self.config.agent.episode.group_sizes, self.config.seed
            )
        self._subjects.move_to_end(index)
        while len(self._subjects) > _KEPT_SUBJECTS:
            self._subjects.popitem(last=False)
        return self._subjects[index]


def training_episodes(config: TrainConfig) -> Episodes:
    """The pairs of the suite whose graphs are small enough; unread models count as such."""
    suite = get_suite(config.suite, config.clusters)
    pairs = [pair for pair in suite.pairs if pair.asked_ops <= config.max_ops]
    if not pairs:
        raise GraphwrightError(
            f"suite {suite.name} has no graph of at most {config.max_ops} ops; raise max_ops"
        )
    return episodes_from(pairs=pairs, seed=config.seed, overlap=config.agent.overlap)
