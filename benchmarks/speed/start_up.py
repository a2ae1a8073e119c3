"""What a command spends beside its work: processor time until it begins, and beyond `--budget`.

    python -m benchmarks.speed.start_up [--repeats 3] [--before ../earlier] [--verb place]
        [--out benchmarks/results/start_up.md]

Every run is a command of its own, in a folder of its own, after one run that does not count (it
compiles kernels, and Python's own files). CPU seconds are those of the command and of all processes
that it waits for. `--before` is a checkout of an earlier version, with which it is compared; its
runs and those of this version take turns.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

_ROOT = Path(__file__).resolve().parents[2]
_CORPUS = _ROOT / "tests" / "fuzz" / "corpus"
_BUDGET_SECONDS = 5.0
#: Stands for a folder that is another one each time.
_FRESH = "FRESH"
_RUN = "from agent.cli import main; main()"
_HEAVY = ("torch", "torch._dynamo", "torch_geometric", "tensorflow", "onnx", "numba")
#: The same, and on standard error which libraries the command has imported in the end.
_LOOK = (
    "import atexit, sys; "
    f"atexit.register(lambda: sys.stderr.write('HEAVY ' + ' '.join(m for m in {_HEAVY!r} "
    "if m in sys.modules))); "
) + _RUN


@dataclass(frozen=True)
class _Command:
    """A command that is measured."""

    name: str
    words: tuple[str, ...]
    budget_seconds: float = 0.0
    """What it is told to spend on searching; its rest is what the table is about."""


@dataclass
class _Measured:
    """CPU seconds of some runs of a command."""

    total: list[float] = field(default_factory=list)
    imports: list[float] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)

    def beyond(self, budget_seconds: float) -> float:
        """What was spent beyond the budget, reading the model left out."""
        each = zip(self.total, self.imports, strict=True)
        return median(total - read for total, read in each) - budget_seconds


def main() -> None:
    """Print the tables and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--before", type=Path, help="a checkout of an earlier version")
    parser.add_argument("--verb", help="only the commands of this verb")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    trees = [_ROOT] if options.before is None else [options.before.resolve(), _ROOT]
    given = f"--repeats {options.repeats}" + (" --before EARLIER" if options.before else "")
    with tempfile.TemporaryDirectory() as folder:
        asked = [
            command
            for command in _commands(Path(folder))
            if options.verb is None or command.words[0] == options.verb
        ]
        text = _tables(asked, trees, options.repeats, Path(folder), given)
    print(text)
    if options.out:
        options.out.write_text(f"# Starting up, and what a budget does not hold\n\n{text}\n")


def _tables(
    commands: Sequence[_Command], trees: Sequence[Path], repeats: int, folder: Path, given: str
) -> str:
    earlier = len(trees) > 1
    lines = [
        f"`python -m benchmarks.speed.start_up {given}`, Python {sys.version.split()[0]}, "
        f"{os.cpu_count()} cores, `OMP_NUM_THREADS=1`; medians of CPU seconds. *Beyond* is all "
        f"that a command spends but budget and reading the model.{_EARLIER if earlier else ''}",
        "",
        "| command | libraries | reading | start-up | beyond |" + (" earlier |" if earlier else ""),
        "|---|---|---|---|---|" + ("---|" if earlier else ""),
    ]
    for command in commands:
        measured = [_Measured() for _ in trees]
        libraries = _libraries(command, trees[-1], folder)
        for tree in trees[:-1]:
            _run(command, tree, folder)
        for _ in range(repeats):
            for tree, figures in zip(trees, measured, strict=True):
                total, spent = _run(command, tree, folder)
                figures.total.append(total)
                figures.imports.append(spent.get("import_cpu_seconds", 0.0))
                figures.starts.append(spent.get("start-up_cpu_seconds", 0.0))
        own = measured[-1]
        start = f"{median(own.starts):.1f}" if any(own.starts) else ""
        read = f"{median(own.imports):.1f}" if any(own.starts) else ""
        row = [f"`{command.name}`", libraries, read, start]
        row.append(f"{own.beyond(command.budget_seconds):.1f}")
        row += [f"{each.beyond(command.budget_seconds):.1f}" for each in measured[:-1]]
        lines.append(f"| {' | '.join(row)} |")
        print(lines[-1], file=sys.stderr)
    return "\n".join(lines)


