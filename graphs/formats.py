"""The model formats that graphwright reads: how each is recognised, and what reads it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from graphs.errors import ModelError
from graphs.graph import Graph
from graphs.graph_file import MAGIC, SUFFIX
from graphs.import_limits import ImportLimits

#: Reads a model file or folder; the second argument has sizes of symbolic dimensions, a third
#: names a signature where the format has them.
Importer = Callable[..., Graph]


@dataclass(frozen=True)
class Format:
    """One way to store a model.

    A file is recognised by what it begins with, else by its suffix; a folder by what lies in it.
    """

    about: str
    """How messages name it."""
    importer: str
    """`module:function` of an `Importer`; the module is imported when a model is read."""
    suffixes: tuple[str, ...] = ()
    """File suffixes, in lower case."""
    beginnings: tuple[bytes, ...] = ()
    """The first bytes of such files; they tell more than a suffix."""
    text_beginnings: tuple[bytes, ...] = ()
    """The first characters of files whose suffix says nothing, after any white space."""
    markers: tuple[str, ...] = ()
    """Files that make a folder a model."""
    signatures: bool = False
    """Whether a model may hold several graphs, told apart by a signature's name."""
    foreign: bool = True
    """Whether other projects' code takes part in reading it, so that a file may break it."""

    def read(
        self,
        path: Path,
        dims: Mapping[str, int],
        signature: str | None = None,
        limits: ImportLimits | None = None,
    ) -> Graph:
        """Import a model; see `graphs.load` for what it raises.

        Args:
            path: the model.
            dims: sizes of symbolic dimensions.
            signature: which graph is meant, where there are several.
            limits: foreign formats are read in a process of their own, which is ended where it
                takes more. None: in this process.
        """
        if signature is not None and not self.signatures:
            allowed = " or ".join(item.about for item in FORMATS.values() if item.signatures)
            raise ModelError(
                f"{path}: {self.about} has no signatures, but {signature!r} was asked for; leave "
                f"it out, or give {allowed}"
            )
        if limits is None or not self.foreign:
            return run_importer(self.importer, path, dims, signature)
        from graphs.import_child import import_in_child

        return import_in_child(self.importer, path, dims, signature, limits)


def run_importer(
    importer: str, path: Path, dims: Mapping[str, int], signature: str | None
) -> Graph:
    """Import a model in this process by an importer's `module:function`."""
    module, _, name = importer.partition(":")
    function: Importer = getattr(import_module(module), name)
    return function(path, dims) if signature is None else function(path, dims, signature)


#: By name, in the order in which a file is held against them.
FORMATS: dict[str, Format] = {
    "graphwright": Format(
        f"a graphwright graph ({SUFFIX})",
        "graphs.graph_file:read_graph",
        suffixes=(SUFFIX,),
        beginnings=(MAGIC,),
        foreign=False,
    ),
    "tensorflow": Format(
        "a TensorFlow GraphDef (.pb, .pbtxt, also .gz) or SavedModel folder",
        "graphs.importers.tensorflow_models.graph:import_tensorflow",
        suffixes=(".pb", ".pb.gz", ".pbtxt", ".pbtxt.gz", ".graphdef"),
        beginnings=(b"\x1f\x8b",),
        markers=("saved_model.pb", "saved_model.pbtxt"),
        signatures=True,
    ),
    "torch-export": Format(
        "a torch.export program (.pt2)",
        "graphs.importers.torch_models.exported:import_torch_export",
        suffixes=(".pt2",),
        beginnings=(b"PK\x03\x04",),
    ),
    "dnn-partitioning": Format(
        "a dnn-partitioning benchmark graph (.json)",
        "graphs.importers.msr_benchmark:import_msr_file",
        suffixes=(".json",),
        text_beginnings=(b"{",),
        foreign=False,
    ),
    "onnx": Format(
        "an ONNX model (.onnx)",
        "graphs.importers.onnx_models.model:import_onnx",
        suffixes=(".onnx", ".onnxtxt", ".textproto"),
    ),
}


def described_formats() -> str:
    """All formats as one phrase, for messages."""
    *others, last = (item.about for item in FORMATS.values())
    return f"{', '.join(others)} or {last}"


def model_suffixes() -> tuple[str, ...]:
    """Suffixes by which the files of a folder are taken for models."""
    return tuple(suffix for item in FORMATS.values() for suffix in item.suffixes)


def folder_format(folder: Path) -> Format | None:
    """The format of a folder that is a model; None where it is none."""
    for item in FORMATS.values():
        if any((folder / name).exists() for name in item.markers):
            return item
    return None


def file_format(path: Path, head: bytes) -> Format | None:
    """The format of a file: by its first bytes, else by its suffix; None where neither tells."""
    name, text = path.name.lower(), head.lstrip()
    tests: tuple[Callable[[Format], bool], ...] = (
        lambda item: head.startswith(item.beginnings),
        lambda item: name.endswith(item.suffixes),
        lambda item: text.startswith(item.text_beginnings),
    )
    return next((item for test in tests for item in FORMATS.values() if test(item)), None)
