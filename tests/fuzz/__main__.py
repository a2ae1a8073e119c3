"""Fuzz one target, or all: `python -m tests.fuzz TARGET --seconds N --seed S`.

Each new kind of finding is written to a folder: the input, and what it did. `--log` adds what a
run did to a file, `--table` makes a page of such a file.
"""

import argparse
import json
import re
import sys
from pathlib import Path

from .campaign import Limits, run_campaign
from .finding import Finding, Tally
from .registry import TARGETS
from .table import page_of

_MOST = 10**9


def main() -> int:
    """Run what the arguments say; 1 where something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", help=f"all, or some of {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="of each target")
    parser.add_argument("--runs", type=int, default=_MOST, help="executions of each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plain", action="store_true", help="do not follow lines")
    parser.add_argument("--out", type=Path, default=Path("out/fuzz"), help="for findings")
    parser.add_argument("--log", type=Path, help="a file of JSON lines to add to")
    parser.add_argument("--table", type=Path, help="the page to write from --log")
    parser.add_argument("--reproduce", type=Path, help="one input, run in this process")
    options = parser.parse_args()
    if options.reproduce is not None:
        return _reproduce(options.targets[0], options.reproduce)
    names = list(TARGETS) if options.targets == ["all"] else options.targets
    if unknown := set(names) - set(TARGETS):
        parser.error(f"unknown target {', '.join(unknown)}; known are {', '.join(TARGETS)}")
    if names and options.runs == _MOST and options.seconds == float("inf"):
        parser.error("give --seconds or --runs")
    found = False
    for name in names:
        tally = _run(name, options)
        found |= bool(tally.findings)
        if options.log is not None:
            with options.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(tally.as_dict()) + "\n")
    if options.table is not None:
        lines = options.log.read_text(encoding="utf-8").splitlines()
        options.table.write_text(page_of([json.loads(line) for line in lines]), encoding="utf-8")
    return int(found)


def _run(name: str, options: argparse.Namespace) -> Tally:
    def keep(finding: Finding, data: bytes) -> None:
        folder = options.out / name
        folder.mkdir(parents=True, exist_ok=True)
        stem = re.sub(r"[^A-Za-z0-9]+", "-", finding.key)[:100]
        (folder / f"{stem}.input").write_bytes(data)
        (folder / f"{stem}.txt").write_text(f"{finding.key}\n{finding.message}\n", encoding="utf-8")
        print(f"  {name}: {finding.key}: {finding.message}", flush=True)  # noqa: T201

    limits = Limits(options.runs, options.seconds, not options.plain)
    tally = run_campaign(name, options.seed, limits, keep)
    print(  # noqa: T201
        f"{name}: {tally.executions} executions, {tally.refused} refused, "
        f"{len(tally.findings)} kinds of findings {dict(tally.findings)}, slowest "
        f"{tally.slowest_seconds:.2f} s, peak {tally.peak_bytes / 2**20:.0f} MiB, "
        f"{tally.lines} lines, {tally.processor_seconds:.0f} s of processor time",
        flush=True,
    )
    return tally


def _reproduce(name: str, path: Path) -> int:
    import tempfile

    from graphs.errors import GraphwrightError

    with tempfile.TemporaryDirectory() as folder:
        opened = TARGETS[name].open(Path(folder))
        try:
            opened.read(path.read_bytes())
        except GraphwrightError as error:
            print(f"refused: {error}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
