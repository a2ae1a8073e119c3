"""The calls of an exported torch program, free of torch: what both its forms are read into."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphs.costs.aten_ops import ATEN_VIEWS, VMAP_VIEWS, is_in_place, without_underscore
from graphs.costs.work import TensorSpec

DROPOUTS = frozenset({"dropout", "feature_dropout", "alpha_dropout"})
HIGHER_ORDER = "higher_order."
_VMAP = "torch._functorch.predispatch."

#: Operators that run another one, which is an argument, on the rest of their arguments.
CARRIERS = frozenset(
    HIGHER_ORDER + name
    for name in ("out_dtype", "with_effects", "auto_functionalized", "auto_functionalized_v2")
)

#: Namespaces whose calls without results compute nothing: assertions and arithmetic on sizes.
_SILENT = ("aten.", "prims.", "prim.", "torch.", "_operator.", "math.", "builtins.", HIGHER_ORDER)


@dataclass(frozen=True)
class Version:
    """A tensor as an op that writes in place leaves it behind."""

    name: str
    spec: TensorSpec
    of: str
    """What it was called before: the same memory."""


@dataclass(frozen=True)
class ExportedOp:
    """One call of an operator; operands are tensor names."""

    name: str
    target: str
    """As torch prints it, without `torch.ops.`: `aten.linear.default`, `higher_order.scan`."""
    inputs: Sequence[str]
    """Tensors in the order of the arguments; one that is given twice stands here twice."""
    outputs: Sequence[tuple[str, TensorSpec]]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Plain arguments by name, or by position (`"2"`) where the operator names none."""
    bodies: Sequence["ExportedGraph"] = ()
    """The branches or the body of a higher-order operator."""
    arguments: Sequence[tuple[str, Sequence[str]]] = ()
    """Name and tensors of each argument that has any: `inputs` as they were grouped."""
    written: Sequence[str] = ()
    """Inputs that the call changes in place."""
    carried: Sequence[str] = ()
    """Tensors that share memory with what is written, and are read later."""
    versions: Sequence[Version] = ()
    """Those tensors afterwards."""
    waits: Sequence[str] = ()
    """Ops that must have read what this one overwrites, by name."""
    colocation: str | None = None

    @property
    def base_name(self) -> str:
        """`aten.add_.Tensor` is `add_`; operators of other namespaces keep theirs."""
        return base_name(self.target)

    @property
    def is_view(self) -> bool:
        """Whether its outputs are its first input's memory, unchanged."""
        base = without_underscore(self.base_name)
        if not self.inputs or base not in ATEN_VIEWS | VMAP_VIEWS:
            return False
        return not (base in DROPOUTS and self.attributes.get("train"))


@dataclass(frozen=True)
class ExportedGraph:
    """A program or a body of one, with every dimension a number."""

    inputs: Mapping[str, TensorSpec]
    """What the caller passes; tensors only."""
    weights: Mapping[str, TensorSpec]
    """Parameters, buffers and lifted constants."""
    ops: Sequence[ExportedOp]
    outputs: Sequence[str]
    mutations: Mapping[str, str] = field(default_factory=dict)
    """Tensor to the weight or input whose new value it is, copied there when the program ends."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """Weight or input that is changed, to the group of what must share its device."""


def base_name(target: str) -> str:
    """The operator without namespace and overload, for those of aten; others as they are."""
    parts = target.split(".")
    if parts[0] == "aten" and len(parts) > 1:
        return parts[1]
    return target.removeprefix(HIGHER_ORDER).removeprefix(_VMAP)


def written_operands(
    target: str,
    arguments: Sequence[tuple[str, Sequence[str]]],
    outputs: Sequence[str],
    attributes: Mapping[str, Any],
) -> list[str]:
    """The tensors that a call changes, as far as its name tells.

    By torch's convention these are the first argument of `name_` and the arguments `out` of the
    overloads that have one. A foreign operator without results exists for what it writes: any of
    its operands may be it.
    """
    base = base_name(target)
    if not arguments:
        return []
    if target.startswith("aten.") and any(name.startswith("out") for name, _ in arguments):
        return [tensor for name, group in arguments if name.startswith("out") for tensor in group]
    if is_in_place(base) or is_in_place(target.split(".")[1] if target.count(".") > 1 else ""):
        plain = without_underscore(base)
        if plain in ATEN_VIEWS and not (plain in DROPOUTS and attributes.get("train")):
            return []  # `squeeze_` changes what the tensor looks like, not what it holds
        return list(arguments[0][1])
    if not outputs and "." in target and not target.startswith(_SILENT):
        return [tensor for _, group in arguments for tensor in group]
    return []