_EARLIER = (
    " *Earlier* is the same of the version that it is compared with, which may have counted the "
    "process that reads a model apart."
)


def _libraries(command: _Command, tree: Path, folder: Path) -> str:
    """Which of the heavy libraries it imports; the run also compiles what is not compiled yet."""
    done = _started(_LOOK, command, tree, folder)
    _, told = done.communicate()
    return told.rpartition("HEAVY ")[2].strip().replace(" ", ", ") or "none"


def _run(command: _Command, tree: Path, folder: Path) -> tuple[float, dict[str, float]]:
    """CPU seconds of a command, and what it tells of them."""
    before = os.times()
    done = _started(_RUN, command, tree, folder)
    shown, told = done.communicate()
    after = os.times()
    if done.returncode:
        raise SystemExit(f"{command.name}: {told.strip()[-400:]}")
    user = after.children_user - before.children_user
    spent = user + after.children_system - before.children_system
    if command.words[0] != "place":
        return spent, {}
    # METIS's diagnostics may follow, in earlier versions.
    document, _ = json.JSONDecoder().raw_decode(shown)
    return spent, document["spent"]


def _started(code: str, command: _Command, tree: Path, folder: Path) -> "subprocess.Popen[str]":
    own = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    fresh = tempfile.mkdtemp(dir=folder)
    words = [fresh if word == _FRESH else word for word in command.words]
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder,
        env={**own, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def _commands(folder: Path) -> list[_Command]:
    """The verbs, on a saved graph, an ONNX model and a TensorFlow model."""
    import onnx

    from graphs.bundled_graphs import load_bundled
    from graphs.graph_file import write_graph

    saved, plans = folder / "saved.gwgraph", folder / "plans"
    write_graph(load_bundled("rnnlm-2"), saved)
    light = Path(onnx.__file__).parent / "backend/test/data/light/light_resnet50.onnx"
    cluster = ("-c", "4xv100-pcie")
    searched = (*cluster, "--budget", f"{_BUDGET_SECONDS:g}s", "--json")
    heuristic = (*cluster, "--placer", "heft", "--json")
    make = _Command("place", ("place", str(saved), *heuristic, "--out", str(plans)))
    _run(make, _ROOT, folder)
    plan = ("--plan", str(plans / "plan.json"))
    table = ("--suite", "test-families", "--limit", "1", "--seeds", "0")
    return [
        _Command("--help", ("--help",)),
        _Command("clusters list", ("clusters", "list")),
        _Command("simulate saved.gwgraph", ("simulate", str(saved), *plan)),
        _Command("place saved.gwgraph --placer heft", ("place", str(saved), *heuristic)),
        _Command("place light_resnet50.onnx --placer heft", ("place", str(light), *heuristic)),
        _Command(
            "place step.pb --placer heft", ("place", str(_CORPUS / "step.pb"), *heuristic)
        ),
        _Command(
            f"place saved.gwgraph --budget {_BUDGET_SECONDS:g}s",
            ("place", str(saved), *searched), _BUDGET_SECONDS,
        ),
        _Command(
            f"place saved.gwgraph --placer search --budget {_BUDGET_SECONDS:g}s",
            ("place", str(saved), *searched, "--placer", "search"), _BUDGET_SECONDS,
        ),
        _Command(
            "place saved.gwgraph --placer one-shot",
            ("place", str(saved), *cluster, "--placer", "one-shot", "--json"),
        ),
        _Command(
            "evaluate --only portfolio",
            ("evaluate", *table, "--only", "portfolio", "--budget", "1s", "--out", _FRESH),
        ),
        _Command("train --help", ("train", "--help")),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
