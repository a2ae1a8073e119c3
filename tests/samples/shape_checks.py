"""The type checker of the import hook: beartype, with integers welcome where floats are.

Compiled kernels alone are left as they are, for numba compiles no checked function; what they are
handed is checked by `simulator.kernel_checks`, in the functions that call them.
"""

import ast
from pathlib import Path
from typing import Any

import jaxtyping._decorator
import jaxtyping._import_hook
from beartype import BeartypeConf, beartype

PACKAGES = ("graphs", "simulator", "placement", "envs", "agent")

#: Decorators of numba kernels: a wrapped kernel would no longer be one.
_KERNEL_MARKS = ("compiled", "inlined", "compiled_with_allocation")

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))

#: Violations of the running test, also of those that `except TypeError` would hide.
violations: list[str] = []


class NotedTypeCheckError(jaxtyping.TypeCheckError):
    """Leaves a note, for importers take a `TypeError` as a sign of a damaged model."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        violations.append(str(self)[:2000])


jaxtyping._decorator.TypeCheckError = NotedTypeCheckError  # type: ignore[attr-defined]

_is_marked_unchecked = jaxtyping._import_hook._is_no_type_check


def _is_unchecked(node: ast.AST) -> bool:
    """Whether a decorator says that the import hook is to leave its function alone."""
    is_kernel = isinstance(node, ast.Name) and node.id in _KERNEL_MARKS
    return is_kernel or _is_marked_unchecked(node)


jaxtyping._import_hook._is_no_type_check = _is_unchecked


def checked_modules(root: Path) -> list[str]:
    """Modules whose annotations are checked: all but packages' own.

    A name stands for all modules below it too, so packages are left out.
    """
    modules = []
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            if path.name == "__init__.py":
                continue
            modules.append(".".join(path.relative_to(root).with_suffix("").parts))
    return modules
