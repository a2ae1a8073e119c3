"""Files that people take for models and that hold no readable graph, and what to do instead."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

_KERAS = "call `model.export(FOLDER)` and give the SavedModel folder"
_TORCH = (
    "it holds weights and no graph: write `torch.export.save(torch.export.export(model, inputs), "
    "'model.pt2')`, or export ONNX"
)


@dataclass(frozen=True)
class ForeignFile:
    """A kind of file that is told by its suffix or by its first bytes."""

    what: str
    instead: str
    suffixes: tuple[str, ...] = ()
    beginnings: tuple[bytes, ...] = ()

    @property
    def sentence(self) -> str:
        """What the file is and what to do, behind its name."""
        return f"{self.what}; {self.instead}"


FOREIGN_FILES: tuple[ForeignFile, ...] = (
    ForeignFile(
        "a Git LFS pointer, not the model itself",
        "fetch the file with `git lfs pull`",
        beginnings=(b"version https://git-lfs.github.com/spec/",),
    ),
    ForeignFile("a Keras archive", _KERAS, (".keras",)),
    ForeignFile("a Keras HDF5 file", _KERAS, (".h5", ".hdf5"), (b"\x89HDF\r\n",)),
    ForeignFile("what torch.save pickled", _TORCH, (".pth", ".pt", ".ckpt", ".bin")),
    ForeignFile("a file of weights", _TORCH, (".safetensors",)),
    ForeignFile(
        "onnxruntime's own format",
        "give the ONNX model that it was made from",
        (".ort",),
    ),
    ForeignFile(
        "a TensorFlow Lite model",
        "give the SavedModel that it was converted from",
        (".tflite", ".lite"),
    ),
    ForeignFile("weights for llama.cpp", "give an ONNX export of the model", (".gguf", ".ggml")),
    ForeignFile(
        "a TensorRT engine, compiled for one card",
        "give the ONNX model that it was built from",
        (".engine", ".plan", ".trt"),
    ),
    ForeignFile(
        "a Core ML model", "give the model that it was converted from", (".mlmodel", ".mlpackage")
    ),
)


def foreign_file(path: Path, head: bytes) -> ForeignFile | None:
    """The kind of a file that is no model; None where nothing speaks against it.

    Args:
        head: its first bytes, empty for a folder.
    """
    name = path.name.lower()
    for item in FOREIGN_FILES:
        if head.startswith(item.beginnings):
            return item
        if name.endswith(item.suffixes):
            return None if _is_exported_program(path, head) else item
    return None


def _is_exported_program(path: Path, head: bytes) -> bool:
    """Whether an archive is torch.export's whatever it is called: torch.save's holds a pickle."""
    if not head.startswith(b"PK") or path.suffix == ".keras" or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return not any(name.endswith("data.pkl") for name in archive.namelist())
