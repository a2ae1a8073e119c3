"""The five packages are graphwright's own, or nothing is imported.

Their names are common words. Another distribution that installs a package `agent`, or a folder
`envs` beside a user's script, would be imported in place of graphwright's, and fail far from the
cause.
Importing `simulator`, on which all packages above it stand, imports this module.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

#: The packages of graphwright.
OWN_PACKAGES = ("graphs", "simulator", "placement", "envs", "agent")

ROOT = Path(__file__).resolve().parents[1]


class ForeignPackageError(ImportError):
    """A package of another project has a name of one of graphwright's."""


def foreign_packages(root: Path = ROOT) -> dict[str, str]:
    """Where the names of graphwright's packages lead, for those that lead elsewhere than to `root`.

    Args:
        root: the folder that graphwright's packages are in.

    Returns:
        The location of each foreign package, or `nowhere`, by its name.
    """
    found = {}
    for name in OWN_PACKAGES:
        spec = find_spec(name)
        locations = list(spec.submodule_search_locations or [spec.origin or ""]) if spec else []
        if not any(Path(location).resolve() == root / name for location in locations[:1]):
            found[name] = locations[0] if locations else "nowhere"
    return found


def foreign_claims(owners: Mapping[str, list[str]]) -> list[str]:
    """What other distributions claim of the five names, as sentences.

    Such a distribution writes into the same folders, so that files of both are mixed.

    Args:
        owners: the distributions that install each top-level package, as
            `importlib.metadata.packages_distributions` returns them.
    """
    return [
        f"{other} installs a top-level package {package!r}"
        for package in OWN_PACKAGES
        for other in sorted(set(owners.get(package, [])) - {"graphwright"})
    ]


def explain_foreign(packages: dict[str, str]) -> str:
    """A sentence for `packages`, as `foreign_packages` returns them, and what to do about it."""
    from importlib.metadata import packages_distributions

    owners = packages_distributions()
    parts = []
    for name, location in packages.items():
        others = sorted(set(owners.get(name, [])) - {"graphwright"})
        of = f" (of {', '.join(others)})" if others else ""
        parts.append(f"`{name}` is imported from {location}{of}")
    return (
        f"{'; '.join(parts)}, and graphwright has a package of that name in {ROOT}: install it in "
        "a virtual environment of its own, and start Python where no folder has such a name"
    )


def refuse_foreign_packages(root: Path = ROOT) -> None:
    """Raise `ForeignPackageError` where a name of graphwright's packages leads elsewhere."""
    if packages := foreign_packages(root):
        raise ForeignPackageError(explain_foreign(packages))


refuse_foreign_packages()
