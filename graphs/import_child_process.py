"""The process that reads one model, and what it tells: a graph file's bytes, or what was wrong.

    import_child_process DESCRIPTOR REQUEST

What it writes to the descriptor begins with a letter that says what follows.
"""

import json
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from graphs.errors import GraphwrightError
from graphs.formats import run_importer
from graphs.graph_file import graph_to_bytes

#: What a reply is: a graph file, an error of the user's, one of the system's, a fault.
GRAPH, MISTAKE, SYSTEM, FAULT = b"G", b"M", b"S", b"F"
#: What is sent through a pipe is packed as little as may be: it is read at once.
_PRESET = 0
#: The kernel's order in which processes are ended where memory runs out: this one first.
_END_FIRST = "1000"
_PARENT_DEATH_SIGNAL = 1


def answer(descriptor: int, request: Mapping[str, Any]) -> None:
    """Read a model, send what came of it, and end this process without any cleaning up.

    Args:
        descriptor: of a pipe; it is closed.
        request: `importer`, `path`, `dims` and `signature`, see `graphs.formats.run_importer`.
    """
    code = 1
    try:
        _become_expendable(int(request["parent"]))
        reply = _reply(request)
        with os.fdopen(descriptor, "wb") as pipe:
            pipe.write(reply)
        code = 0
    except OSError:  # nobody listens any more
        pass
    finally:
        os._exit(code)


def _reply(request: Mapping[str, Any]) -> bytes:
    try:
        graph = run_importer(
            request["importer"], Path(request["path"]), request["dims"], request["signature"]
        )
        return GRAPH + graph_to_bytes(graph, _PRESET)
    except GraphwrightError as error:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        return MISTAKE + json.dumps([kinds, str(error)]).encode()
    except OSError as error:
        return (
            SYSTEM + json.dumps([error.errno, error.strerror or str(error), _name(error)]).encode()
        )
    except Exception:  # noqa: BLE001 - whatever it is, the process that asked says it
        return FAULT + traceback.format_exc().encode("utf-8", "backslashreplace")


def _name(error: OSError) -> str | None:
    return None if error.filename is None else str(error.filename)


def _become_expendable(parent: int) -> None:
    """Leave signals of the terminal to the parent, end with it, and be what runs out of memory."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with suppress(OSError):
        os.setpgid(0, 0)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:  # noqa: PTH123
        file.write(_END_FIRST)
    if sys.platform == "linux":
        import ctypes

        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before that
            os._exit(1)
    if not os.environ.get("GRAPHWRIGHT_DEBUG"):  # what libraries say when they crash helps nobody
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)


if __name__ == "__main__":
    answer(int(sys.argv[1]), json.loads(sys.argv[2]))
