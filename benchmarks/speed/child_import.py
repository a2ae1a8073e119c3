"""What reading a model in a process of its own costs, beside reading it in the same process.

    python -m benchmarks.speed.child_import [--repeats 5] [--out benchmarks/results/child_import.md]

Every reading is a command of its own, in turns; its clock begins before anything is imported. A
process is copied where nothing in it has threads, as at the start of a command, and otherwise
started anew.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from statistics import median

_ROOT = Path(__file__).resolve().parents[2]
_CORPUS = _ROOT / "tests" / "fuzz" / "corpus"
_OPS = 20_000

_READ = """
import json, sys, time
start = time.perf_counter()
from graphs.loading import load
from graphs.import_limits import ImportLimits
if sys.argv[2] == "started":
    from graphs import import_child
    import_child.may_fork = lambda: False
graph = load(
    sys.argv[1], allow_unknown=True, limits=None if sys.argv[2] == "same" else ImportLimits()
)
print(json.dumps([time.perf_counter() - start, graph.op_count, graph.digest]))
"""


def main() -> None:
    """Print the table and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    lines = [
        f"`python -m benchmarks.speed.child_import --repeats {options.repeats}`, Python "
        f"{sys.version.split()[0]}, {os.cpu_count()} cores; medians of seconds",
        "",
        "| model | ops | same process | copied process | more | started process | more |",
        "|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for path in _models(Path(folder)):
            lines.append(_row(path, options.repeats))
            print(lines[-1], file=sys.stderr)
    text = "\n".join(lines)
    print(text)
    if options.out:
        options.out.write_text(f"# Reading models in a process of their own\n\n{text}\n")


def _row(path: Path, repeats: int) -> str:
    seconds: dict[str, list[float]] = {"same": [], "copied": [], "started": []}
    ops, digests = 0, set()
    for _ in range(repeats):
        for way, times in seconds.items():
            taken, ops, digest = _read(path, way)
            times.append(taken)
            digests.add(digest)
    assert len(digests) == 1, "the graphs differ"
    same, copied, started = (median(times) for times in seconds.values())
    return (
        f"| {path.name} | {ops:,} | {same:.2f} | {copied:.2f} | {copied - same:+.2f} "
        f"| {started:.2f} | {started - same:+.2f} |"
    )


def _read(path: Path, way: str) -> tuple[float, int, str]:
    result = subprocess.run(
        [sys.executable, "-c", _READ, str(path), way],
        check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, "PYTHONPATH": str(_ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip
    taken, ops, digest = json.loads(result.stdout.strip().splitlines()[-1])
    return taken, ops, digest


def _models(folder: Path) -> list[Path]:
    """A small model of each format, and a large one."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    paths = [folder / name for name in ("small.onnx", "large.onnx", "small.pb", "small.pt2")]
    for path, ops in zip(paths, (10, _OPS), strict=False):
        nodes = [
            helper.make_node(
                "MatMul" if index % 2 else "Relu",
                [f"t{index}", "w"][: 1 + index % 2], [f"t{index + 1}"], f"layer{index}/op",
            )
            for index in range(ops)
        ]  # fmt: skip
        info = helper.make_tensor_value_info
        graph = helper.make_graph(
            nodes, "g", [info("t0", TensorProto.FLOAT, ["batch", 64])],
            [onnx.ValueInfoProto(name=f"t{ops}")],
            [numpy_helper.from_array(np.ones((64, 64), np.float32), "w")],
        )  # fmt: skip
        opsets = [helper.make_opsetid("", 20)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    paths[2].write_bytes((_CORPUS / "step.pb").read_bytes())
    with zipfile.ZipFile(paths[3], "w") as archive:
        archive.write(_CORPUS / "layers.pt2.json", "models/model.json")
    return paths


if __name__ == "__main__":
    main()
