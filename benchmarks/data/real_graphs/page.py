"""The page that says what the corpus holds: sizes, families, splits, and how far apart they are."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median

from benchmarks.data.real_graphs.catalogue import models
from benchmarks.data.real_graphs.corpus import read_manifest
from benchmarks.data.real_graphs.likeness import likeness, neighbourhoods
from graphs.real_graphs import SPLITS, RealGraph, load_real, real_graphs

FOLDER = Path(__file__).parents[3] / "graphs" / "real"
PAGE = Path(__file__).parents[2] / "results" / "real_graphs.md"


def page_text() -> str:
    """The page, from the graphs that ship; reads each of them once."""
    return "\n".join((*_head(), *_splits(), *_families(), *_nearest(), *_left_out())) + "\n"


def _head() -> Iterator[str]:
    known = list(real_graphs().values())
    size = sum(path.stat().st_size for path in FOLDER.iterdir())
    ops = sum(row.ops for row in known)
    packages = sorted({f"{row.package} {row.version}" for row in known})
    guessed = sum(bool(row.guesses) for row in known)
    yield "# Graphs of real models"
    yield ""
    yield "Written by `python -m benchmarks.data.real_graphs graphs/real --page`."
    yield ""
    yield (
        f"{len(known)} graphs of {len({row.family for row in known})} architecture families, "
        f"{ops:,} ops in {size / 1e6:.1f} MB ({size / ops:.1f} bytes an op), of "
        f"{', '.join(packages)}. {sum(row.training for row in known)} are training steps. "
        f"{len(known) - guessed} were imported without a guess; the manifest has what was guessed "
        f"in the other {guessed}: ops without a cost formula, and how many."
    )
    yield ""


def _splits() -> Iterator[str]:
    known = list(real_graphs().values())
    yield "| split | kin | families | graphs | training steps | ops, least | median | most |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for split in SPLITS:
        rows = _of(split)
        ops = [row.ops for row in rows]
        yield (
            f"| {split} | {len({row.kin for row in rows})} | {len({row.family for row in rows})} | "
            f"{len(rows)} ({len(rows) / len(known):.0%}) | {sum(row.training for row in rows)} | "
            f"{min(ops):,} | {round(median(ops)):,} | {max(ops):,} |"
        )
    yield ""


def _families() -> Iterator[str]:
    yield "## Families"
    yield ""
    yield "Kin are families with the same blocks; a split has all of a kin or none."
    yield ""
    yield "| kin | split | families, and graphs of each |"
    yield "|---|---|---|"
    of_kin: dict[str, list[RealGraph]] = defaultdict(list)
    for row in real_graphs().values():
        of_kin[row.kin].append(row)
    for kin in sorted(of_kin, key=lambda name: (SPLITS.index(of_kin[name][0].split), name)):
        rows = of_kin[kin]
        counts = Counter(row.family for row in rows)
        listed = ", ".join(f"{family} {count}" for family, count in sorted(counts.items()))
        yield f"| {kin} | {rows[0].split} | {listed} |"
    yield ""


def _nearest() -> Iterator[str]:
    yield "## How near graphs that are not trained on are to those that are"
    yield ""
    yield (
        "The share of an unseen graph's ops whose neighbourhoods (kinds and phases of the op and "
        "of its producers up to four tensors away) the nearest training graph has as often; 1 is a "
        "copy. For each family the graph that is nearest."
    )
    yield ""
    yield "| split | family | graph | nearest of training | alike |"
    yield "|---|---|---|---|---:|"
    trained = {row.name: neighbourhoods(load_real(row.name)) for row in _of("train")}
    for split in SPLITS[1:]:
        best: dict[str, tuple[float, str, str]] = {}
        for row in _of(split):
            found = nearest(neighbourhoods(load_real(row.name)), trained)
            best[row.family] = max(
                best.get(row.family, (0.0, "", "")), (found[0], row.name, found[1])
            )
        for family, (alike, name, other) in sorted(best.items(), key=lambda item: -item[1][0]):
            yield f"| {split} | {family} | {name} | {other} | {alike:.2f} |"
    yield ""


def nearest(
    one: Mapping[int, float], others: Mapping[str, Mapping[int, float]]
) -> tuple[float, str]:
    """How alike the nearest of several graphs is, and its name."""
    return max((likeness(one, other), name) for name, other in others.items())


def _of(split: str) -> list[RealGraph]:
    return [row for row in real_graphs().values() if row.split == split]


def _left_out() -> Iterator[str]:
    rows = read_manifest(FOLDER)["left_out"]
    yield "## Left out"
    yield ""
    known = {*real_graphs(), *(row["name"] for row in rows)}
    untried = [name for model in models() for name in model.graph_names if name not in known]
    yield (
        f"{len(rows)} graphs that were tried, with what was said. The catalogue has "
        f"{len(untried)} more that were not: the same command without `--page` builds them."
    )
    yield ""
    yield "| graph | reason |"
    yield "|---|---|"
    for row in rows:
        yield f"| {row['name']} | {row['reason'].replace('|', '/')[:150]} |"
