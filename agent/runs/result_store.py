"""Results in one SQLite file that many processes read and write: nothing is worked out twice.

A result is known by all that decides it (`ResultKey`). The first that is written for a key stays,
so that tables made from one store agree. Each is on disk when `put` returns. A file of something
else, or one that is damaged, is refused.
"""

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any

from graphs.errors import GraphwrightError

#: Tells our files from those of others: "gwRS" in the header that SQLite keeps for this.
_APPLICATION_ID = 0x67775253
_LAYOUT = 1
#: How long one process waits for another that is writing.
_PATIENCE_SECONDS = 120.0
_AGAIN = "give --store another file, or move this one away: a store can always be filled anew"


class StoreError(GraphwrightError):
    """A file that is no store of results, is damaged, or cannot be read or written."""


@dataclass(frozen=True)
class ResultKey:
    """All that decides a result. Two results with one key are the same result."""

    kind: str
    """What the value is: `evaluation` or `suite`, a row of either table."""
    graph_digest: str
    cluster_digest: str
    """Of the cluster that the pair names, its calibration included, before the memory rule."""
    memory_rule: str
    """What becomes of the cluster's memory; empty where it stays as it is."""
    placer: str
    placer_digest: str
    """Of what the placer is made of, where its name does not say."""
    budget_seconds: float
    seed: int
    settings: str
    """Objective, costs, updates, threads: sorted JSON."""
    policy_digest: str
    """Empty where no policy is used."""
    version: str
    """Of the code that decides results: `agent.evaluation.result_keys.results_version`."""


_COLUMNS = tuple(item.name for item in fields(ResultKey))
_TABLE = f"""CREATE TABLE results (
    {", ".join(f"{name} NOT NULL" for name in _COLUMNS)},
    cpu_seconds REAL NOT NULL, commit_id TEXT NOT NULL, written TEXT NOT NULL,
    value TEXT NOT NULL, checksum TEXT NOT NULL,
    PRIMARY KEY ({", ".join(_COLUMNS)})
) WITHOUT ROWID"""
_WHERE = " AND ".join(f"{name} = ?" for name in _COLUMNS)


class ResultStore:
    """An open store; close it, or use it in a `with` statement.

    Processes of one machine may use one file at once. Write-ahead logging needs shared memory, so
    that a file on a network share is for one machine at a time.
    """

    def __init__(self, path: Path) -> None:
        """Open a store, or make one.

        Raises:
            StoreError: the file is something else, is damaged, or cannot be opened.
        """
        self.path = path
        if path.is_symlink():
            raise StoreError(f"{path} is a link to another file, which nothing is added to")
        with self._faults():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                path, timeout=_PATIENCE_SECONDS, isolation_level=None
            )
        try:
            with self._faults():
                self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def get(self, key: ResultKey) -> Mapping[str, Any] | None:
        """The value of a key as plain values; None where there is none.

        Raises:
            StoreError: what is there is damaged.
        """
        with self._faults():
            found = self._connection.execute(
                f"SELECT value, checksum FROM results WHERE {_WHERE}", astuple(key)
            ).fetchone()
        if found is None:
            return None
        text, checksum = found
        if _checksum(key, text) != checksum:
            raise self._error(f"the result of {key.placer} is not what was written")
        return dict(json.loads(text))

    def put(
        self, key: ResultKey, value: Mapping[str, Any], cpu_seconds: float, commit: str = ""
    ) -> Mapping[str, Any]:
        """Add a result, on disk when this returns; one that is there already stays.

        Args:
            value: plain values, with no number that is infinite or none.
            cpu_seconds: what the result took.
            commit: the code that made it.

        Returns:
            What the store has for the key now, of whoever was first.

        Raises:
            StoreError: it cannot be written.
        """
        text = json.dumps(dict(value), allow_nan=False)
        written = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        marks = ", ".join("?" * (len(_COLUMNS) + 5))
        row = (*astuple(key), cpu_seconds, commit, written, text, _checksum(key, text))
        with self._faults():
            self._connection.execute(f"INSERT OR IGNORE INTO results VALUES ({marks})", row)
        kept = self.get(key)
        assert kept is not None
        return kept

    def __len__(self) -> int:
        with self._faults():
            return int(self._connection.execute("SELECT count(*) FROM results").fetchone()[0])

    @property
    def cpu_seconds(self) -> float:
        """What all its results took."""
        with self._faults():
            found = self._connection.execute("SELECT total(cpu_seconds) FROM results").fetchone()
        return float(found[0])

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def __enter__(self) -> "ResultStore":
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    def _prepare(self) -> None:
        run = self._connection.execute
        run("BEGIN IMMEDIATE")  # of several that open a new file one makes the table
        try:
            owner = run("PRAGMA application_id").fetchone()[0]
            tables = run("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if owner == 0 and tables == 0:
                run(_TABLE)
                run(f"PRAGMA application_id = {_APPLICATION_ID}")
                run(f"PRAGMA user_version = {_LAYOUT}")
            elif owner != _APPLICATION_ID:
                raise self._error("a database of something else")
            elif (layout := run("PRAGMA user_version").fetchone()[0]) != _LAYOUT:
                raise self._error(f"a store of layout {layout}, and this version reads {_LAYOUT}")
        except BaseException:
            run("ROLLBACK")
            raise
        run("COMMIT")
        self._write_ahead()
        run("PRAGMA synchronous = FULL")

    def _write_ahead(self) -> None:
        """Switch to the log; SQLite does not wait for others here by itself."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def _error(self, what: str) -> StoreError:
        return StoreError(
            f"{self.path}: not a store of results, or a damaged one: {what}; {_AGAIN}"
        )

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """What SQLite and the system say becomes an error of ours."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise StoreError(
                f"{self.path}: the store cannot be read or written: {error}; is its folder there, "
                "with room, and yours to write to?"
            ) from error
        except sqlite3.DatabaseError as error:
            raise self._error(str(error)) from error


def _checksum(key: ResultKey, text: str) -> str:
    """Of a key and its value together, so that no value passes for another's."""
    whole = json.dumps([*astuple(key), text])
    return hashlib.blake2b(whole.encode(), digest_size=16).hexdigest()
