"""The type checker of the import hook: beartype, with integers welcome where floats are."""

from pathlib import Path
from typing import Any

import jaxtyping._decorator
from beartype import BeartypeConf, beartype

PACKAGES = ("graphs", "simulator", "placement", "envs", "agent")

#: Decorators of numba kernels: a wrapped kernel would no longer be one.
_KERNEL_MARKS = ("@compiled", "@inlined", "@numba.")

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))

#: Violations of the running test, also of those that `except TypeError` would hide.
violations: list[str] = []


class NotedTypeCheckError(jaxtyping.TypeCheckError):
    """Leaves a note, for importers take a `TypeError` as a sign of a damaged model."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        violations.append(str(self)[:2000])


jaxtyping._decorator.TypeCheckError = NotedTypeCheckError


def checked_modules(root: Path) -> list[str]:
    """Modules whose annotations are checked: all but packages' own and those with kernels.

    A name stands for all modules below it too, so packages are left out.
    """
    modules = []
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            if path.name == "__init__.py" or any(mark in text for mark in _KERNEL_MARKS):
                continue
            modules.append(".".join(path.relative_to(root).with_suffix("").parts))
    return modules
