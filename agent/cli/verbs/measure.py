"""`graphwright measure`: run plans on this machine and say how long a step takes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from agent.cli.exit_codes import DONE, INFEASIBLE
from agent.cli.import_text import import_values, print_import
from agent.cli.options import Target, read_cluster, read_model
from agent.cli.output import prepare, print_json, print_table, print_text, say_waiting
from agent.cli.overlapping import measure_overlapping, step_schedule
from graphs.errors import GraphwrightError
from graphs.file_presence import is_file
from graphs.whole_files import write_whole

if TYPE_CHECKING:
    from graphs.graph import Graph
    from placement.runtime.measurement import Measurement
    from placement.runtime.runtime import Runtime
    from simulator.clusters.cluster import Cluster
    from simulator.plan import Plan


def measure(
    model: str,
    *,
    plan: Path | None = None,
    compare: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    target: Target = Target(),
    runtime: str = "ort",
    steps: int | None = None,
    in_flight: int | None = None,
    repeats: int = 9,
    clock: Literal["auto", "wall", "virtual"] = "auto",
    trace: Path | None = None,
    seed: int = 0,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Run plans on the cores of this machine, outputs checked, and say how long a step takes.

    With --steps, steps overlap, and it says how many a second there are (period, latency).

    Parameters
    ----------
    model
        An ONNX model, weights not needed (ort), a TensorFlow GraphDef (tf), or any graph (torch).
    plan
        A plan.json.
    compare
        Further plan.json files, or placers such as single or portfolio whose plan is made on the
        spot. All plans take turns, A B C A B C; a winner is named only outside the noise.
    runtime
        ort: onnxruntime in a pinned process per core. tf: TensorFlow, a pinned server per core.
        torch: each op a stand-in of its kind and size, on cores or GPUs; groups by inductor.
    steps
        So many steps of a plan overlap (ort): a device works on the oldest step that can go on.
    in_flight
        Most steps on the way at once; of --steps, one more than devices where not given.
    repeats
        Rounds; each is a few steps of each plan, or all of --steps.
    clock
        wall: samples during which no process waited for its core. virtual: CPU time, passed along
        messages. auto: wall where the machine is quiet enough.
    trace
        Write a Perfetto trace of the first plan here, every op a step of its own.
    seed
        Of inputs and missing weights.
    json
        Print one JSON object instead of text.
    """
    from agent.runs.device_lock import devices_of, exclusive
    from placement.runtime.measurement import Clock
    from placement.runtime.processes.workers import usable_cores
    from placement.runtime.registry import RUNTIMES, get_runtime, open_runtime
    from placement.runtime.samples import Sampling

    if not get_runtime(runtime).runs_programs and (trace is not None or clock == "virtual"):
        fitting = " or ".join(name for name, kind in RUNTIMES.items() if kind.runs_programs)
        raise GraphwrightError(f"--trace and --clock virtual go with --runtime {fitting}")
    if steps is not None and trace is not None:
        raise GraphwrightError("--trace shows a step by itself; leave out --steps or --trace")
    if repeats < 1:
        raise GraphwrightError(f"--repeats {repeats}: at least 1")
    if plan is None and not compare:
        raise GraphwrightError("which plan? Give --plan PLAN.json, or --compare single portfolio")
    graph, cluster = read_model(model, target), read_cluster(model, target)
    schedule = step_schedule(runtime, steps, in_flight, cluster.device_count)
    prepare(quiet=json)
    names = [*([str(plan)] if plan is not None else []), *compare]
    plans = [_plan(name, graph, cluster, seed) for name in names]
    chosen = None if clock == "auto" else Clock(clock)
    sampling = Sampling(rounds=repeats, clock=chosen)
    with (
        exclusive(devices_of(cluster, usable_cores()), say_waiting),
        open_runtime(runtime, model, graph, cluster, dims=target.sizes, seed=seed) as device,
    ):
        if schedule is not None:
            overlapped = measure_overlapping(device, names, plans, schedule, sampling)
            overlapped.show(json=json)
            return DONE if all(item.ok for item in overlapped.found) else INFEASIBLE
        measurements = device.measure(plans, sampling)
        if trace is not None:
            write_whole(trace, _trace_json(device, plans[0]))
    predicted = [device.predicted(item) for item in plans]
    if json:
        print_json(_document(graph, cluster, runtime, names, measurements, predicted))
    else:
        _show(graph, cluster, runtime, names, measurements, predicted)
    return DONE if all(item.ok for item in measurements) else INFEASIBLE


