"""Flops of an Einstein summation, contracted operand by operand from the left."""

from collections.abc import Mapping, Sequence
from math import prod

_ELLIPSIS = "..."
#: numpy takes no more either; each is held against all others.
_MOST_OPERANDS = 64
Label = str | int


def einsum_flops(equation: str, shapes: Sequence[tuple[int, ...]]) -> float:
    """Flops of `equation` on operands of the given shapes; a multiply-add is two flops.

    Raises:
        ValueError: the equation does not fit the number or ranks of the operands, or has more
            than 64.
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    written = left.split(",")
    if len(written) > _MOST_OPERANDS:
        raise ValueError(f"einsum of {len(written)} operands; at most {_MOST_OPERANDS} are counted")
    if len(written) != len(shapes):
        raise ValueError(f"einsum {equation!r} takes {len(written)} operands, not {len(shapes)}")
    terms = [_labels(term, len(shape)) for term, shape in zip(written, shapes, strict=True)]
    sizes: dict[Label, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for label, size in zip(term, shape, strict=True):
            sizes[label] = max(sizes.get(label, 1), size)
    kept = _output_labels(right, terms) if arrow else _implicit_output(terms)
    return _contract([set(term) for term in terms], kept, sizes)


def _labels(term: str, rank: int) -> list[Label]:
    """Letters as they are; the dimensions of an ellipsis as negative numbers from the right."""
    if _ELLIPSIS not in term:
        labels: list[Label] = list(term)
    else:
        head, _, tail = term.partition(_ELLIPSIS)
        labels = [*head, *range(-(rank - len(head) - len(tail)), 0), *tail]
    if len(labels) != rank:
        raise ValueError(f"einsum term {term!r} does not fit an operand of rank {rank}")
    return labels


def _output_labels(right: str, terms: Sequence[Sequence[Label]]) -> set[Label]:
    kept: set[Label] = set(right.replace(".", ""))
    if _ELLIPSIS in right:
        kept |= {label for term in terms for label in term if isinstance(label, int)}
    return kept


def _implicit_output(terms: Sequence[Sequence[Label]]) -> set[Label]:
    every = [label for term in terms for label in term]
    return {label for label in every if isinstance(label, int) or every.count(label) == 1}


def _contract(terms: Sequence[set[Label]], kept: set[Label], sizes: Mapping[Label, int]) -> float:
    result = terms[0]
    flops = 0.0
    if len(terms) == 1 and result - kept:
        flops = float(prod(sizes[label] for label in result))
    for position, term in enumerate(terms[1:], start=1):
        joint = result | term
        needed = kept.union(*terms[position + 1 :])
        summed = bool(joint - needed)
        flops += float(prod(sizes[label] for label in joint) * (2 if summed else 1))
        result = joint & needed
    return flops
