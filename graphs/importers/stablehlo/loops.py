"""How often HLO loops run, where it can be told: they count from one known number to another."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil

from graphs.importers.stablehlo.instructions import Computation, Instruction, Leaf

_DEEPEST = 100
#: A larger number counts no trips.
_LARGEST = 2**63
_MAX_TRIPS = 1_000_000
#: Direction of a comparison to whether it rises towards the limit, and whether it may reach it.
_RISING = {"LT": (True, False), "LE": (True, True), "GT": (False, False), "GE": (False, True)}
_MIRRORED = {"LT": "GT", "LE": "GE", "GT": "LT", "GE": "LE", "NE": "NE"}


@dataclass(frozen=True)
class Integers:
    """Integer scalars of one computation, as far as they can be told."""

    computation: Computation
    known: Mapping[Leaf, int] = field(default_factory=dict)
    """Values of parameters."""
    _told: dict[Leaf, int | None] = field(default_factory=dict)
    """What was found before: operands that many read are looked at once."""

    def of(self, leaf: Leaf, depth: int = 0) -> int | None:
        """The value of a tensor; None where the run decides it, or beyond 64 bits."""
        if leaf in self.known:
            return self.known[leaf]
        if leaf not in self._told:
            value = self._value(leaf, depth)
            self._told[leaf] = value if value is not None and abs(value) < _LARGEST else None
        return self._told[leaf]

    def _value(self, leaf: Leaf, depth: int) -> int | None:
        instruction = self.computation.instructions[leaf[0]]
        if instruction.opcode == "constant":
            return instruction.attributes["value"]
        if depth > _DEEPEST or len(instruction.outputs) != 1 or instruction.outputs[0].elements > 1:
            return None
        values = [self.of(e, depth + 1) for e in self.computation.operand_leaves(instruction)]
        match instruction.opcode, values:
            case "convert", [int(value)]:
                return value
            case "add", [int(a), int(b)]:
                return a + b
            case "subtract", [int(a), int(b)]:
                return a - b
            case "multiply", [int(a), int(b)]:
                return a * b
            case "minimum", [int(a), int(b)]:
                return min(a, b)
            case "maximum", [int(a), int(b)]:
                return max(a, b)
        return None


@dataclass(frozen=True)
class Loop:
    """A `while`: its condition and body, and what is known of its variables."""

    condition: Computation
    body: Computation
    starts: tuple[int | None, ...]
    """Integer values of the variables when it begins."""

    def unchanged(self) -> dict[int, int]:
        """Positions and values of the variables that no trip changes."""
        results = self.body.leaves[self.body.root]
        return {
            position: start
            for position, start in enumerate(self.starts)
            if start is not None
            and position < len(results)
            and results[position] == self.body.parameter_leaf(position)
        }

    def known(self, computation: Computation) -> dict[Leaf, int]:
        """Values of the parameters of the condition or the body that hold in every trip."""
        found = {}
        for position, value in self.unchanged().items():
            leaf = computation.parameter_leaf(position)
            if leaf is not None:
                found[leaf] = value
        return found

    def trips(self) -> int | None:
        """How often the body runs; None where the run decides it."""
        counts = []
        integers = Integers(self.condition, self.known(self.condition))
        for comparison in self._comparisons():
            first, second = self.condition.operand_leaves(comparison)
            direction = comparison.attributes["direction"]
            for counted, bound, towards in (
                (first, second, direction),
                (second, first, _MIRRORED.get(direction, "")),
            ):
                limit, counter = integers.of(bound), self._counter(counted)
                if limit is None or counter is None:
                    continue
                count = _count(*counter, limit, towards)
                if count is not None:
                    counts.append(count)
        return min(max(min(counts), 0), _MAX_TRIPS) if counts else None

    def _comparisons(self) -> list[Instruction]:
        """Comparisons all of which must hold for the loop to go on."""
        found: list[Instruction] = []
        todo = list(self.condition.leaves[self.condition.root])
        while todo and len(found) < _DEEPEST:
            instruction = self.condition.instructions[todo.pop()[0]]
            if instruction.opcode == "compare":
                found.append(instruction)
            elif instruction.opcode == "and":
                todo.extend(self.condition.operand_leaves(instruction))
        return found

    def _counter(self, leaf: Leaf) -> tuple[int, int] | None:
        """Start and step of a variable that the condition reads."""
        positions = range(len(self.starts))
        position = next((p for p in positions if self.condition.parameter_leaf(p) == leaf), None)
        start = None if position is None else self.starts[position]
        if position is None or start is None:
            return None
        own = self.body.parameter_leaf(position)
        results = self.body.leaves[self.body.root]
        update = self.body.instructions[results[position][0]]
        if update.opcode not in {"add", "subtract"}:
            return None
        first, second = self.body.operand_leaves(update)
        if update.opcode == "add" and second == own:
            first, second = second, first
        step = Integers(self.body, self.known(self.body)).of(second) if first == own else None
        if not step:
            return None
        return start, step if update.opcode == "add" else -step


def _count(start: int, step: int, limit: int, direction: str) -> int | None:
    distance = limit - start
    if direction == "NE":
        return distance // step if distance % step == 0 and distance // step >= 0 else None
    if direction not in _RISING:
        return None
    rising, inclusive = _RISING[direction]
    if (step > 0) != rising:
        return None
    return distance // step + 1 if inclusive else ceil(distance / step)
