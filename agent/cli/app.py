"""The `graphwright` command: its verbs, and what becomes of errors."""

import gc
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from cyclopts import App, CycloptsError, Parameter

from agent.cli.exit_codes import DONE, INTERRUPTED, OUR_FAULT, TERMINATED, USER_MISTAKE
from agent.cli.output import flush_output
from agent.cli.stopping import Terminated, termination_heeded
from agent.cli.verbs.calibrate import calibrate
from agent.cli.verbs.clusters import clusters_app
from agent.cli.verbs.compare import compare
from agent.cli.verbs.doctor import doctor
from agent.cli.verbs.evaluate import evaluate
from agent.cli.verbs.explain import explain
from agent.cli.verbs.export import export
from agent.cli.verbs.finetune import finetune
from agent.cli.verbs.graphs import graphs_app
from agent.cli.verbs.measure import measure
from agent.cli.verbs.place import place
from agent.cli.verbs.report import report
from agent.cli.verbs.simulate import simulate
from agent.cli.verbs.suites import suites_app
from agent.cli.verbs.sweep_clusters import sweep_clusters
from graphs.errors import GraphwrightError
from graphs.visible_text import visible

#: Every verb by name, in the order of `--help`; a text names what is imported when it is used.
VERBS: dict[str, Callable[..., int] | App | str] = {
    "place": place,
    "compare": compare,
    "simulate": simulate,
    "report": report,
    "explain": explain,
    "sweep-clusters": sweep_clusters,
    "export": export,
    "measure": measure,
    "calibrate": calibrate,
    "evaluate": evaluate,
    "graphs": graphs_app,
    "clusters": clusters_app,
    "suites": suites_app,
    "train": "agent.cli.verbs.train:train_app",
    "train-one-shot": "agent.cli.verbs.train_one_shot:train_one_shot_app",
    "finetune": finetune,
    "doctor": doctor,
}

#: Of verbs that are not imported for `--help`.
_HELP = {
    "train": "Pretrain a policy on a suite.",
    "train-one-shot": "Train the policy that decides a whole graph from one look.",
}


def command_line() -> App:
    """The command with all its verbs."""
    app = App(
        name="graphwright",
        version=lambda: version("graphwright"),
        help="Place, fuse and schedule dataflow graphs of neural networks on several devices.",
        help_epilogue="Exit codes: 0 done, 1 a fault of graphwright, 2 a mistake in what was "
        "given, 3 no feasible plan. Every verb takes --json and then prints one JSON object.",
        default_parameter=Parameter(negative_iterable=()),
        suppress_keyboard_interrupt=False,  # `run` says what ended a command
    )
    for name, verb in VERBS.items():
        if isinstance(verb, App):
            app.command(verb)
        elif isinstance(verb, str):
            app.command(verb, name=name, help=_HELP[name])
        else:
            app.command(verb, name=name)
    app.register_install_completion_command(add_to_startup=False)
    return app


def main() -> None:
    """Entry point of the console script."""
    code = run(sys.argv[1:])
    # What is left goes with the process. Python would look through all of it for circles first,
    # several times, which takes about half a second of CPU after a search.
    gc.freeze()
    sys.exit(code)


def run(tokens: Sequence[str]) -> int:
    """Run one command and return its exit code; nothing but `SystemExit` leaves this function."""
    as_json = "--json" in tokens
    try:
        with termination_heeded():
            result = command_line()(
                list(tokens), exit_on_error=False, print_error=False, result_action="return_value"
            )
            flush_output()
        return result if isinstance(result, int) else DONE
    except CycloptsError as error:
        return _fail(str(error), USER_MISTAKE, as_json)
    except GraphwrightError as error:
        return _fail(str(error), error.exit_code, as_json)
    except BrokenPipeError:  # the reader has seen enough, as `head` does
        _give_up("stdout")
        return DONE
    except OSError as error:
        return _fail(_os_error(error), USER_MISTAKE, as_json)
    except Terminated:
        return _fail("terminated by SIGTERM", TERMINATED, as_json)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED, as_json)
    except Exception:  # noqa: BLE001 - the outermost frame: reported as our fault, then the end
        return _fail(_our_fault(), OUR_FAULT, as_json)


def _fail(message: str, code: int, as_json: bool) -> int:
    if as_json:
        _say("stdout", json.dumps({"error": message, "exit_code": code}))
    # Further lines are set in, so that no name that is quoted can look like a line of its own.
    shown = "\n  ".join(visible(line) for line in message.strip().split("\n"))
    _say("stderr", f"graphwright: {shown}")
    return code


def _say(name: Literal["stdout", "stderr"], line: str) -> None:
    """Write a line and what was written before it, if that is possible at all."""
    stream = getattr(sys, name)
    try:
        stream.write(f"{line}\n")
        stream.flush()
    except OSError:
        _give_up(name)


def _give_up(name: Literal["stdout", "stderr"]) -> None:
    """Let what a stream still holds go nowhere, so that Python does not try it again at the end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), getattr(sys, name).fileno())


def _os_error(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def _our_fault() -> str:
    details = traceback.format_exc()
    if os.environ.get("GRAPHWRIGHT_DEBUG"):
        return details
    last = details.strip().splitlines()[-1]
    fault = f"this is a fault of graphwright, not yours ({last})"
    try:
        handle, name = tempfile.mkstemp(prefix="graphwright-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{' '.join(sys.argv)}\n\n{details}")
    except OSError as error:
        return (
            f"{fault}; the details could not be written ({_os_error(error)}): run it again with "
            "GRAPHWRIGHT_DEBUG=1, which shows them, and please report them"
        )
    return f"{fault}; the details are in {Path(name)}: please report them"
