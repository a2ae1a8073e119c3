"""What a command leaves on the machine and in its folder."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SHARED = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Remains:
    """What is on the machine at an instant without a process: shared memory, temporary files.

    Args:
        shared: names in `/dev/shm`.
        temporary: names in the folder for temporary files.
    """

    shared: frozenset[str]
    temporary: frozenset[str]

    @staticmethod
    def now(temporary: Path) -> "Remains":
        """What is there now."""
        shared = {path.name for path in _SHARED.iterdir()} if _SHARED.exists() else set()
        return Remains(frozenset(shared), frozenset(_names(temporary)))

    def new_ones(self, temporary: Path, killed: bool) -> list[str]:
        """What has come since, as sentences; a killed process may leave temporary files."""
        now = Remains.now(temporary)
        found = [f"{name} left in /dev/shm" for name in sorted(now.shared - self.shared)]
        if not killed:
            left = sorted(now.temporary - self.temporary)
            found += [f"{name} left among temporary files" for name in left]
        return found


def _names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def digests(folder: Path) -> dict[str, str]:
    """A digest of each file below `folder`, or of a file itself, by its name."""
    if folder.is_file():
        return {folder.name: hashlib.sha256(folder.read_bytes()).hexdigest()}
    return {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in _names(folder)
    }


def broken_files(folder: Path) -> list[str]:
    """Files of known forms that cannot be read, as sentences."""
    import safetensors
    import yaml

    found = []
    for name in sorted(_names(folder)):
        path = folder / name
        try:
            if path.suffix == ".json":
                json.loads(path.read_text(encoding="utf-8"))
            elif path.suffix == ".jsonl":
                for line in path.read_text(encoding="utf-8").splitlines()[:-1]:
                    json.loads(line)
            elif path.suffix == ".yaml":
                yaml.safe_load(path.read_text(encoding="utf-8"))
            elif path.suffix == ".safetensors":
                with safetensors.safe_open(path, "numpy") as tensors:
                    list(tensors.keys())
            elif path.suffix == ".html" and "</html>" not in path.read_text(encoding="utf-8"):
                raise ValueError("no end")
        except (ValueError, OSError, yaml.YAMLError, safetensors.SafetensorError) as error:
            found.append(f"{name} is broken: {type(error).__name__}")
    return found


def learned(run: Path) -> Any:
    """Weights of a run's last state and best policy, as digests."""
    return {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(run.rglob("*.safetensors"))
    }


def finished_rows(path: Path) -> Any:
    """What was evaluated, each once; step times depend on the machine's speed and are left out."""
    rows = [json.loads(line) for line in whole_lines(path)]
    return sorted((row["graph"], row["cluster"], row["column"], row["seed"]) for row in rows)


def whole_lines(path: Path) -> list[str]:
    """Lines of a file that came to their end; none where there is no file."""
    if not path.exists():
        return []
    return [line for line in path.read_text(encoding="utf-8").splitlines(True) if line[-1] == "\n"]
