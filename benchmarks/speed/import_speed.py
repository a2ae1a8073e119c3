"""Seconds and memory to import a TensorFlow training graph of about 35,000 nodes.

    python benchmarks/speed/import_speed.py [--workload gnmt-8-35k] [--cache FOLDER] [--repeats 3]

The GraphDef is built once and kept in the cache folder; every import runs in a process of its
own, so that peak memory is that of one import, TensorFlow included. The target is less than
15 seconds and 2 GiB.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

TARGET_SECONDS = 15.0
TARGET_BYTES = 2 << 30

_BUILD = """
import sys
from pathlib import Path
from graphs.workloads.registry import build_workload
workload = build_workload(sys.argv[1])
Path(sys.argv[2]).write_bytes(workload.graph.as_graph_def().SerializeToString())
"""

_IMPORT = """
import json, resource, sys, time
start = time.perf_counter()
import tensorflow
loaded = time.perf_counter()
from graphs import load
graph = load(sys.argv[1])
done = time.perf_counter()
print(json.dumps({
    "tensorflow_seconds": loaded - start,
    "import_seconds": done - loaded,
    "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    "ops": graph.op_count,
    "edges": graph.edge_count,
    "digest": graph.digest,
}))
"""


def run(script: str, *arguments: str) -> str:
    """Run Python code in a fresh process and return its last line of output."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    root = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.getenv("PYTHONPATH")]))
    result = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
    )  # fmt: skip
    return (result.stdout.strip().splitlines() or [""])[-1]


def main() -> None:
    """Build what is not cached, measure, print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workload", default="gnmt-8-35k")
    parser.add_argument(
        "--cache", type=Path, default=Path(tempfile.gettempdir()) / "graphwright-benchmarks"
    )
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    model = options.cache / f"{options.workload}.pb"
    if not model.exists():
        partial = model.with_suffix(".partial")
        run(_BUILD, options.workload, str(partial))
        partial.replace(model)
    rows = [json.loads(run(_IMPORT, str(model))) for _ in range(options.repeats)]
    seconds = median(row["import_seconds"] for row in rows)
    peak = max(row["peak_bytes"] for row in rows)
    row = rows[0]
    print(f"workload          {options.workload} ({model.stat().st_size / 1e6:.1f} MB)")
    print(f"ops, edges        {row['ops']:,}, {row['edges']:,}")
    print(f"import tensorflow {median(r['tensorflow_seconds'] for r in rows):6.2f} s")
    print(f"import graph      {seconds:6.2f} s   (target < {TARGET_SECONDS:.0f} s)")
    print(f"peak memory       {peak / 2**30:6.2f} GiB (target < {TARGET_BYTES / 2**30:.0f} GiB)")
    print(json.dumps({"workload": options.workload, "seconds": seconds, "peak_bytes": peak,
                      "runs": rows}))  # fmt: skip
    if seconds >= TARGET_SECONDS or peak >= TARGET_BYTES:
        sys.exit("over target")


if __name__ == "__main__":
    main()
