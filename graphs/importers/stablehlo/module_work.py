"""The work of an HLO module: the sum over its kernels, loops with their trips."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from graphs.costs.formulas import per_output_element
from graphs.costs.hlo_ops import (
    FREE_TARGETS,
    FUSED_FLOPS,
    KERNELS,
    RANDOM_TARGETS,
    SORTING_TARGETS,
)
from graphs.costs.tensorflow_ops import estimate_work
from graphs.costs.work import Signature, TensorSpec, Work, repeated
from graphs.importers.stablehlo.fusion import Kernel, kernels
from graphs.importers.stablehlo.instructions import Computation, Instruction, Leaf, Module
from graphs.importers.stablehlo.loops import Integers, Loop

_CALLS = frozenset({"call", "fusion", "async-start", "composite"})


@dataclass(frozen=True)
class ModuleWork:
    """What a module, or a computation of it, takes."""

    work: Work
    constant_bytes: int = 0
    """Constants, which are resident like parameters."""
    opaque: Mapping[str, int] = field(default_factory=dict)
    """Targets of custom calls, and how many calls there are."""
    estimated: Mapping[str, int] = field(default_factory=dict)
    """Opcodes without a formula, and how many there are."""
    uncounted_loops: int = 0
    """Loops whose trips the run decides: they count once."""


def module_work(module: Module) -> ModuleWork:
    """The work of a module's entry, with all that it calls."""
    entry = module.computations[module.entry]
    result = _Costs(module).of(entry, {})
    constants = sum(
        sum(spec.bytes for spec in instruction.outputs)
        for computation in module.computations.values()
        for instruction in computation.instructions.values()
        if instruction.opcode == "constant"
    )
    return replace(result, constant_bytes=constants)


@dataclass
class _Costs:
    module: Module
    _known: dict[tuple[int, tuple[tuple[Leaf, int], ...]], ModuleWork] = field(default_factory=dict)

    def of(self, computation: Computation, known: Mapping[Leaf, int]) -> ModuleWork:
        """The work of a computation whose integer parameters are known in part."""
        key = (id(computation), tuple(sorted(known.items())))
        if key not in self._known:
            self._known[key] = self._sum(computation, Integers(computation, known))
        return self._known[key]

    def _sum(self, computation: Computation, integers: Integers) -> ModuleWork:
        opaque: Counter[str] = Counter()
        estimated: Counter[str] = Counter()
        uncounted = 0
        parts: list[Work] = []
        inner: dict[int, int] = {}
        every = kernels(computation)
        for kernel in every:
            part = self._kernel(computation, kernel, integers)
            opaque.update(part.opaque)
            estimated.update(part.estimated)
            uncounted += part.uncounted_loops
            parts.append(part.work)
            inner[kernel.members[0].number] = part.work.workspace_bytes
        workspace = _peak_bytes(computation, every, inner)
        work = replace(repeated(parts), workspace_bytes=workspace)
        return ModuleWork(work, 0, opaque, estimated, uncounted)

    def _kernel(self, computation: Computation, kernel: Kernel, integers: Integers) -> ModuleWork:
        first = kernel.members[0]
        if first.opcode in FUSED_FLOPS:
            return ModuleWork(self._fused(computation, kernel))
        if first.opcode == "while":
            return self._loop(computation, first, integers)
        if first.opcode == "conditional":
            branches = [
                self._called(number, computation, [first.operands[1 + index]], integers)
                for index, number in enumerate(first.called)
            ]
            return max(branches, key=lambda branch: (branch.work.flops, branch.work.bytes_read))
        if first.opcode in _CALLS and first.called:
            return self._called(first.called[0], computation, first.operands, integers)
        return self._single(computation, first)

    def _fused(self, computation: Computation, kernel: Kernel) -> Work:
        flops = 0.0
        for member in kernel.members:
            weight = FUSED_FLOPS[member.opcode]
            if member.opcode == "map":
                weight = self._flops_per_element(member)
            flops += weight * sum(spec.elements for spec in member.outputs)
        return Work(
            flops,
            sum(computation.spec(leaf).bytes for leaf in kernel.reads),
            sum(computation.spec(leaf).bytes for leaf in kernel.writes),
        )

    def _single(self, computation: Computation, instruction: Instruction) -> ModuleWork:
        """The work of an op that is a kernel of its own."""
        inputs = [s for e in instruction.operands for s in computation.instructions[e].outputs]
        attributes = {**instruction.attributes, "reducer": self._flops_per_element(instruction)}
        op = Signature(instruction.opcode, inputs, instruction.outputs, attributes)
        if instruction.opcode == "custom-call":
            return _custom_call(op, str(instruction.attributes["target"]))
        formula = KERNELS.get(instruction.opcode)
        if formula is None:
            return ModuleWork(estimate_work(op), estimated={instruction.opcode: 1})
        return ModuleWork(formula(op))

    def _flops_per_element(self, instruction: Instruction) -> float:
        """Flops of the scalar computation that a reduction or the like runs."""
        if not instruction.called:
            return 1.0
        scalar = self.module.computations[instruction.called[-1]]
        flops = sum(FUSED_FLOPS.get(i.opcode, 0.0) for i in scalar.instructions.values())
        return max(flops, 1.0)

    def _called(
        self,
        number: int,
        computation: Computation,
        operands: "tuple[int, ...] | list[int]",
        integers: Integers,
    ) -> ModuleWork:
        callee = self.module.computations[number]
        passed = [leaf for operand in operands for leaf in computation.leaves[operand]]
        known = {}
        for position, leaf in enumerate(passed):
            own, value = callee.parameter_leaf(position), integers.of(leaf)
            if own is not None and value is not None:
                known[own] = value
        return self.of(callee, known)

    def _loop(
        self, computation: Computation, instruction: Instruction, integers: Integers
    ) -> ModuleWork:
        """The condition and the body as often as the loop runs; once where nobody knows."""
        body, condition = (self.module.computations[n] for n in instruction.called)
        starts = tuple(integers.of(leaf) for leaf in computation.operand_leaves(instruction))
        loop = Loop(condition, body, starts)
        trips = loop.trips()
        parts = [self.of(part, loop.known(part)) for part in (condition, body)]
        work = repeated([part.work for part in parts], 1 if trips is None else trips)
        return ModuleWork(
            work,
            0,
            sum((Counter(part.opaque) for part in parts), Counter()),
            sum((Counter(part.estimated) for part in parts), Counter()),
            sum(part.uncounted_loops for part in parts) + (trips is None),
        )


