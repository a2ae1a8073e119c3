"""Checks guessed element types and shapes against whatever reads them.

A foreign op without a rule leaves the type of its outputs open. Ops that read them tell more:
where an operand shares its type with another whose type is certain, or may have one type only,
that settles it; where the guess is none of the types that an op takes, it was wrong.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from onnx import NodeProto, TensorProto, TypeProto, defs

from graphs.importers.onnx_models.context import ImportContext
from graphs.importers.onnx_models.values import OnnxValue

_SHORT_NAMES = {"FLOAT": "float", "DOUBLE": "double"}
_NUMBERS = {
    f"tensor({_SHORT_NAMES.get(name, name.lower())})": number
    for name, number in TensorProto.DataType.items()
}
_TEXTS = {number: text for text, number in _NUMBERS.items()}

Inputs = Sequence[OnnxValue | None]


def check_types(
    node: NodeProto,
    label: str,
    inputs: Inputs,
    schema: defs.OpSchema | None,
    context: ImportContext,
) -> None:
    """Settle the guessed types among a node's inputs, and note those that it contradicts."""
    if schema is None:
        return
    for position, (name, value) in enumerate(zip(node.input, inputs, strict=True)):
        if value is None or not value.guessed_type or value.given_type is not None:
            continue
        formal = _formal(schema.inputs, position)
        if formal is None:
            continue
        certain = _certain_type(schema, formal.type_str, inputs)
        allowed = [_NUMBERS[text] for text in formal.types if text in _NUMBERS]
        if certain is None and len(allowed) == 1:
            certain = allowed[0]
        if certain is not None and certain != value.elem_type:
            context.settle(name, certain, label, _TEXTS.get(value.elem_type, "?"))
        elif certain is not None:
            context.settled_types[name] = certain
        elif allowed and value.elem_type not in allowed:
            context.contradict(name, label, f"takes no {_TEXTS.get(value.elem_type, '?')}")


def mark_guessed(
    node: NodeProto,
    label: str,
    inputs: Inputs,
    outputs: Mapping[str, OnnxValue],
    schema: defs.OpSchema | None,
    context: ImportContext,
) -> dict[str, OnnxValue]:
    """The outputs, with those marked whose type follows from a guessed one.

    Where a reader of such an output has settled its type, that settles the guess.
    """
    guessed = {v.elem_type for v in inputs if v is not None and v.guessed_type}
    if not guessed:
        return dict(outputs)
    marked = dict(outputs)
    for position, name in enumerate(node.output):
        if name not in marked or marked[name].elem_type not in guessed:
            continue
        if schema is not None:
            sources = _guessed_sources(node, schema, position, inputs)
            for source in sources:
                settled = context.settled_types.get(name)
                if settled is not None:
                    context.settle(source, settled, label, "other type")
            if not sources:
                continue
        marked[name] = replace(marked[name], guessed_type=True)
    return marked


def check_declared(
    name: str, kind: TypeProto | None, sizes: Sequence[int | None] | None, context: ImportContext
) -> None:
    """Note where the file states another shape than a rule for a foreign op gives."""
    stated_type, stated = context.declared.get(name, (0, None))
    if sizes is None or stated is None or kind is None:
        return
    differs = len(sizes) != len(stated) or any(
        a is not None and b is not None and a != b for a, b in zip(sizes, stated, strict=True)
    )
    if differs:
        shown = ["?" if size is None else size for size in stated]
        context.contradict(name, "", f"the file states {shown}, its op makes {list(sizes)}")
    elem_type = kind.tensor_type.elem_type
    if stated_type and elem_type and stated_type != elem_type:
        texts = _TEXTS.get(stated_type, "?"), _TEXTS.get(elem_type, "?")
        context.contradict(name, "", f"the file states {texts[0]}, its op makes {texts[1]}")


def _formal(
    formals: Sequence[defs.OpSchema.FormalParameter], position: int
) -> defs.OpSchema.FormalParameter | None:
    """The declared parameter of an operand; the last one may stand for many."""
    if position < len(formals):
        return formals[position]
    last = formals[-1] if formals else None
    variadic = defs.OpSchema.FormalParameterOption.Variadic
    return last if last is not None and last.option == variadic else None


def _certain_type(schema: defs.OpSchema, type_text: str, inputs: Inputs) -> int | None:
    """Type of the operands that share a type variable, where one of them is no guess."""
    if type_text in _NUMBERS:
        return _NUMBERS[type_text]
    for position, value in enumerate(inputs):
        formal = _formal(schema.inputs, position)
        known = value is not None and not value.guessed_type and value.given_type is None
        if known and value is not None and formal is not None and formal.type_str == type_text:
            return value.elem_type if formal.is_homogeneous else None
    return None


def _guessed_sources(
    node: NodeProto, schema: defs.OpSchema, position: int, inputs: Inputs
) -> list[str]:
    """The operands that tell an output's type variable, if all of them are guesses."""
    output = _formal(schema.outputs, position)
    alike = [
        (name, value)
        for index, (name, value) in enumerate(zip(node.input, inputs, strict=True))
        if value is not None
        and output is not None
        and (formal := _formal(schema.inputs, index)) is not None
        and formal.type_str == output.type_str
    ]
    return [name for name, _ in alike] if all(value.guessed_type for _, value in alike) else []
