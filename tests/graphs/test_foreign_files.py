"""Files that are no models: the message says what a file is and what to do."""

from pathlib import Path

import pytest
import torch

import graphs
from graphs.foreign_files import FOREIGN_FILES

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


@pytest.mark.parametrize(
    ("name", "head", "said"),
    [
        ("model.onnx", LFS, "git lfs pull"),
        ("saved.pb", LFS, "git lfs pull"),
        ("model.keras", b"PK\x03\x04", "model.export"),
        ("model.pth", b"PK\x03\x04", "torch.export.save"),
        ("model.ort", b"\x18\0\0\0ORTM", "the ONNX model that it was made from"),
        ("model.h5", b"\x89HDF\r\n\x1a\n", "SavedModel"),
    ],
)
def test_what_a_file_is_and_what_to_do(tmp_path: Path, name: str, head: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(head)
    with pytest.raises(graphs.ModelError, match=said):
        graphs.load(tmp_path / name)


def test_an_exported_program_is_read_whatever_its_suffix(tmp_path: Path) -> None:
    program = torch.export.export(torch.nn.Linear(4, 4), (torch.zeros(2, 4),))
    torch.export.save(program, tmp_path / "a.pt2")
    (tmp_path / "a.pt2").rename(tmp_path / "a.pt")
    assert graphs.load(tmp_path / "a.pt").op_count > 0
    torch.save({"a": torch.zeros(3)}, tmp_path / "b.pt")
    with pytest.raises(graphs.ModelError, match="weights and no graph"):
        graphs.load(tmp_path / "b.pt")


def test_each_kind_is_told_by_something() -> None:
    assert all(item.suffixes or item.beginnings for item in FOREIGN_FILES)
