"""Where the episodes of a training run begin."""

from collections import OrderedDict

import numpy as np

from agent.config import TrainConfig
from agent.policy.state import EpisodeState, begin
from agent.policy.view import GroupedInstance, group_instance
from envs.episodes import Episodes, episodes_from
from graphs.errors import GraphwrightError
from placement.problem import Problem
from placement.suites import Pair, get_suite

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
        index, rng = self._index(number, slot)
        subject = self._subject(index)
        plans = subject.instance.heuristic_plans
        which = 0
        if rng.random() >= episode.portfolio_share:
            which = int(rng.integers(min(_STARTS, len(plans))))
        start = None if episode.from_scratch else plans[which].plan
        return begin(subject, config.agent.rules, start)

    def source(self, number: int, slot: int) -> Pair | Problem:
        """The graph and cluster of a slot in round `number`; nothing is built."""
        return self.episodes.sources[self._index(number, slot)[0]]

    def asked(self, number: int, slot: int) -> tuple[int, int]:
        """About how many ops that graph has, 1 where nothing is known, and how many devices."""
        source = self.source(number, slot)
        if isinstance(source, Pair):
            return max(source.asked_ops, 1), source.device_count
        return source.graph.op_count, source.cluster.device_count

    def _index(self, number: int, slot: int) -> tuple[int, np.random.Generator]:
        """Which source, and the random numbers from there on."""
        rng = np.random.default_rng([self.config.seed, number, slot, 0])
        return int(rng.integers(len(self.episodes))), rng

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