def _custom_call(op: Signature, target: str) -> ModuleWork:
    if target in FREE_TARGETS:
        return ModuleWork(Work())
    if target in SORTING_TARGETS:
        return ModuleWork(KERNELS["sort"](replace(op, attributes={})))
    if target in RANDOM_TARGETS:
        return ModuleWork(per_output_element(10.0)(op))
    return ModuleWork(estimate_work(op), opaque={target: 1})


def _peak_bytes(computation: Computation, every: list[Kernel], inner: Mapping[int, int]) -> int:
    """The most that is alive between kernels, in the order of the module, without its results.

    Args:
        computation: whose instructions stand in an order in which they can run.
        every: its kernels.
        inner: workspace of the kernels, by their first instruction.
    """
    results = set(computation.leaves[computation.root])
    position = {number: index for index, number in enumerate(computation.instructions)}
    born: dict[int, int] = Counter()
    ends: dict[int, int] = Counter()
    last: dict[Leaf, int] = {}
    for kernel in every:
        for leaf in kernel.reads:
            at = max(position[member.number] for member in kernel.members)
            last[leaf] = max(last.get(leaf, 0), at)
    for kernel in every:
        for leaf in kernel.writes:
            if leaf not in results and leaf in last:
                size = computation.spec(leaf).bytes
                born[position[leaf[0]]] += size
                ends[last[leaf]] += size
    alive, peak = 0, 0
    for number, index in position.items():
        alive += born[index]
        peak = max(peak, alive + inner.get(number, 0))
        alive -= ends[index]
    return peak


def result_specs(module: Module) -> tuple[TensorSpec, ...]:
    """The tensors that a module returns."""
    entry = module.computations[module.entry]
    return entry.instructions[entry.root].outputs
