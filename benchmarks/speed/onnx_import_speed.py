"""Seconds to import ONNX models without their weights; the target is 2 s each.

    python benchmarks/data/export_onnx_models.py FOLDER
    python benchmarks/speed/onnx_import_speed.py FOLDER [--out FILE.md]

The DenseNet-121 that ships with the onnx package is imported besides.
"""

import argparse
import sys
import time
from pathlib import Path

import onnx

import graphs


def main() -> None:
    """Print the table and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    shipped = Path(onnx.__file__).parent.rglob("light_densenet121.onnx")
    lines = [
        f"`python benchmarks/speed/onnx_import_speed.py FOLDER`, Python {sys.version.split()[0]}",
        "",
        "| model | ops | edges | file bytes | seconds |",
        "|---|---|---|---|---|",
    ]
    for path in [*sorted(arguments.folder.glob("*.onnx")), *shipped]:
        begun = time.perf_counter()
        graph = graphs.load(path)
        seconds = time.perf_counter() - begun
        lines.append(
            f"| {path.stem} | {graph.op_count} | {graph.edge_count} | {path.stat().st_size} "
            f"| {seconds:.2f} |"
        )
    print("\n".join(lines))
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
