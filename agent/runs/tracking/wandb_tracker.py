"""Runs in Weights & Biases, online with a key and offline without."""

import os
import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import numpy as np

from agent.runs.tracking.options import TrackOptions
from agent.runs.tracking.tracker import aligned
from graphs.whole_files import write_whole

#: Figures of which a run is judged by the least, not by the last.
LEAST = (
    "validation/ratio",
    "validation/search_ratio",
    "validation/proposals_ratio",
    "step_seconds",
    "log_against_portfolio",
)

#: Under which `wandb login` leaves a key, now and in older versions.
_HOSTS = ("api.forge.coreweave.com", "api.wandb.ai")
_RUN_ID = "run_id.txt"
_SECONDS_TO_CONNECT = 30.0


class WandbTracker:
    """All files, staged artifacts too, stay in `wandb` in the run's folder.

    A fault of W&B's ends what W&B is told, with a warning, and not the run.

    Args:
        folder: of the run; one that was tracked before goes on as the same W&B run, offline as
            another segment of it.
        config: plain values; nested names are joined by dots, as sweeps spell them.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any], options: TrackOptions) -> None:
        own = folder / "wandb"
        own.mkdir(parents=True, exist_ok=True)
        self._mode = os.environ.get("WANDB_MODE") or ("online" if has_key() else "offline")
        inside = {"WANDB_DIR": folder, "WANDB_DATA_DIR": own / "data"}
        inside["WANDB_CACHE_DIR"] = own / "cache"
        given = {name: str(path.resolve()) for name, path in inside.items()}
        if self._mode != "online":
            given["WANDB_ERROR_REPORTING"] = "false"  # which knows no offline
        self._outside = {name: os.environ.get(name) for name in given}
        os.environ.update(given)
        import wandb

        self._wandb = wandb
        self._run: Any = None
        self._told(lambda: self._begin(own / _RUN_ID, folder, flatten(config), options))

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._log(step, dict(figures))

    def table(self, name: str, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        columns, values = aligned(rows)
        self._log(step, {name: self._wandb.Table(columns=[*columns], data=values)})

    def image(self, name: str, pixels: np.ndarray, step: int) -> None:
        self._log(step, {name: self._wandb.Image(pixels)})

    def artifact(
        self, name: str, kind: str, path: Path, metadata: Mapping[str, Any] | None = None
    ) -> None:
        def tell() -> None:
            safe = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)
            made = self._wandb.Artifact(safe, kind, metadata=dict(metadata or {}))
            root = path if path.is_dir() else path.parent
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if file.is_file():
                    made.add_file(str(file), name=file.relative_to(root).as_posix())
            self._run.log_artifact(made)

        self._if_running(tell)

    def summary(self, figures: Mapping[str, Any]) -> None:
        self._if_running(lambda: self._run.summary.update(dict(figures)))

    def close(self) -> None:
        # Closed on the way out of a failed run, W&B shall show it as failed.
        failed = sys.exc_info()[0] is not None
        self._if_running(lambda: self._run.finish(exit_code=int(failed)))
        self._run = None
        for name, value in self._outside.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    def _begin(
        self, id_file: Path, folder: Path, config: Mapping[str, Any], options: TrackOptions
    ) -> None:
        known = id_file.read_text(encoding="utf-8").strip() if id_file.is_file() else None
        try:
            self._run = self._init(self._mode, known, folder, config, options)
        except self._wandb.errors.Error as error:
            if self._mode != "online":
                raise
            _warn(f"W&B cannot be reached ({error}); the run is kept offline, see `wandb sync`")
            self._run = self._init("offline", known, folder, config, options)
        write_whole(id_file, f"{self._run.id}\n")
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")
        for name in LEAST:
            self._run.define_metric(name, step_metric="step", summary="min")

    def _init(
        self,
        mode: str,
        known: str | None,
        folder: Path,
        config: Mapping[str, Any],
        options: TrackOptions,
    ) -> Any:
        online = mode == "online"
        settings = self._wandb.Settings(
            init_timeout=_SECONDS_TO_CONNECT, silent=not online, console="off"
        )
        return self._wandb.init(
            project=options.project,
            group=options.group,
            job_type=options.job_type,
            name=options.name,
            tags=list(options.tags) or None,
            config=dict(config),
            dir=str(folder),
            mode=cast(Any, mode),
            id=known,
            resume="allow" if known and online else None,
            settings=settings,
        )

    def _log(self, step: int, values: dict[str, Any]) -> None:
        # W&B's own count is the run's, so that a segment goes on where the one before it stopped.
        self._if_running(lambda: self._run.log({**values, "step": step}, step=step))

    def _if_running(self, tell: Callable[[], None]) -> None:
        if self._run is not None:
            self._told(tell)

    def _told(self, tell: Callable[[], None]) -> None:
        try:
            tell()
        except self._wandb.errors.Error as error:
            _warn(f"W&B failed and is told no more of this run ({error}); metrics.jsonl goes on")
            run, self._run = self._run, None
            if run is not None:
                with suppress(self._wandb.errors.Error):
                    run.finish(exit_code=1)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, names joined by dots."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            result |= flatten(value, f"{prefix}{key}.")
        else:
            result[f"{prefix}{key}"] = value
    return result


def has_key() -> bool:
    """Whether this user has a W&B key, in the environment or where `wandb login` leaves it."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    own = os.environ.get("WANDB_BASE_URL")
    hosts = _HOSTS if own is None else (urlsplit(own).netloc,)
    try:
        passwords = netrc(os.environ.get("NETRC"))
    except (OSError, NetrcParseError):
        return False
    return any(passwords.authenticators(host) for host in hosts)


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=4)
