"""The folder of a run: what it holds, how it begins and how it is found again."""

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from typing import Any

from agent.runs.commit import current_commit
from agent.runs.plain_values import to_plain
from agent.runs.policy_file import META, stored_at
from graphs.errors import GraphwrightError
from graphs.whole_files import write_whole
from placement.suites import Suite, get_suite
from placement.suites.pair import memory_rule
from simulator.cluster_file import load_cluster

CONFIG, CHECKPOINT, BEST = "config.json", "checkpoint", "best"

_PACKAGES = ("graphwright", "torch", "numpy", "numba", "pymetis", "wandb")


@dataclass(frozen=True)
class RunFolder:
    """A folder with `config.json`, `metrics.jsonl`, `checkpoint/`, `best/` and trackers' own."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        """The policy with all that is needed to go on."""
        return self.folder / CHECKPOINT

    @property
    def best(self) -> Path:
        """The policy that did best on the validation suite."""
        return self.folder / BEST

    @property
    def config_file(self) -> Path:
        return self.folder / CONFIG

    def config(self) -> Mapping[str, Any]:
        """What the run was begun with.

        Raises:
            GraphwrightError: it cannot be read.
        """
        return _read(self.config_file)


def begin_run(
    folder: Path | None,
    kind: str,
    settings: Mapping[str, Any],
    facts: Mapping[str, Any],
    command: Sequence[str],
    resumed: bool = False,
) -> RunFolder:
    """Make a run's folder and describe the run in it.

    Args:
        folder: None makes a new one in `runs`.
        kind: train or finetune.
        settings: the configuration as plain values.
        facts: what it comes down to, such as digests.
        command: that began the run.
        resumed: the folder may hold a run, which goes on.

    Raises:
        GraphwrightError: the folder holds a run already, or something else.
    """
    run = RunFolder(folder if folder is not None else _new_folder(kind))
    commands, commits = [list(command)], [current_commit()]
    if run.config_file.is_file():
        if not resumed:
            raise GraphwrightError(
                f"{run.folder} holds a run already; go on with --resume {run.folder}, or give "
                "another folder"
            )
        before = run.config()
        earlier = before.get("commands", [])
        # Runs of earlier versions have no commits.
        commits = [*before.get("commits", [None] * len(earlier)), *commits]
        commands = [*earlier, *commands]
    elif run.folder.exists() and (not run.folder.is_dir() or any(run.folder.iterdir())):
        raise GraphwrightError(f"{run.folder} is there already and holds no run; give a new folder")
    run.folder.mkdir(parents=True, exist_ok=True)
    about = {
        "kind": kind,
        kind: dict(settings),
        **facts,
        "versions": versions(),
        "commands": commands,
        "commits": commits,
    }
    write_whole(run.config_file, json.dumps(about, indent=1) + "\n")
    return run


@dataclass(frozen=True)
class Resumable:
    """Where to go on from."""

    checkpoint: Path
    folder: Path | None
    """The folder of the run that the checkpoint belongs to; None if it lies in no run's folder."""

    def settings(self) -> Mapping[str, Any]:
        """The configuration that the checkpoint was trained with, as plain values.

        Raises:
            GraphwrightError: the checkpoint does not tell.
        """
        return self._about()["train"]

    def round(self) -> int:
        """How far training had come.

        Raises:
            GraphwrightError: the checkpoint does not tell.
        """
        return int(self._about()["round"])

    def _about(self) -> Mapping[str, Any]:
        about = _read(self.checkpoint / META).get("about", {})
        if "train" not in about or "round" not in about:
            raise GraphwrightError(
                f"{self.checkpoint} holds a policy, but no training to go on with; start a new "
                "run from it with --init"
            )
        return about


def find_resume(path: Path) -> Resumable:
    """A run's folder or a checkpoint's.

    Raises:
        GraphwrightError: neither, or a run that has no checkpoint yet.
    """
    if (path / META).is_file():
        parent = path.resolve().parent
        return Resumable(path, parent if (parent / CONFIG).is_file() else None)
    if not (path / CONFIG).is_file():
        raise GraphwrightError(f"{path}: neither a run's folder nor a checkpoint")
    checkpoint = stored_at(RunFolder(path).checkpoint)
    if not (checkpoint / META).is_file():
        raise GraphwrightError(f"{path}: the run has not come to a checkpoint yet; start it anew")
    return Resumable(checkpoint, path)


def suite_facts(name: str, clusters: Sequence[str] = ()) -> Mapping[str, Any]:
    """What a suite is, as plain values: a digest of its pairs, and of each of its clusters."""
    suite = get_suite(name, clusters)
    bases = sorted({memory_rule(pair.cluster_ref)[0] for pair in suite.pairs})
    return {
        "name": suite.label,
        "pairs": len(suite.pairs),
        "digest": suite_digest(suite),
        **({"pins": suite.digest} if suite.version else {}),
        "clusters": {base: load_cluster(base).digest for base in bases},
    }


def suite_digest(suite: Suite) -> str:
    """Digest of a suite's references to graphs and clusters; no graph is built."""
    pairs = [[pair.graph_ref, pair.cluster_ref] for pair in suite.pairs]
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()


def versions() -> Mapping[str, str]:
    """Versions of Python and of the packages that figures depend on."""
    versions_found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions_found[name] = version(name)
        except PackageNotFoundError:
            versions_found[name] = "not installed"
    return versions_found


def plain_settings(config: Any) -> dict[str, Any]:
    """A training configuration as flags spell it: without the level `agent`."""
    values = to_plain(config)
    return {**values.pop("agent", {}), **values}


def _new_folder(kind: str) -> Path:
    begun = datetime.now().strftime("%Y%m%d-%H%M%S")
    for number in count():
        folder = Path("runs") / (f"{kind}-{begun}" + (f"-{number}" if number else ""))
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise AssertionError("unreachable")


def _read(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GraphwrightError(f"{path} cannot be read ({error})") from error
    if not isinstance(document, dict):
        raise GraphwrightError(f"{path} cannot be read (it holds no settings)")
    return document