def _plan(name: str, graph: "Graph", cluster: "Cluster", seed: int) -> "Plan":
    from placement.place import place
    from placement.placers.registry import PLACERS
    from placement.plan_file import read_plan

    if name in PLACERS:
        return place(graph, cluster, name, budget_seconds=10.0, seed=seed).plan
    if not is_file(name):
        raise GraphwrightError(
            f"{name}: neither a plan file nor a placer; placers are {', '.join(PLACERS)}"
        )
    return read_plan(Path(name), graph, cluster).plan


def _trace_json(device: "Runtime", plan: "Plan") -> str:
    from placement.runtime.programs.program_runtime import ProgramRuntime
    from placement.runtime.programs.program_trace import program_trace_json
    from placement.runtime.programs.replay import replay

    assert isinstance(device, ProgramRuntime), "the registry says that it runs programs"
    measurement = device.measure([plan], single_ops=True)[0]
    if not measurement.ok:
        raise GraphwrightError(f"the traced run failed: {measurement.failure}")
    program = device.program(plan, single_ops=True)
    timeline = replay(program, measurement.step_seconds)
    return program_trace_json(device.graph, device.cluster, program, timeline, "measured")


def _document(
    graph: "Graph",
    cluster: "Cluster",
    runtime: str,
    names: list[str],
    found: list["Measurement"],
    predicted: list[float],
) -> dict[str, Any]:
    from placement.runtime.comparison import winner
    from placement.runtime.fingerprint import machine_fingerprint

    best = winner(found)
    return {
        "graph": graph.name,
        "digest": graph.digest,
        "import": import_values(graph),
        "cluster": cluster.name,
        "runtime": runtime,
        "machine": machine_fingerprint(),
        "clock": found[0].clock,
        "winner": None if best is None else names[best],
        "plans": [
            {
                "plan": name,
                "seconds": item.seconds,
                "interval": item.interval(),
                "spread_seconds": item.spread_seconds,
                "samples": len(item.samples),
                "failure": item.failure,
                "outputs_checked": item.checked,
                "predicted_seconds": guess,
            }
            for name, item, guess in zip(names, found, predicted, strict=True)
        ],
    }


def _show(
    graph: "Graph",
    cluster: "Cluster",
    runtime: str,
    names: list[str],
    found: list["Measurement"],
    predicted: list[float],
) -> None:
    from placement.runtime.comparison import ratio, winner
    from placement.runtime.registry import get_runtime
    from simulator.units import format_seconds

    rows = []
    for name, item, guess in zip(names, found, predicted, strict=True):
        low, high = item.interval()
        against = ratio(item, found[0])
        rows.append(
            [
                name,
                format_seconds(item.seconds) if item.ok else "failed",
                f"{format_seconds(low)} - {format_seconds(high)}" if item.ok else "",
                f"{against.value:.3f} ({against.low:.3f}-{against.high:.3f})" if item.ok else "",
                str(len(item.samples)),
                format_seconds(guess),
            ]
        )
    print_table(
        f"{graph.name}, {graph.op_count} ops, on {cluster.name}: measured, {found[0].clock} clock",
        ["plan", "step", "95% interval", "x first", "samples", "predicted"],
        rows,
    )
    print_import(graph)
    for name, item in zip(names, found, strict=True):
        if item.failure is not None:
            print_text(f"{name}: {item.failure}")
    if all(item.checked for item in found):
        print_text(f"outputs equal {get_runtime(runtime).compared_with}")
    if len(found) > 1:
        best = winner(found)
        verdict = "no winner: the difference is within the noise, or there were too few rounds"
        print_text(verdict if best is None else f"fastest: {names[best]}")
