"""The environment: decide for every op at once, see what came of it, decide again."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from envs.actions import action_space
from envs.episodes import Episodes, Prepared, episodes_from
from envs.errors import EpisodeError
from envs.evaluator import MakeEvaluator, simulated
from envs.features.observation import Observation
from envs.instance_actions import InstanceActions
from envs.overlapping import overlap_of
from envs.rewards import Reward, get_reward
from envs.rules import NO_START, Progress, Rules, advance, begin, observe_progress
from envs.scoring import Scores
from envs.spaces import as_space_sample, observation_space
from envs.tasks import Task
from graphs.graph import Graph
from placement.problem import Problem
from placement.suites import Pair
from simulator.clusters.cluster import Cluster
from simulator.plan import Plan
from simulator.traces.trace import Trace

RENDER_MODES = ("ansi", "rgb_array")


@dataclass(frozen=True, eq=False)
class TraceOnDemand:
    """Runs a plan once more to tell what happens, when called; equal where the plan is."""

    prepared: Prepared = field(repr=False)
    plan: Plan

    def __call__(self) -> Trace:
        return self.prepared.instance.evaluator.trace(self.plan)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TraceOnDemand) and self.plan == other.plan

    def __hash__(self) -> int:
        return hash(self.plan)


class GraphEnv(gymnasium.Env[dict[str, Any], Any]):
    """One graph on one cluster per episode; an action decides for the whole graph.

    docs/environments.md says all this at length.

    Action space:
        One choice per op and task: a device, or a level from 0 to 20. Where graphs differ in size,
        samples are of the episode's graph (`InstanceActions`).
    Observation space:
        A dictionary of arrays: the graph, the cluster, what is legal, the last plan and its trace.
    Rewards:
        `reward` names one of `REWARDS`. A choice that the mask `legal` forbids fails the step and
        leaves the plan as it was; so does whatever else fails, such as too little memory, but there
        the plan that failed is seen. `info` says why under `failure`.
    Starting state:
        A pair of graph and cluster, drawn evenly; no plan, or the plan of the placer `start`.
    Episode end:
        After `steps` steps, of each task where the environment is staged; never truncated.
    Arguments:
        Those of `__init__`.
    Example:
        >>> env = gymnasium.make(
        ...     "graphwright/Placement-v0", model="gpt2", cluster="2xv100-pcie"
        ... )
        >>> observation, info = env.reset(seed=0)
        >>> _, reward, terminated, *_ = env.step(np.zeros(len(observation["kinds"]), np.int32))
        >>> terminated
        True
    """

    metadata = {"render_modes": list(RENDER_MODES), "render_fps": 1}  # noqa: RUF012

    def __init__(
        self,
        tasks: Sequence[Task] = (Task.PLACEMENT,),
        steps: int = 1,
        start: str = NO_START,
        staged: bool = False,
        reward: str | Reward = "sqrt-time",
        make_evaluator: MakeEvaluator = simulated,
        episodes: Episodes | None = None,
        suite: str | None = None,
        folder: str | Path | None = None,
        pairs: Sequence[Pair] | None = None,
        model: str | Path | None = None,
        graph: Graph | None = None,
        problem: Problem | None = None,
        cluster: str | Path | Cluster | None = None,
        clusters: Sequence[str] = (),
        render_mode: str | None = None,
        objective: str = "latency",
        in_flight: int | None = None,
        micro_batches: int = 1,
    ) -> None:
        """Make an environment.

        Args:
            tasks: what is decided, in this order.
            steps: how often each task is decided; from the second on with the trace in view.
            start: a placer whose plan is observed before the first step, such as `portfolio`, with
                everything fused that may be where fusion is decided. Scheduling and fusion without
                placement decide on top of it.
            staged: a step for each task, in which it sees what came of the tasks before. An
                action has all columns all the same; the others are not read.
            reward: a name of `REWARDS`, or a function like them.
            make_evaluator: who scores plans: the simulator, or real devices.
            episodes: where graphs come from; or one of the following, see `episodes_from`.
            suite: a suite's name.
            folder: of models, with `clusters`.
            pairs: references to graphs and clusters.
            model: a model, with `cluster`.
            graph: a graph, with `cluster`.
            problem: a graph on a cluster with constraints and costs.
            cluster: for `model` or `graph`.
            clusters: for `folder`.
            render_mode: `ansi` or `rgb_array`.
            objective: `latency`, the time of one step, or `throughput`, the period of steps that
                overlap: then all times that plans are scored by are periods, and bytes those of
                all steps on the way (`envs.overlapping.OverlapEvaluator`). Observations do not
                change: they show one step on its own.
            in_flight: most steps on the way at once; None for as many as fit of twice the devices
                that a plan uses, or of all micro-batches.
            micro_batches: parts of a training step, each of which is the graph once; graphs that
                update nothing serve requests.

        Raises:
            EpisodeError: settings that do not go together.
            GraphwrightError: what the source names cannot be found or read.
        """
        if render_mode is not None and render_mode not in RENDER_MODES:
            raise EpisodeError(f"render_mode={render_mode!r}; there are {', '.join(RENDER_MODES)}")
        self.rules = Rules(tuple(Task(task) for task in tasks), steps, start, staged)
        self.reward = get_reward(reward)
        overlap = overlap_of(objective, in_flight, micro_batches)
        if episodes is not None and overlap is not None:
            raise EpisodeError(
                "objective='throughput' with episodes, which have an objective of their own; make "
                "them with `episodes_from(..., overlap=Throughput())`"
            )
        self.episodes = episodes or episodes_from(
            suite, folder, pairs, model, graph, problem, cluster, clusters, make_evaluator,
            overlap=overlap,
        )  # fmt: skip
        self.render_mode = render_mode
        only = self.episodes.only
        devices = self.episodes.max_devices
        self.action_space = action_space(
            self.rules.tasks, None if only is None else only.graph.op_count, devices
        )
        self.observation_space = episode_space(observation_space(only, devices), self.rules)
        self._prepared: Prepared | None = None
        self._progress: Progress | None = None
        self._observation: Observation | None = None

    @property
    def prepared(self) -> Prepared:
        """The episode's instance."""
        return self._begun(self._prepared)

    @property
    def progress(self) -> Progress:
        """Where the episode stands."""
        return self._begun(self._progress)

    @property
    def observation(self) -> Observation:
        """What was observed last, as one object."""
        return self._begun(self._observation)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Draw an instance and begin.

        `options={"pair": 3}` takes the fourth instead, `options={"start": "heft"}` begins at the
        plan of another placer than the environment does; a `Plan` will do as well.
        """
        super().reset(seed=seed)
        self._prepared = draw(self.episodes, self.np_random, options)
        self._progress = begin(self._prepared, self.rules, (options or {}).get("start"))
        if isinstance(self.action_space, InstanceActions):
            self.action_space.follow(self._prepared.instance.problem)
        return self._observe(), instance_info(self._prepared)

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Decide; see `Rules` for what, and `info` for what came of it.

        Raises:
            ActionError: an action that is not in the action space of this graph.
            EpisodeError: the episode is over.
        """
        if self.progress.taken >= self.rules.length:
            raise EpisodeError("the episode is over; call reset() before the next step")
        after, scores = advance(self.prepared, self.rules, [self.progress], [action], self.reward)
        self._progress = after[0]
        info = {**instance_info(self.prepared), **step_info(self.prepared, scores, 0)}
        is_over = self._progress.taken == self.rules.length
        return self._observe(), float(scores.rewards[0]), is_over, False, info

    def render(self) -> Any:
        """The plan that ran last: a table as text, or a picture."""
        return picture(self.render_mode, self.prepared, self.progress.plan)

    def _observe(self) -> dict[str, Any]:
        self._observation = observe_progress(self.prepared, self.progress)
        sample = as_space_sample(self._observation, self.episodes.max_devices)
        return {**sample, **course(self.rules, self.progress.taken)}

    def _begun(self, value: Any) -> Any:
        if value is None:
            raise EpisodeError("no episode has begun; call reset() first")
        return value


