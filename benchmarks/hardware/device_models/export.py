"""Writes the models as ONNX files.

python -m device_models.export FOLDER      # from benchmarks/
"""

import logging
import sys
import warnings
from pathlib import Path

import torch

from benchmarks.hardware.device_models.models import FURTHER, MODELS


def export(name: str, folder: Path) -> Path:
    """Write one model; returns its path."""
    build, inputs = {**MODELS, **FURTHER}[name]
    torch.manual_seed(0)
    path = folder / f"{name}.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        torch.onnx.export(build().eval(), inputs(), str(path), dynamo=False, opset_version=17)
    return path


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    for model in MODELS:
        print(export(model, target))
