"""HLO modules as plain values: computations, their instructions, and what each reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from graphs.costs.work import TensorSpec
from graphs.kinds import DType

Leaf = tuple[int, int]
"""A tensor: the number of the instruction that makes it, and which of its results it is."""

_DTYPES = {
    "PRED": DType.BOOL, "BF16": DType.BFLOAT16, "F16": DType.FLOAT16, "F32": DType.FLOAT32,
    "F64": DType.FLOAT64, "C64": DType.COMPLEX64, "C128": DType.COMPLEX128,
    **{f"{sign}{bits}": DType[f"INT{bits}"] for sign in "SU" for bits in (4, 8, 16, 32, 64)},
    **dict.fromkeys(("S1", "S2", "U1", "U2", "F4E2M1FN"), DType.INT4),
}  # fmt: skip
_NO_TENSORS = frozenset({"TOKEN", "OPAQUE_TYPE", "PRIMITIVE_TYPE_INVALID"})
#: Opcodes that hand on what they are given.
_PASSES = frozenset({"reshape", "bitcast", "optimization-barrier", "opt-barrier", "domain", "copy"})


@dataclass(frozen=True)
class Instruction:
    """One HLO instruction; `outputs` are the leaves of a tuple."""

    number: int
    opcode: str
    operands: tuple[int, ...]
    called: tuple[int, ...]
    outputs: tuple[TensorSpec, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Computation:
    """Instructions in an order in which they can run; `leaves` says where each value comes from."""

    instructions: Mapping[int, Instruction]
    root: int
    leaves: Mapping[int, tuple[Leaf, ...]]
    """The tensors of an instruction's result, behind what only hands them on."""

    def parameter_leaf(self, position: int) -> Leaf | None:
        """The tensor of a position among all leaves of the parameters."""
        parameters = [i for i in self.instructions.values() if i.opcode == "parameter"]
        parameters.sort(key=lambda instruction: instruction.attributes["parameter"])
        flat = [leaf for parameter in parameters for leaf in self.leaves[parameter.number]]
        return flat[position] if position < len(flat) else None

    def spec(self, leaf: Leaf) -> TensorSpec:
        """The spec of a tensor."""
        return self.instructions[leaf[0]].outputs[leaf[1]]

    def operand_leaves(self, instruction: Instruction) -> list[Leaf]:
        """All tensors that an instruction reads."""
        return [leaf for operand in instruction.operands for leaf in self.leaves[operand]]


@dataclass(frozen=True)
class Module:
    """The computations of an HLO module by number."""

    computations: Mapping[int, Computation]
    entry: int


def parse_module(proto: Any) -> Module:
    """A `Module` from an HloModuleProto."""
    from tensorflow.compiler.xla import xla_data_pb2

    computations = {}
    for computation in proto.computations:
        instructions: dict[int, Instruction] = {}
        leaves: dict[int, tuple[Leaf, ...]] = {}
        for item in computation.instructions:
            instruction = _instruction(item, instructions, xla_data_pb2.PrimitiveType.Name)
            instructions[item.id] = instruction
            leaves[item.id] = _leaves(instruction, instructions, leaves)
        computations[computation.id] = Computation(instructions, computation.root_id, leaves)
    return Module(computations, proto.entry_computation_id)


def _leaves(
    instruction: Instruction,
    instructions: Mapping[int, Instruction],
    leaves: Mapping[int, tuple[Leaf, ...]],
) -> tuple[Leaf, ...]:
    if instruction.opcode == "tuple":
        return tuple(leaf for operand in instruction.operands for leaf in leaves[operand])
    if instruction.opcode == "get-tuple-element":
        operand = instruction.operands[0]
        first = instruction.attributes["index"]
        sizes = instructions[operand].attributes.get("leaf_counts", ())
        start = sum(sizes[:first])
        return leaves[operand][start : start + len(instruction.outputs)]
    if instruction.opcode in _PASSES or instruction.opcode == "add-dependency":
        return leaves[instruction.operands[0]]
    return tuple((instruction.number, index) for index in range(len(instruction.outputs)))


def _instruction(item: Any, before: Mapping[int, Instruction], type_name: Any) -> Instruction:
    inputs = [before[number].outputs for number in item.operand_ids]
    attributes: dict[str, Any] = {}
    if item.shape.tuple_shapes:
        attributes["leaf_counts"] = tuple(
            len(_specs(shape, type_name)) for shape in item.shape.tuple_shapes
        )
    match item.opcode:
        case "parameter":
            attributes["parameter"] = int(item.parameter_number)
        case "get-tuple-element":
            attributes["index"] = int(item.tuple_index)
        case "constant":
            attributes["value"] = _integer(item.literal)
        case "dot":
            attributes["inner"] = _inner(item.dot_dimension_numbers, inputs)
        case "ragged-dot":
            numbers = item.ragged_dot_dimension_numbers.dot_dimension_numbers
            attributes["inner"] = _inner(numbers, inputs)
        case "convolution":
            numbers, filters = item.convolution_dimension_numbers, inputs[1][0].shape
            attributes["taps"] = prod(filters[axis] for axis in numbers.kernel_spatial_dimensions)
            attributes["taps"] *= filters[numbers.kernel_input_feature_dimension]
            # A stretched input is mostly zeros, which nobody multiplies.
            stretch = prod(max(int(axis.base_dilation), 1) for axis in item.window.dimensions)
            attributes["taps"] /= stretch
        case "reduce-window" | "select-and-scatter":
            attributes["window"] = prod(int(axis.size) for axis in item.window.dimensions)
        case "sort":
            attributes["axis"] = int(item.dimensions[0]) if item.dimensions else 0
        case "fft":
            attributes["length"] = prod(int(size) for size in item.fft_length)
        case "compare":
            attributes["direction"] = str(item.comparison_direction)
        case "custom-call":
            attributes["target"] = str(item.custom_call_target)
    return Instruction(
        int(item.id), str(item.opcode), tuple(item.operand_ids),
        tuple(item.called_computation_ids), _specs(item.shape, type_name), attributes,
    )  # fmt: skip


def _inner(numbers: Any, inputs: list[tuple[TensorSpec, ...]]) -> int:
    return prod(inputs[0][0].shape[axis] for axis in numbers.lhs_contracting_dimensions)


def _specs(shape: Any, type_name: Any) -> tuple[TensorSpec, ...]:
    if shape.tuple_shapes:
        return tuple(spec for part in shape.tuple_shapes for spec in _specs(part, type_name))
    name = type_name(shape.element_type)
    if name in _NO_TENSORS or name == "TUPLE":
        return ()
    dtype = DType.FLOAT8 if name.startswith("F8") else _DTYPES[name]
    return (TensorSpec(tuple(int(size) for size in shape.dimensions), dtype),)


def _integer(literal: Any) -> int | None:
    """The value of an integer scalar."""
    if literal.shape.dimensions:
        return None
    for values in (literal.s32s, literal.s64s, literal.u32s, literal.u64s):
        if len(values) == 1:
            return int(values[0])
    for name, signed in (("s8s", True), ("u8s", False), ("s16s", True), ("u16s", False)):
        packed = getattr(literal, name)
        if packed:
            return int.from_bytes(packed, "little", signed=signed)
    return None
