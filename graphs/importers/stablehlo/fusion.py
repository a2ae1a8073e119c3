"""Which instructions of a computation share a kernel: XLA fuses elementwise neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass

from graphs.costs.hlo_ops import FUSED_FLOPS
from graphs.importers.stablehlo.instructions import Computation, Instruction, Leaf

#: Instructions that start no kernel and make nothing new.
FREE_OPCODES = frozenset(
    {
        "parameter", "constant", "tuple", "get-tuple-element", "reshape", "bitcast", "copy",
        "optimization-barrier", "opt-barrier", "domain", "after-all", "add-dependency",
        "get-dimension-size", "set-dimension-size", "partition-id", "replica-id", "infeed",
        "outfeed", "all-reduce-done", "all-gather-done", "collective-permute-done",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Kernel:
    """Instructions that run together, and the tensors that cross the border."""

    members: tuple[Instruction, ...]
    reads: tuple[Leaf, ...]
    writes: tuple[Leaf, ...]


def kernels(computation: Computation) -> list[Kernel]:
    """The kernels of a computation: one for each product, reduction and the like, and one for each
    group of connected elementwise instructions that no such op stands between.
    """
    levels: dict[int, int] = {}
    parents: dict[int, int] = {}

    def group(number: int) -> int:
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return number

    for number, instruction in computation.instructions.items():
        sources = {leaf[0] for leaf in computation.operand_leaves(instruction)}
        level = max((levels[source] for source in sources if source != number), default=0)
        if instruction.opcode in FREE_OPCODES:
            levels[number] = level
            continue
        parents[number] = number
        fuses = instruction.opcode in FUSED_FLOPS
        levels[number] = level if fuses else level + 1
        if fuses:
            for source in sources & parents.keys():
                other = computation.instructions[source]
                if other.opcode in FUSED_FLOPS and levels[source] == level:
                    parents[group(source)] = group(number)
    members: dict[int, list[Instruction]] = {}
    for number in parents:
        members.setdefault(group(number), []).append(computation.instructions[number])
    return _bordered(computation, list(members.values()))


def _bordered(computation: Computation, groups: Sequence[Sequence[Instruction]]) -> list[Kernel]:
    """Kernels with what they read and write; only what others read is written."""
    owner = {member.number: index for index, group in enumerate(groups) for member in group}
    reads: list[dict[Leaf, None]] = [{} for _ in groups]
    used = dict.fromkeys(computation.leaves[computation.root])
    for index, group in enumerate(groups):
        for member in group:
            for leaf in computation.operand_leaves(member):
                if owner.get(leaf[0]) != index:
                    reads[index][leaf] = None
                    used[leaf] = None
    return [
        Kernel(
            tuple(group),
            tuple(reads[index]),
            tuple(
                (member.number, number)
                for member in group
                for number in range(len(member.outputs))
                if (member.number, number) in used
            ),
        )
        for index, group in enumerate(groups)
    ]
