"""Symbolic dimensions: the arithmetic that exporters write in their names, and default sizes.

Expressions come infix (`past + 4*s0`, ONNX) or as calls (`Mul(Integer(4), Symbol('s0'))`, torch);
both are walked as syntax trees and never executed.
"""

import ast
from collections.abc import Callable, Mapping
from math import ceil, floor, prod

from graphs.errors import ModelError

#: Sizes for dimensions that neither the model nor the user states.
ASSUMED_BATCH = 1
ASSUMED_IMAGE_SIDE = 224
ASSUMED_LENGTH = 128

_LONGEST_EXPRESSION = 500
_LARGEST = 2**48
#: What a part of an expression may come to: powers of powers would never be done.
_LARGEST_PART = 2**200
_BATCH_NAMES = frozenset({"n", "b", "bs", "bsz"})
_SIDE_NAMES = frozenset({"h", "w"})
_LENGTH_WORDS = (
    "seq", "len", "token", "time", "frame", "step", "word", "past", "cache", "context", "query",
    "key", "position", "audio", "text", "node", "edge",
)  # fmt: skip
_LENGTH_NAMES = frozenset({"t", "s", "l"})
#: What exporters and editors write where a dimension has no name.
_NO_NAMES = frozenset({"", "?", "-1", "none", "null", "unk", "unknown", "dynamic", "any", "*"})

_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Div: lambda a, b: a / b,
    ast.Mod: lambda a, b: a % b,
}
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "Integer": int,
    "Rational": lambda a, b: a / b,
    "Add": lambda *terms: sum(terms),
    "Mul": lambda *factors: prod(factors),
    "Max": max,
    "max": max,
    "Min": min,
    "min": min,
    "FloorDiv": lambda a, b: a // b,
    "CeilDiv": lambda a, b: -(-a // b),
    "PythonMod": lambda a, b: a % b,
    "Mod": lambda a, b: a % b,
    "ModularIndexing": lambda a, b, c: (a // b) % c,
    "floor": floor,
    "FloorToInt": floor,
    "ceiling": ceil,
    "CeilToInt": ceil,
    "TruncToInt": int,
    "ToFloat": float,
    "IntTrueDiv": lambda a, b: a / b,
    "FloatTrueDiv": lambda a, b: a / b,
}


def assumed_size(name: str, axis: int | None = None, rank: int | None = None) -> int:
    """The size of a dimension that was left open.

    Args:
        name: the dimension's symbol, or nothing that tells (`input[0]`, `?`).
        axis: its position in the tensor, where that is known.
        rank: the number of dimensions of its tensor.

    Returns:
        `ASSUMED_BATCH` for a batch, `ASSUMED_IMAGE_SIDE` for the sides of an image, else
        `ASSUMED_LENGTH`. Names go first; where one tells nothing, the first axis is a batch and the
        last two axes of four are sides.
    """
    lowered = name.lower()
    if "batch" in lowered or lowered in _BATCH_NAMES:
        return ASSUMED_BATCH
    if "height" in lowered or "width" in lowered or lowered in _SIDE_NAMES:
        return ASSUMED_IMAGE_SIDE
    if lowered in _LENGTH_NAMES or any(word in lowered for word in _LENGTH_WORDS):
        return ASSUMED_LENGTH
    if axis == 0:
        return ASSUMED_BATCH
    return ASSUMED_IMAGE_SIDE if rank == 4 and (axis or 0) >= 2 else ASSUMED_LENGTH


def is_name(symbol: str) -> bool:
    """Whether a dimension's symbol names it, so that the same symbol means the same size."""
    return symbol.strip().lower() not in _NO_NAMES


def names_in(expression: str) -> frozenset[str]:
    """The symbols of an expression such as `past + 4*s0`; empty where it is not one."""
    tree = _parse(expression)
    if tree is None or isinstance(tree, ast.Name):
        return frozenset()
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    called = {call.func for call in calls}
    plain = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and n not in called}
    symbols = {
        call.args[0].value
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == "Symbol"
        if call.args and isinstance(call.args[0], ast.Constant)
    }
    return frozenset(plain | {symbol for symbol in symbols if isinstance(symbol, str)})


def evaluate_dimension(expression: str, sizes: Mapping[str, int]) -> int | None:
    """The size of an expression over known symbols, or None where it cannot be told."""
    tree = _parse(expression)
    if tree is None:
        return None
    try:
        result = _evaluate(tree, sizes)
    except (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError, RecursionError):
        return None
    return int(result) if result == int(result) and abs(result) <= _LARGEST else None


def refuse_unknown_dims(given: Mapping[str, int], known: frozenset[str], origin: str) -> None:
    """Raise `ModelError` for a dimension that the user names and the model lacks."""
    for name in given:
        if name not in known:
            listed = ", ".join(sorted(known)) or "none, all its dimensions are fixed"
            raise ModelError(
                f"{origin}: the model has no dimension {name!r}; its open dimensions: {listed}"
            )
    for name, size in given.items():
        if not 1 <= size <= _LARGEST:
            raise ModelError(f"{origin}: dimension {name}={size}; expected 1 to 2**48")


def _parse(expression: str) -> ast.expr | None:
    if len(expression) > _LONGEST_EXPRESSION:
        return None
    try:
        return ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _evaluate(tree: ast.expr, sizes: Mapping[str, int]) -> float:
    """The value of an expression, none of whose parts is larger than any size can make it.

    Raises:
        ValueError: no arithmetic, or a part that is too large or no number.
    """
    value = _evaluate_part(tree, sizes)
    if not abs(value) <= _LARGEST_PART:
        raise ValueError("a part of a dimension is too large")
    return value


def _evaluate_part(tree: ast.expr, sizes: Mapping[str, int]) -> float:
    match tree:
        case ast.Constant(value=int() | float() as value):
            return value
        case ast.Name(id=name):
            return sizes[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_evaluate(operand, sizes)
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _OPERATORS:
            return _OPERATORS[type(operator)](_evaluate(left, sizes), _evaluate(right, sizes))
        case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=int() as power)):
            if not 0 <= power <= 8:
                raise ValueError("an exponent out of range")
            return _evaluate(left, sizes) ** power
        case ast.Call(func=ast.Name(id="Symbol"), args=[ast.Constant(value=str() as name)]):
            return sizes[name]
        case ast.Call(func=ast.Name(id="Pow"), args=[base, exponent]):
            exponent_value = _evaluate(exponent, sizes)
            if not -1 <= exponent_value <= 8:
                raise ValueError("an exponent out of range")
            powered = _evaluate(base, sizes)
            if powered < 0 and exponent_value != int(exponent_value):
                raise ValueError("a root of a negative number")
            return powered**exponent_value
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return _FUNCTIONS[name](*(_evaluate(argument, sizes) for argument in arguments))
    raise ValueError("not arithmetic on dimensions")
