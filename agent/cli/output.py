"""What a command shows: tables and progress for people, one JSON object for programs."""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from graphs.visible_text import visible

_QUIET_SECONDS = 2.0


def print_json(values: Mapping[str, Any]) -> None:
    """One object on standard output; infinities become null, as JSON knows none."""
    _put(json.dumps(_finite(values), allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def print_text(text: str) -> None:
    """A line for people; a line break in it is part of some name, and shown as such."""
    _put(visible(text))


def print_lines(text: str) -> None:
    """Several lines for people, of words and of names that are known to be printable."""
    for line in text.split("\n"):
        print_text(line)


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1
) -> None:
    """A table; the first `left` columns are aligned left, figures to the right.

    What it holds is text: brackets are no markup, and what cannot be seen is written out.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=visible(title) or None, box=box.SIMPLE_HEAD, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(
            visible(column),
            justify="left" if index < left else "right",
            overflow="fold",
            no_wrap=False,
        )
    for row in rows:
        table.add_row(*map(visible, row))
    console = Console(markup=False, emoji=False, highlight=False)
    # A table in a file or a pipe keeps its natural width.
    console.width = console.width if console.is_terminal else max(console.width, 160)
    with _standard_output():
        console.print(table)


def say_waiting(device: str) -> None:
    """Say on the error stream that another measurement has a device."""
    sys.stderr.write(f"graphwright: another measurement runs on {device}: waiting for its end\n")
    sys.stderr.flush()


def flush_output() -> None:
    """Hand on all that was printed.

    Raises:
        OSError: it cannot be written, as to a full disk.
    """
    with _standard_output():
        sys.stdout.flush()


def _put(line: str) -> None:
    with _standard_output():
        sys.stdout.write(f"{line}\n")


@contextmanager
def _standard_output() -> Iterator[None]:
    """Errors say where it was that nothing could be written."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), "standard output") from error


@contextmanager
def progress(label: str, quiet: bool) -> Iterator[Callable[[float], None]]:
    """Report the share done; a bar appears on a terminal once two seconds have passed."""
    if quiet or not sys.stderr.isatty():
        yield lambda share: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    begun = time.monotonic()
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(escape(visible(label)), total=1.0, visible=False)

        def tell(share: float) -> None:
            late = time.monotonic() - begun > _QUIET_SECONDS
            bar.update(task, completed=share, visible=late)

        yield tell


def prepare(quiet: bool, overlaps: bool = False) -> None:
    """Compile the kernels before any clock runs; says so where it takes long.

    Args:
        overlaps: those of steps that overlap too.
    """
    from placement.placers.warm_up import warm_up

    def compile_all() -> None:
        warm_up()
        if overlaps:
            _overlap_once()

    if quiet or _is_compiled():
        compile_all()
        return
    begun = time.monotonic()
    sys.stderr.write("graphwright: compiling kernels, once after installation: about a minute\n")
    with _waiting("compiling"):
        compile_all()
    sys.stderr.write(f"graphwright: compiled in {time.monotonic() - begun:.0f} s\n")


def compile_first(quiet: bool) -> None:
    """Compile the kernels if they lie in no cache: before processes start that all need them."""
    if not _is_compiled():
        prepare(quiet)


def _overlap_once() -> None:
    """Plan a pipeline of three ops."""
    from graphs.builder import GraphBuilder, OpRecord, OutputTensor
    from graphs.import_report import ImportReport
    from graphs.kinds import OpKind
    from placement.placer import Budget
    from placement.problem import Problem
    from placement.throughput import plan_pipeline
    from simulator.clusters.presets import preset

    builder = GraphBuilder("warm-up")
    for name, sources in (("a", []), ("b", ["a"]), ("c", ["b"])):
        made = [OutputTensor(name, 1)]
        builder.add(OpRecord(name, "A", OpKind.MATMUL, inputs=sources, outputs=made, flops=1.0))
    plan_pipeline(Problem(builder.build(ImportReport()), preset("2xv100-pcie")), Budget(0.0), 0)


def _is_compiled() -> bool:
    """Whether kernels lie in numba's cache, so that nobody has to wait for them."""
    from simulator.event_engine.kernel import run_kernel

    folder = run_kernel.stats.cache_path  # type: ignore[attr-defined]
    name = run_kernel.py_func.__qualname__  # type: ignore[attr-defined]
    return bool(folder) and any(Path(folder).glob(f"kernel.{name}-*.nbi"))


@contextmanager
def _waiting(label: str) -> Iterator[None]:
    """A line with the seconds that have passed, on a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn(label), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        bar.add_task(label, total=None)
        yield
