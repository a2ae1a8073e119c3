"""Which licences graphwright's dependencies come under; writes `docs/licences.md`.

    python -m scripts.licences

Distributions state their licence in three ways: as an SPDX expression, in free words, or by a
classifier. All of them are brought to SPDX expressions here. What a run of graphwright needs is
listed; what only its developers need is not, for it is not installed with it.
"""

import re
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "docs" / "licences.md"

#: Licences under which a dependency may come without a decision. All let anybody use, change and
#: pass on what they cover; MPL-2.0 asks that changed files of its own stay open.
ALLOWED = frozenset(
    {"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "LLVM-exception",
     "MIT", "MIT-CMU", "MPL-2.0", "PSF-2.0", "Zlib"}
)  # fmt: skip

#: What distributions say in words or by classifiers, lower case and without punctuation.
_WORDS = {
    "mit": "MIT",
    "mit license": "MIT",
    "apache 20": "Apache-2.0",
    "apache20": "Apache-2.0",
    "apache license 20": "Apache-2.0",
    "apache license version 20": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "bsd3clause": "BSD-3-Clause",
    "bsd 3clause": "BSD-3-Clause",
    "3clause bsd license": "BSD-3-Clause",
    "bsd2clause": "BSD-2-Clause",
    "mpl20": "MPL-2.0",
    "mozilla public license 20 mpl 20": "MPL-2.0",
    "mpl20 and mit": "MPL-2.0 AND MIT",
    "mit or apache20": "MIT OR Apache-2.0",
    "psf20": "PSF-2.0",
    "python software foundation license": "PSF-2.0",
}

#: Distributions whose metadata is silent, by the licence file of their source.
_BY_HAND = {"namex": "Apache-2.0"}


def needed(name: str = "graphwright", extras: tuple[str, ...] = ("",)) -> list[str]:
    """What `name` with `extras` needs as installed here, with what that needs, by name."""
    seen: set[tuple[str, str]] = set()
    left = [(name, extra) for extra in extras]
    while left:
        owner, extra = left.pop()
        for line in distribution(owner).requires or []:
            requirement = Requirement(line)
            if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
                continue
            key = normal(requirement.name)
            found = {(key, one) for one in ("", *requirement.extras)} - seen
            seen |= found
            left.extend(found)
    return sorted({key for key, _ in seen})


def normal(name: str) -> str:
    """A distribution's name as indexes write it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licence(of: Distribution) -> str:
    """The SPDX expression of a distribution's licence, or `unknown` with what it says itself."""
    if expression := of.metadata.get("License-Expression"):
        return expression
    classifiers = [
        line.rpartition("::")[2].strip()
        for line in of.metadata.get_all("Classifier") or []
        if line.startswith("License ::")
    ]
    said = [(of.metadata.get("License") or "").strip(), *classifiers]
    for text in said:
        if expression := _WORDS.get(re.sub(r"[^a-z0-9 ]", "", text.lower())):
            return expression
    return _BY_HAND.get(normal(of.metadata["Name"]), f"unknown: {said[0][:40]!r}")


def atoms(expression: str) -> set[str]:
    """The licences that an SPDX expression names."""
    return set(re.findall(r"[^()\s]+", expression)) - {"AND", "OR", "WITH"}


def written(table: str) -> dict[str, str]:
    """The licences by distribution that the table in `docs/licences.md` has."""
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \|$", table, re.MULTILINE)
    return {name: expression.strip() for name, expression in rows}


def main() -> None:
    """Write the table of what is installed here."""
    lines = [
        "# Licences",
        "",
        "graphwright is under Apache-2.0. What it needs to run, as locked for Linux in",
        "`requirements.lock`, and the licence of each, as an SPDX expression.",
        "`python -m scripts.licences` writes this page; a test fails where a dependency is not on",
        "it, or comes under a licence that is not allowed there.",
        "",
        "| distribution | licence |",
        "|---|---|",
        *(f"| `{name}` | {licence(distribution(name))} |" for name in needed()),
    ]
    TABLE.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
