"""A folder with a model and results of earlier commands, and how a command is run in it."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: A variable by which all processes of one command are known, wherever they went.
MARK = "GRAPHWRIGHT_FAULTS_MARK"
_MAIN = "import sys; sys.argv[0] = 'graphwright'; from agent.cli import main; sys.exit(main())"
_QUIET = {
    "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3",
    "PYTHONUNBUFFERED": "1",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended.

    Args:
        code: its exit code; negative is the signal that killed it.
        out: what it printed.
        error: what it said on the error stream.
        seconds: by the clock.
    """

    code: int
    out: str
    error: str
    seconds: float

    @property
    def said(self) -> str:
        """The line that says what went wrong: the last one of graphwright's own."""
        own = [line for line in self.error.splitlines() if line.startswith("graphwright: ")]
        return (own or self.error.splitlines() or self.out.splitlines() or [""])[-1]


def start(
    folder: Path,
    words: tuple[str, ...],
    environment: Mapping[str, str | None] | None = None,
    before: str = "",
) -> tuple["subprocess.Popen[str]", str]:
    """Start `graphwright WORDS` in `folder`, in a session of its own.

    Args:
        folder: the current folder of the command.
        words: the verb and its arguments.
        environment: variables besides those of this process; None takes one away.
        before: Python that runs before the command, for faults that come from inside.

    Returns:
        The process, and the mark that it and all its children carry.
    """
    mark = uuid.uuid4().hex
    variables: dict[str, str] = {**os.environ, **_QUIET, "PYTHONPATH": str(ROOT), MARK: mark}
    for name, value in (environment or {}).items():
        if value is None:
            variables.pop(name, None)
        else:
            variables[name] = value
    process = subprocess.Popen(
        [sys.executable, "-c", f"{before}\n{_MAIN}", *words], cwd=folder, env=variables,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        errors="replace", start_new_session=True,
    )  # fmt: skip
    return process, mark


def run(
    folder: Path,
    *words: str,
    environment: Mapping[str, str | None] | None = None,
    before: str = "",
    patience_seconds: float = 900.0,
) -> Ended:
    """Run a command to its end; one that does not end is killed, with code -9."""
    began = time.monotonic()
    process, mark = start(folder, words, environment, before)
    try:
        out, error = process.communicate(timeout=patience_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, error = process.communicate()
    finally:
        for left in marked(mark):
            os.kill(left, signal.SIGKILL)
    return Ended(process.returncode, out, error, time.monotonic() - began)


def marked(mark: str) -> list[int]:
    """Processes that carry a mark, zombies left out."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:  # it ended, or is another user's
            continue
    return found


def furnish(folder: Path) -> None:
    """Put into `folder` what commands work on: a model, a cluster, a plan, a run, a calibration.

    Raises:
        RuntimeError: one of the commands that make them failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_model(folder / "model.onnx")
    for words in (
        ("clusters", "probe", "--out", "cores.yaml"),
        ("place", "rnnlm-2", "--cluster", "2xv100-pcie", "--placer", "metis", "--out", "plan"),
        ("place", "model.onnx", "--cluster", "cores.yaml", "--placer", "metis", "--out", "cores"),
        ("train", *TRAIN, "--out", "trained"),
    ):
        ended = run(folder, *words)
        if ended.code:
            raise RuntimeError(f"{' '.join(words)} ended with {ended.code}: {ended.error[-2000:]}")


def _write_model(path: Path, layers: int = 4, width: int = 64) -> None:
    """Two branches of products and activations, with weights."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    generator = np.random.default_rng(0)
    nodes, weights, ends = [], [], []
    for branch in "ab":
        last = "x"
        for layer in range(layers):
            name = f"{branch}{layer}"
            values = generator.normal(size=(width, width)).astype(np.float32) / width
            weights.append(numpy_helper.from_array(values, f"{name}/w"))
            nodes.append(helper.make_node("MatMul", [last, f"{name}/w"], [f"{name}/product"], name))
            nodes.append(helper.make_node("Relu", [f"{name}/product"], [name], f"{name}/relu"))
            last = name
        ends.append(last)
    nodes.append(helper.make_node("Add", ends, ["y"], "sum"))
    value = helper.make_tensor_value_info
    shape = [8, width]
    graph = helper.make_graph(
        nodes, "branches", [value("x", TensorProto.FLOAT, shape)],
        [value("y", TensorProto.FLOAT, shape)], weights,
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)


#: Settings with which training takes seconds.
TRAIN = (
    "--rounds", "3", "--max-ops", "800", "--validate-every", "3", "--validation-graphs", "2",
    "--graphs-per-batch", "1", "--threads", "1", "--track", "none", "--policy.width", "16",
    "--policy.heads", "2", "--policy.pair-width", "8", "--policy.move-widths", "8", "4",
)  # fmt: skip
