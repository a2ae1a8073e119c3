"""A runtime runs plans of one graph on the devices that are there, and measures them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeVar

from graphs.graph import Graph
from placement.runtime.measurement import Measurement
from placement.runtime.programs.predictor import predictor_of
from placement.runtime.samples import Sampling
from simulator.clusters.cluster import Cluster
from simulator.costs.cost_model import CostModel
from simulator.evaluation import Evaluation
from simulator.plan import Plan
from simulator.simulator import Simulator

#: The runtime itself, whichever it is.
Own = TypeVar("Own", bound="Runtime")


class Runtime(ABC):
    """One graph on one cluster; an `Evaluator` of its plans.

    Use it as a context manager: processes run from the first measurement to its end.
    """

    graph: Graph
    cluster: Cluster
    costs: CostModel
    sampling: Sampling
    """How to measure where nothing else is said."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """Its name among the runtimes (`placement.runtime.registry`)."""

    @property
    @abstractmethod
    def process_ids(self) -> tuple[int, ...]:
        """Identifiers of the processes that run now."""

    @abstractmethod
    def measure(self, plans: Sequence[Plan], sampling: Sampling | None = None) -> list[Measurement]:
        """Measure plans in turns: A B C A B C. A failure of one is its measurement's reason.

        Raises:
            PlanError: a plan for another graph or cluster.
            RuntimeRefusal: the graph itself cannot run here.
        """

    @abstractmethod
    def close(self) -> None:
        """End all processes; what they held is free again."""

    def __enter__(self: Own) -> Own:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def simulator(self) -> Simulator:
        return Simulator(self.graph, self.cluster, self.costs)

    def predicted(self, plan: Plan) -> float:
        """The step time in seconds to expect, by the cluster's calibration where it has one."""
        return predictor_of(self.simulator).evaluate(plan).makespan_seconds

    def evaluate(self, plan: Plan) -> Evaluation:
        """Measure one plan; peak memory is the simulator's."""
        return self.measure([plan])[0].evaluation(self.simulator.evaluate(plan).peak_bytes)
