"""Models whose kernels are measured: families, members, and how each is written as ONNX."""

import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, numpy_helper

from benchmarks.hardware.device_models.kernels import write_kernels
from benchmarks.hardware.device_models.models import (
    Branches,
    Inception,
    Recurrent,
    Residual,
    TrainingStep,
    Transformer,
)

#: Family of the kernels that are in no model.
GENERATED = "generated"

_IMAGE = (torch.zeros(1, 3, 112, 112),)
#: Small models by family and size.
SMALL: Mapping[str, tuple[Callable, Callable, tuple[int, ...]]] = {
    "residual": (lambda s: Residual(2, s), lambda s: _IMAGE, (24, 48, 64, 96)),
    "inception": (lambda s: Inception(2, s), lambda s: _IMAGE, (64, 128, 192)),
    "branches": (lambda s: Branches(1, 2, s), lambda s: (torch.zeros(1, 3, 56, 56),), (24, 48, 96)),
    "lstm": (
        lambda s: Recurrent(2, s), lambda s: (torch.zeros(3, 32, s),), (128, 256, 384, 512),
    ),
    "transformer": (
        lambda s: Transformer(1, s), lambda s: (torch.zeros(2, 96, s),), (128, 256, 384),
    ),
    "training-step": (
        lambda s: TrainingStep(2, s),
        lambda s: (torch.zeros(96, s), torch.zeros(96, s)),
        (192, 384, 640),
    ),
}  # fmt: skip
#: Of `torch_models`, for one sample.
TORCH: Mapping[str, tuple[str, ...]] = {
    "transformer": ("bert-base",),
    "gpt2": ("gpt2",),
    "vit": ("vit-b16",),
    "swin": ("swin-t",),
    "unet": ("unet",),
    "whisper": ("whisper-base",),
}
#: That come with the onnx package, their weights left out.
LIGHT: Mapping[str, tuple[str, ...]] = {
    "residual": ("resnet50",),
    "inception": ("inception_v1", "inception_v2"),
    "densenet": ("densenet121",),
    "alexnet": ("bvlc_alexnet",),
    "vgg": ("vgg19",),
    "shufflenet": ("shufflenet",),
    "squeezenet": ("squeezenet",),
}


def sources(generated: int) -> list[tuple[str, str, int]]:
    """Family, member and number of every model; generated ones are numbered by their seed."""
    found = [(family, f"{family}-{size}", size) for family in SMALL for size in SMALL[family][2]]
    for members in (LIGHT, TORCH):
        found += [(family, name, 0) for family, names in members.items() for name in names]
    return found + [(GENERATED, f"{GENERATED}-{seed}", seed) for seed in range(generated)]


def write_source(family: str, name: str, number: int, folder: Path) -> Path:
    """The model as an ONNX file in the folder; one that is there already is kept."""
    path = folder / f"{name}.onnx"
    if path.exists():
        return path
    if family == GENERATED:
        return write_kernels(path, number)
    if name in {item for names in LIGHT.values() for item in names}:
        return _write_light(name, path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        if name in {item for names in TORCH.values() for item in names}:
            return _write_torch(name, path)
        build, inputs, _ = SMALL[family]
        model = build(number).eval()
        torch.onnx.export(model, inputs(number), str(path), dynamo=False, opset_version=17)
    return path


def _write_torch(name: str, path: Path) -> Path:
    from benchmarks.data.torch_models.export import onnx_program, without_weights

    program = onnx_program(name, any_batch=False, batch=1)
    onnx.save_model(without_weights(program, f"{name}.data"), path)
    return path


def _write_light(name: str, path: Path) -> Path:
    """Weights that the model makes at run time become weights whose values are in no file."""
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    model = onnx.load(folder / f"light_{name}.onnx")
    known = {tensor.name: tensor for tensor in model.graph.initializer}
    kept, drawn = [], []
    for node in model.graph.node:
        if node.op_type == "ConstantOfShape" and node.input[0] in known:
            shape = np.atleast_1d(numpy_helper.to_array(known[node.input[0]]))
            tensor = TensorProto(name=node.output[0], data_type=TensorProto.FLOAT, dims=shape)
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="no-such-file")
            drawn.append(tensor)
        else:
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    model.graph.initializer.extend(drawn)
    inputs = [value for value in model.graph.input if value.name not in known]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    path.write_bytes(model.SerializeToString())
    return path
