"""A Vision Transformer as a torch.export program, run by device map and as pipeline stages."""

import copy
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.data.torch_models.transformers import VisionTransformer

NAME = "vit-small"


def build() -> tuple[nn.Module, Tensor]:
    """The model with random weights, and an input."""
    torch.manual_seed(0)
    model = VisionTransformer(64, 192, 3, 6, 10).eval()
    return model, torch.randn(2, 3, 64, 64)


def write_program(folder: Path) -> Path:
    """The program as `torch.export.save` writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    model, image = build()
    path = folder / f"{NAME}.pt2"
    torch.export.save(torch.export.export(model, (image,)), path)
    return path


def run_device_map(path: Path) -> tuple[Any, Any]:
    """Outputs of the dispatched model and of the original; every device is the CPU here."""
    from accelerate import dispatch_model
    from accelerate.utils import check_device_map

    model, image = build()
    table = json.loads(path.read_text())
    check_device_map(model, table)
    with torch.no_grad():
        wanted = model(image)
        placed = dispatch_model(copy.deepcopy(model), dict.fromkeys(table, "cpu"))
        return placed(image).numpy(), wanted.numpy()


def run_pipeline(path: Path) -> tuple[Any, Any]:
    """Outputs of the stages run one after the other, and of the original."""
    from torch.distributed.pipelining import SplitPoint, pipeline

    model, image = build()
    spec = {
        name: SplitPoint[kind] for name, kind in json.loads(path.read_text())["split_spec"].items()
    }
    pipe = pipeline(copy.deepcopy(model), mb_args=(image,), split_spec=spec)
    values: tuple[Any, ...] = (image,)
    with torch.no_grad():
        for stage in range(pipe.num_stages):
            result = pipe.get_stage_module(stage)(*values)
            values = result if isinstance(result, tuple) else (result,)
        return values[0].numpy(), model(image).numpy()
