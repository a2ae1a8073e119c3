"""The house in figures: files, lines, circles, `Any`, and how many files four walks pass through.

    python benchmarks/structure.py [--walks] [--root CHECKOUT]

A walk runs a command and counts the project's files in which a Python function is called: a model
through `place`, a problem through the policy, a plan through `measure`, a graph through `train`.
`--root` looks at another checkout, such as one of an earlier commit.
"""

import argparse
import ast
import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import FrameType

PACKAGES = ("graphs", "simulator", "placement", "envs", "agent")
WALKS = ("place", "policy", "measure", "train")


def main() -> None:
    """Print the figures as a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--walks", action="store_true", help="take the four walks as well")
    parser.add_argument("--walk", choices=WALKS, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    given = parser.parse_args()
    root = given.root.resolve()
    if given.walk:
        print(len(files_passed(given.walk, root)))
        return
    print("| folder | files | lines | most files in one folder |\n|---|---:|---:|---:|")
    for package in (*PACKAGES, "tests", "benchmarks"):
        files = list((root / package).rglob("*.py"))
        lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files)
        flat = max((len(list(path.parent.glob("*.py"))) for path in files), default=0)
        print(f"| {package} | {len(files)} | {lines} | {flat} |")
    sources = [path for package in PACKAGES for path in (root / package).rglob("*.py")]
    lines = [line for path in sources for line in path.read_text(encoding="utf-8").splitlines()]
    loose = sum(re.search(r"\bAny\b", line) is not None for line in lines)
    print(f"\nLines with `Any`: {loose}")
    print(f"Modules in circles of imports: {len(modules_in_circles(root, sources))}")
    if given.walks:
        for walk in WALKS:
            command = [sys.executable, __file__, "--walk", walk, "--root", str(root)]
            environment = {**os.environ, "PYTHONPATH": str(root)}
            found = subprocess.run(
                command, env=environment, cwd=root, capture_output=True, text=True, check=True
            )
            print(f"Files on the walk {walk}: {found.stdout.split()[-1]}")


def modules_in_circles(root: Path, sources: list[Path]) -> set[str]:
    """Modules that import themselves through others; imports for types and in functions count."""
    names = {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sources
    }
    graph = {name: set(imported(path)) & set(names) - {name} for name, path in names.items()}
    circular: set[str] = set()
    while True:
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            circle = set(error.args[1])
            circular |= circle
            first, second = error.args[1][1], error.args[1][0]
            graph[first] = graph[first] - {second}
            continue
        return circular


def imported(path: Path) -> Iterator[str]:
    """Modules that a file imports, wherever it does."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def files_passed(walk: str, root: Path) -> set[str]:
    """Files of the project in which a function was called on a walk."""
    seen: set[str] = set()
    folders = tuple(f"{root / package}{os.sep}" for package in PACKAGES)

    def note(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            name = frame.f_code.co_filename
            if frame.f_code.co_name != "<module>" and name.startswith(folders):
                seen.add(name)

    with tempfile.TemporaryDirectory() as folder:
        take = prepare_walk(walk, Path(folder))
        with contextlib.redirect_stdout(io.StringIO()):
            sys.setprofile(note)
            take()
            sys.setprofile(None)
    return seen


def prepare_walk(walk: str, folder: Path) -> Callable[[], object]:
    """What a walk does, with all that is not part of it done before."""
    from agent.cli.app import run

    place = ["place", "gpt2", "--cluster", "2xv100-pcie", "--placer", "policy", "--budget", "3s"]
    with contextlib.redirect_stdout(io.StringIO()):
        if walk == "place":
            return lambda: run([*place, "--out", str(folder / "plan"), "--json"])
        if walk == "policy":
            return policy_walk()
        if walk == "train":
            sizes = ["--rounds", "1", "--max-ops", "500", "--validation-graphs", "1"]
            return lambda: run(["train", *sizes, "--track", "none", "--out", str(folder), "--json"])
        model, cluster = str(folder / "a.onnx"), str(folder / "cluster.yaml")
        write_model(Path(model))
        run(["clusters", "probe", "--out", cluster, "--json"])
        plan = ["place", model, "--cluster", cluster, "--placer", "single", "--json"]
        run([*plan, "--out", str(folder / "plan")])
        plan_file = str(folder / "plan" / "plan.json")
        words = ["measure", model, "--cluster", cluster, "--plan", plan_file, "--repeats", "2"]
        return lambda: run([*words, "--json"])


def policy_walk() -> Callable[[], object]:
    """The shipped policy decides one problem."""
    from placement import Budget, Problem

    try:
        from agent.placing.registry import get_placer
        from graphs.bundled_graphs import load_bundled
        from simulator import preset
    except ImportError:  # an earlier layout
        from agent.placers import get_placer
        from graphs.catalogue import load_bundled
        from simulator.presets import preset
    placer = get_placer("policy")
    problem = Problem(load_bundled("gpt2"), preset("2xv100-pcie"))
    return lambda: placer(problem, Budget(3.0), 0, lambda _share: None)


def write_model(path: Path) -> None:
    """A small model: a product and an activation, eight times."""
    import onnx
    from onnx import TensorProto, helper

    nodes, last = [], "x"
    for layer in range(8):
        nodes.append(helper.make_node("MatMul", [last, "w"], [f"p{layer}"], f"product{layer}"))
        nodes.append(helper.make_node("Relu", [f"p{layer}"], [f"r{layer}"], f"relu{layer}"))
        last = f"r{layer}"
    weight = helper.make_tensor("w", TensorProto.FLOAT, [64, 64], [0.01] * 4096)
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [32, 64]) for n in ("x", last)]
    graph = helper.make_graph(nodes, "walk", ends[:1], ends[1:], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)


if __name__ == "__main__":
    main()
