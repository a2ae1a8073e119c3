"""Version-1 loops of a graph: how often each runs, and what its counters are when it ends."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from graphs.importers.tensorflow_models.nodes import Endpoint, TensorflowNode
from graphs.importers.tensorflow_models.trips import Counter, passed, step_of, trips_of

Stack = tuple[str, ...]


@dataclass
class Frames:
    """The loops of one graph, named by the frames that they run in, outermost first."""

    nodes: Mapping[str, TensorflowNode]
    stacks: Mapping[str, Stack]
    """The frames that a node runs in; absent for nodes outside of loops."""
    value: Callable[[Endpoint], int | None]
    """The value of an integer scalar; None where it is not known."""
    _trips: dict[Stack, int | None] = field(default_factory=dict)

    def trips(self, stack: Stack) -> int | None:
        """How often the innermost loop of a stack runs, each time that it is entered."""
        if stack not in self._trips:
            self._trips[stack] = None  # a limit may not depend on the loop itself
            conditions = [
                name
                for name, frames in self.stacks.items()
                if frames == stack and self.nodes[name].op_type == "LoopCond"
            ]
            if conditions:
                condition = self.nodes[conditions[0]].inputs[0]
                self._trips[stack] = trips_of(condition, self.nodes, self._counter, self._limit)
        return self._trips[stack]

    def exit_value(self, node: TensorflowNode) -> int | None:
        """What a counter is when the loop has ended, by the Exit op that returns it."""
        merge = passed((node.name, 0), self.nodes)
        counted = self._counter(merge)
        trips = self.trips(self.stacks.get(merge[0], ())) if counted is not None else None
        return None if counted is None or trips is None else counted.start + trips * counted.step

    def _counter(self, endpoint: Endpoint) -> Counter | None:
        name = passed(endpoint, self.nodes)[0]
        merge = self.nodes[name]
        if merge.op_type != "Merge" or name not in self.stacks:
            return None
        rounds = [e for e in merge.inputs if self.nodes[e[0]].op_type == "NextIteration"]
        enters = [e for e in merge.inputs if e not in rounds]
        if not enters or not rounds:
            return None
        start = self.value(enters[0])
        step = step_of(rounds[0], name, self.nodes, self.value)
        return None if start is None or step is None else Counter(start, step)

    def _limit(self, endpoint: Endpoint) -> int | None:
        return self.value(endpoint)
