"""The `graphwright` command: its verbs, and what becomes of errors."""

import json
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from cyclopts import App, CycloptsError

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

DONE, OUR_FAULT, USER_MISTAKE, INFEASIBLE = 0, 1, 2, 3

app = App(
    name="graphwright",
    help="Place, fuse and schedule dataflow graphs of neural networks on several devices.",
    help_epilogue="Exit codes: 0 done, 1 a fault of graphwright, 2 a mistake in what was given, "
    "3 no feasible plan. Every verb takes --json and then prints one JSON object.",
)
app.command(place)
app.command(compare)
app.command(simulate)
app.command(report)
app.command(explain)
app.command(sweep_clusters)
app.command(export)
app.command(measure)
app.command(calibrate)
app.command(evaluate)
app.command(graphs_app)
app.command(clusters_app)
app.command(suites_app)
app.command("agent.cli.verbs.train:train_app", name="train", help="Pretrain a policy on a suite.")
app.command(finetune)
app.command(doctor)
app.register_install_completion_command(add_to_startup=False)


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))


def run(tokens: Sequence[str]) -> int:
    """Run one command and return its exit code; nothing but `SystemExit` leaves this function."""
    as_json = "--json" in tokens
    try:
        result = app(
            list(tokens), exit_on_error=False, print_error=False, result_action="return_value"
        )
        return result if isinstance(result, int) else DONE
    except CycloptsError as error:
        return _fail(str(error), USER_MISTAKE, as_json)
    except GraphwrightError as error:
        return _fail(str(error), error.exit_code, as_json)
    except BrokenPipeError:  # the reader has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        return _fail(_os_error(error), USER_MISTAKE, as_json)
    except KeyboardInterrupt:
        return _fail("interrupted", 130, as_json)
    except Exception:  # noqa: BLE001 - the outermost frame: reported as our fault, then the end
        return _fail(_our_fault(), OUR_FAULT, as_json)


def _fail(message: str, code: int, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"error": message, "exit_code": code}))  # noqa: T201
    sys.stderr.write(f"graphwright: {message.strip()}\n")
    return code


def _os_error(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def _our_fault() -> str:
    if os.environ.get("GRAPHWRIGHT_DEBUG"):
        return traceback.format_exc()
    handle, name = tempfile.mkstemp(prefix="graphwright-", suffix=".txt")
    with os.fdopen(handle, "w") as file:
        file.write(f"{' '.join(sys.argv)}\n\n{traceback.format_exc()}")
    last = traceback.format_exc().strip().splitlines()[-1]
    return (
        f"this is a fault of graphwright, not yours ({last}); the details are in {Path(name)}: "
        "please report them"
    )