def picture(render_mode: str | None, prepared: Prepared, plan: Plan | None) -> Any:
    """A plan as text or as an image, None without a mode."""
    if render_mode is None:
        gymnasium.logger.warn(f"no render mode; choose one of {', '.join(RENDER_MODES)}")
        return None
    from envs.rendering import gantt, table

    trace = None if plan is None else prepared.instance.evaluator.trace(plan)
    return (table if render_mode == "ansi" else gantt)(prepared.instance, trace)


def draw(episodes: Episodes, rng: np.random.Generator, options: dict[str, Any] | None) -> Prepared:
    """The next episode's instance: drawn, or the pair that the options name."""
    unknown = set(options or {}) - {"pair", "start"}
    if unknown:
        raise EpisodeError(
            f"unknown options {', '.join(sorted(unknown))}; there are pair and start"
        )
    if options and "pair" in options:
        return episodes.at(int(options["pair"]))
    return episodes.draw_prepared(rng)


def episode_space(space: spaces.Dict, rules: Rules) -> spaces.Dict:
    """An observation's space with what tells how far the episode is."""
    return spaces.Dict(
        {
            **space.spaces,
            "tasks": spaces.MultiBinary(len(Task)),
            "steps_left": spaces.Discrete(rules.length + 1),
        }
    )


def course(rules: Rules, taken: int) -> dict[str, Any]:
    """Which tasks the next step decides, and how many steps there are left."""
    left = rules.length - taken
    decided = rules.decided_at(taken) if left else ()
    return {
        "tasks": np.array([task in decided for task in Task], np.int8),
        "steps_left": np.int64(left),
    }


def instance_info(prepared: Prepared) -> dict[str, Any]:
    """What `info` says of an instance."""
    instance = prepared.instance
    optimum = instance.optimum_seconds
    return {
        "instance": instance.name,
        "objective": "latency" if instance.overlap is None else "throughput",
        "bound_seconds": instance.bound_seconds,
        "portfolio_seconds": instance.reference_seconds,
        **({} if optimum is None else {"optimum_seconds": optimum}),
    }


def step_info(prepared: Prepared, scores: Scores, index: int) -> dict[str, Any]:
    """What `info` says of a step."""
    plan = scores.plans[index]
    makespan = float(scores.makespan_seconds[index])
    overlaps = prepared.instance.overlap is not None
    return {
        "makespan_seconds": makespan,
        **({"period_seconds": makespan} if overlaps else {}),
        "peak_bytes": scores.peak_bytes[index].copy(),
        "feasible": bool(scores.feasible[index]),
        "energy": float(scores.energies[index]),
        "failure": scores.failures[index],
        "plan": plan,
        "trace": None if plan is None or np.isinf(makespan) else TraceOnDemand(prepared, plan),
    }
