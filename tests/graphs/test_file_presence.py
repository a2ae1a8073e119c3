"""A text that no file can be called by is no file's name; it is nobody's fault but the user's."""

from pathlib import Path

import pytest

from graphs.file_presence import is_file, is_folder, is_there


def test_files_and_folders_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, there, file, folder in (
        (tmp_path / "file", True, True, False),
        (str(tmp_path), True, False, True),
        (tmp_path / "none", False, False, False),
        (tmp_path / "file" / "below", False, False, False),
    ):
        assert (is_there(path), is_file(path), is_folder(path)) == (there, file, folder)


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 5000, "\0", "a\0b.onnx"])
def test_what_can_be_no_name_is_not_there(name: str, tmp_path: Path) -> None:
    for path in (name, tmp_path / name):
        assert not (is_there(path) or is_file(path) or is_folder(path))


def test_what_cannot_be_told_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", refused)
    with pytest.raises(PermissionError):
        is_there("x")
