#!/usr/bin/env python3
"""Runs a model that graphwright split by device: one thread per device, onnxruntime in each.

Needs onnxruntime and numpy only. As a module: `SplitModel("MANIFEST.split.json").run(feeds)`.
As a command:

    python THIS_SCRIPT --inputs inputs.npz --outputs outputs.npz
    python THIS_SCRIPT --random --check original.onnx
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

MANIFEST = Path(__file__).with_name("MANIFEST.split.json")

_TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int16)": np.int16,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(uint16)": np.uint16,
    "tensor(uint32)": np.uint32,
    "tensor(uint64)": np.uint64,
    "tensor(bool)": np.bool_,
}


class SplitModel:
    """The parts of a model as sessions."""

    def __init__(self, manifest: str | Path = MANIFEST) -> None:
        manifest = Path(manifest)
        self.manifest: dict[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))
        if self.manifest["schema_version"] != 1:
            raise SystemExit(f"{manifest}: made by a newer graphwright; use the script beside it")
        self.devices = [device["name"] for device in self.manifest["devices"]]
        providers = {
            d["name"]: _provider(d["name"], d["provider"]) for d in self.manifest["devices"]
        }
        self.sessions = [
            _session(manifest.parent / part["file"], providers[part["device"]])
            for part in self.manifest["parts"]
        ]

    @property
    def inputs(self) -> list[str]:
        """Names of the tensors that `run` must be given."""
        return list(self.manifest["inputs"])

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """The model's outputs by name. Each device runs its parts in order, as inputs arrive."""
        missing = [name for name in self.inputs if name not in feeds]
        unknown = set(feeds) - set(self.inputs) - set(self.manifest["optional_inputs"])
        if missing or unknown:
            raise ValueError(f"missing inputs {missing}, unknown inputs {sorted(unknown)}")
        values: dict[str, Future[Any]] = {name: Future() for name in feeds}
        for name, value in feeds.items():
            values[name].set_result(value)
        for part in self.manifest["parts"]:
            values.update({name: Future() for name in part["outputs"]})
        with ThreadPoolExecutor(max_workers=len(self.devices)) as pool:
            jobs = [pool.submit(self._run_device, name, values, feeds) for name in self.devices]
        for job in jobs:
            job.result()
        return {name: values[name].result() for name in self.manifest["outputs"]}

    def _run_device(
        self, device: str, values: Mapping[str, Future[Any]], feeds: Mapping[str, Any]
    ) -> None:
        mine = [
            (part, session)
            for part, session in zip(self.manifest["parts"], self.sessions, strict=True)
            if part["device"] == device
        ]
        try:
            for part, session in mine:
                given = {name: values[name].result() for name in part["inputs"]}
                given.update({n: feeds[n] for n in part["optional_inputs"] if n in feeds})
                results = session.run(part["outputs"], given)
                for name, result in zip(part["outputs"], results, strict=True):
                    values[name].set_result(result)
        except BaseException as error:
            # Whoever waits for what this device still owes must not wait for ever.
            for name in (name for part, _ in mine for name in part["outputs"]):
                if not values[name].done():
                    values[name].set_exception(error)
            raise


def _provider(device: str, target: str) -> list[Any]:
    name, _, number = target.partition(":")
    if name not in ort.get_available_providers():
        sys.stderr.write(f"{device}: {name} is not available here, its parts run on the CPU\n")
        return ["CPUExecutionProvider"]
    options = {"device_id": number} if number and name != "CPUExecutionProvider" else {}
    return [(name, options), "CPUExecutionProvider"] if options else [name]


def _session(path: Path, providers: Sequence[Any]) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=list(providers))


def random_feeds(
    session: ort.InferenceSession, shapes: Mapping[str, Sequence[int]], seed: int
) -> dict[str, Any]:
    """Values for the inputs of a model, in the shapes that it was placed for; whole numbers are 0
    or 1."""
    generator = np.random.default_rng(seed)
    feeds: dict[str, Any] = {}
    for item in session.get_inputs():
        if item.name not in shapes:
            continue
        if item.type not in _TYPES:
            raise SystemExit(f"input {item.name!r} is a {item.type}; give --inputs")
        shape = shapes[item.name]
        kind = _TYPES[item.type]
        whole = np.issubdtype(kind, np.integer) or kind is np.bool_
        values = generator.integers(0, 2, shape) if whole else generator.standard_normal(shape)
        feeds[item.name] = values.astype(kind)
    return feeds


def largest_difference(got: Any, wanted: Any) -> float:
    """The largest absolute difference, over the largest value where that is above one."""
    if isinstance(wanted, list):
        pairs = zip(got, wanted, strict=True)
        return max((largest_difference(a, b) for a, b in pairs), default=0.0)
    if got.dtype.kind not in "fiub":
        return 0.0 if (got == wanted).all() else float("inf")
    got, wanted = got.astype(np.float64), wanted.astype(np.float64)
    if got.shape != wanted.shape or (np.isnan(got) != np.isnan(wanted)).any():
        return float("inf")
    same = (got == wanted) | np.isnan(wanted)
    gap = np.abs(np.where(same, 0, got) - np.where(same, 0, wanted)).max(initial=0)
    scale = np.abs(wanted[np.isfinite(wanted)]).max(initial=0)
    return float(gap / max(1.0, scale))


def main() -> int:
    parser = argparse.ArgumentParser(description="Run a model that graphwright split by device.")
    parser.add_argument("--inputs", type=Path, help="npz file with an array per input")
    parser.add_argument("--random", action="store_true", help="make the inputs up")
    parser.add_argument("--seed", type=int, default=0, help="of made-up inputs")
    parser.add_argument("--outputs", type=Path, help="npz file to write")
    parser.add_argument("--check", type=Path, help="original model: compare outputs with it")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="relative, for --check")
    arguments = parser.parse_args()
    model = SplitModel()
    if arguments.inputs is None and not arguments.random:
        parser.error("give --inputs FILE.npz or --random")
    original = _session(arguments.check, ["CPUExecutionProvider"]) if arguments.check else None
    shapes = model.manifest["example_shapes"]
    feeds: dict[str, Any] = {}
    if arguments.inputs is not None:
        feeds = dict(np.load(arguments.inputs))
    elif original is not None:
        feeds = random_feeds(original, shapes, arguments.seed)
    else:
        for session in model.sessions:
            feeds.update(random_feeds(session, shapes, arguments.seed))
    outputs = model.run(feeds)
    if arguments.outputs is not None:
        np.savez(arguments.outputs, **outputs)
    for name, value in outputs.items():
        print(f"{name}: {getattr(value, 'dtype', type(value).__name__)}{list(np.shape(value))}")
    if original is not None:
        wanted = original.run(list(outputs), feeds)
        gap = max(largest_difference(outputs[n], v) for n, v in zip(outputs, wanted, strict=True))
        equal = gap <= arguments.tolerance
        print(f"largest difference to {arguments.check}: {gap:.3g}", "" if equal else "TOO LARGE")
        return 0 if equal else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
