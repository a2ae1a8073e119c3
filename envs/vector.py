"""Many plans of one graph at a time, scored in one call."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate
from jaxtyping import Bool, Float64

from envs.environment import GraphEnv, course, draw, instance_info, picture, step_info
from envs.episodes import Prepared
from envs.errors import ActionError, EpisodeError
from envs.features.observation import Observation
from envs.instance_actions import InstanceActions
from envs.rules import Progress, advance, begin, observe_progress
from envs.spaces import as_space_sample

Batch = tuple[
    Any,
    Float64[np.ndarray, " plans"],
    Bool[np.ndarray, " plans"],
    Bool[np.ndarray, " plans"],
    dict[str, Any],
]


class BatchedEnv(VectorEnv[Any, Any, Any]):
    """`num_envs` episodes on one instance; all end at once and go on with the next instance.

    A sub-environment behaves as a `GraphEnv` of the same settings does.
    """

    def __init__(self, num_envs: int = 1, final_observations: bool = True, **settings: Any) -> None:
        """Make a batch.

        Args:
            num_envs: plans per instance and step.
            final_observations: whether `final_obs` shows the last plans' traces. They cost many
                times more than scoring the plans; without them `final_obs` is left out.
            settings: see `GraphEnv`.

        Raises:
            EpisodeError: settings that do not go together.
            GraphwrightError: what the source names cannot be found or read.
        """
        if num_envs < 1:
            raise EpisodeError(f"num_envs={num_envs}; give at least one")
        self._single = GraphEnv(**settings)
        self.num_envs = num_envs
        self.final_observations = final_observations
        self.metadata = {**GraphEnv.metadata, "autoreset_mode": AutoresetMode.SAME_STEP}
        self.render_mode = self._single.render_mode
        self.rules, self.reward = self._single.rules, self._single.reward
        self.episodes = self._single.episodes
        self.single_action_space: gymnasium.Space[Any] = self._single.action_space
        self.single_observation_space: gymnasium.Space[Any] = self._single.observation_space
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._prepared: Prepared | None = None
        self._progress: list[Progress] = []
        self.observations: tuple[Observation, ...] = ()
        """What was observed last, an object for each sub-environment."""

    @property
    def prepared(self) -> Prepared:
        """The instance that all are on."""
        if self._prepared is None:
            raise EpisodeError("no episode has begun; call reset() first")
        return self._prepared

    @property
    def progress(self) -> tuple[Progress, ...]:
        """Where each episode stands."""
        return tuple(self._progress)

    def go_on_from(self, progress: Progress) -> Any:
        """Let all episodes go on from one state of the instance at hand; returns what they observe.

        For agents that try many actions and keep the best: `env.go_on_from(env.progress[best])`, or
        the state before where all were worse. The step counts all the same.

        Raises:
            EpisodeError: no episode has begun.
        """
        if self._prepared is None:
            raise EpisodeError("no episode has begun; call reset() first")
        self._progress = [progress.at_step(self._progress[0].taken)] * self.num_envs
        return self._observe()

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Draw an instance and begin; there is one seed, as there is one instance."""
        first = seed[0] if isinstance(seed, list) else seed
        super().reset(seed=first, options=options)
        self._begin(options)
        return self._observe(), self._instance_infos()

    def step(self, actions: Any) -> Batch:
        """Decide for all; where episodes end the next begin in the same step.

        Raises:
            ActionError: an action that is not in the action space of this graph.
        """
        chosen = self._each(actions)
        self._progress, scores = advance(
            self.prepared, self.rules, self._progress, chosen, self.reward
        )
        is_over = self._progress[0].taken == self.rules.length
        infos: dict[str, Any] = {}
        for index in range(self.num_envs):
            info = {
                **instance_info(self.prepared),
                **step_info(self.prepared, scores, index),
            }
            if is_over:
                info = {"final_info": info}
            infos = self._add_info(infos, info, index)
        if is_over:
            if self.final_observations:
                for index, sample in enumerate(self._samples()):
                    infos = self._add_info(infos, {"final_obs": sample}, index)
            self._begin(None)
            infos = {**infos, **self._instance_infos()}
        ends = np.full(self.num_envs, is_over)
        return self._observe(), scores.rewards.copy(), ends, np.zeros_like(ends), infos

    def render(self) -> tuple[Any, ...]:
        """What each plan that ran last looks like."""
        return tuple(
            picture(self.render_mode, self.prepared, progress.plan) for progress in self._progress
        )

    def _begin(self, options: dict[str, Any] | None) -> None:
        self._prepared = draw(self.episodes, self.np_random, options)
        start = begin(self._prepared, self.rules, (options or {}).get("start"))
        self._progress = [start] * self.num_envs
        if isinstance(self.action_space, gymnasium.spaces.Tuple):
            for space in (self.single_action_space, *self.action_space.spaces):
                if isinstance(space, InstanceActions):
                    space.follow(self._prepared.instance.problem)

    def _each(self, actions: Any) -> list[Any]:
        is_array = isinstance(actions, np.ndarray)
        if isinstance(self.single_action_space, gymnasium.spaces.Sequence) or not is_array:
            chosen = list(actions)
        else:
            chosen = list(iterate(self.action_space, actions))
        if len(chosen) != self.num_envs:
            raise ActionError(f"{len(chosen)} actions for {self.num_envs} environments")
        return chosen

    def _samples(self) -> list[dict[str, Any]]:
        # Before anything is decided all see the same; one observation serves all.
        seen: dict[int, Observation] = {}
        for progress in self._progress:
            if id(progress) not in seen:
                seen[id(progress)] = observe_progress(self.prepared, progress)
        self.observations = tuple(seen[id(progress)] for progress in self._progress)
        return [
            {
                **as_space_sample(observation, self.episodes.max_devices),
                **course(self.rules, progress.taken),
            }
            for observation, progress in zip(self.observations, self._progress, strict=True)
        ]

    def _observe(self) -> Any:
        space = self.single_observation_space
        empty: Any = create_empty_array(space, self.num_envs)
        return concatenate(space, self._samples(), empty)

    def _instance_infos(self) -> dict[str, Any]:
        infos: dict[str, Any] = {}
        for index in range(self.num_envs):
            infos = self._add_info(infos, instance_info(self.prepared), index)
        return infos
