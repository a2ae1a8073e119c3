"""The command line, called as a user would, in this process."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from graph_samples import graph_of, op

from agent.cli.app import run
from graphs.graph_file import write_graph

SUMMARY_KEYS = {
    "graph",
    "digest",
    "ops",
    "cluster",
    "placer",
    "feasible",
    "makespan_seconds",
    "lower_bound_seconds",
    "peak_bytes",
    "search_seconds",
    "seed",
}


@pytest.fixture
def model(tmp_path: Path) -> str:
    """Two heavy chains: two devices are twice as fast as one."""
    records = [
        op(f"{chain}{step}", 1e12, (f"{chain}{step - 1}",) if step else (), 1000)
        for chain in "ab"
        for step in range(4)
    ]
    path = tmp_path / "chains.gwgraph"
    write_graph(graph_of(*records), path)
    return str(path)


def run_json(capsys: pytest.CaptureFixture[str], *tokens: str) -> tuple[int, dict[str, Any]]:
    code = run([*tokens, "--json"])
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    return code, json.loads(printed)


CORES = """
schema_version: 1
name: cores
devices:
- {name: left, kind: cpu-core, memory: 4GiB, flops_per_second: {float32: 50GFLOP/s},
   memory_bandwidth: 8GB/s, launch: 5us}
- {name: right, kind: cpu-core, memory: 4GiB, flops_per_second: {float32: 50GFLOP/s},
   memory_bandwidth: 8GB/s, launch: 5us}
links:
- {between: [left, right], bandwidth: 4GB/s, latency: 20us}
"""


def test_costs_are_chosen_by_name(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cores = tmp_path / "cores.yaml"
    cores.write_text(CORES, encoding="utf-8")
    out = str(tmp_path / "out")
    place = ("place", model, "-c", str(cores), "--budget", "0.2", "--placer", "heft", "--out", out)
    steps = {}
    for costs in ("roofline", "learned"):
        code, found = run_json(capsys, *place, "--costs", costs)
        assert (code, found["costs"]) == (0, costs)
        steps[costs] = found["makespan_seconds"]
        plan = ("simulate", model, "--plan", f"{out}/plan.json", "-c", str(cores))
        code, found = run_json(capsys, *plan, "--costs", costs)
        assert (code, found["makespan_seconds"]) == (0, steps[costs])
    assert steps["roofline"] != steps["learned"]
    for costs, cluster, message in (
        ("learned", "2xv100-pcie", "learned on devices of kind 'cpu-core'"),
        ("calibrated", "2xv100-pcie", "never measured"),
        ("guessed", "2xv100-pcie", "no costs called 'guessed'; there are auto"),
        (str(tmp_path / "none.safetensors"), str(cores), "no such file"),
    ):
        assert run(["place", model, "-c", cluster, "--costs", costs]) == 2
        assert message in capsys.readouterr().err


def test_place_then_simulate_agree(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    place = ("place", model, "-c", "2xv100-pcie", "--budget", "0.3", "--out", str(out))
    code, placed = run_json(capsys, *place)
    assert code == 0
    assert set(placed) >= SUMMARY_KEYS
    assert sorted(path.name for path in out.iterdir()) == [
        "cluster.yaml",
        "plan.json",
        "report.html",
        "trace.json",
    ]
    simulate = ("simulate", model, "--plan", str(out / "plan.json"))
    code, simulated = run_json(capsys, *simulate, "-c", str(out / "cluster.yaml"))
    assert code == 0
    assert set(simulated) >= SUMMARY_KEYS
    assert simulated["makespan_seconds"] == placed["makespan_seconds"]
    assert simulated["peak_bytes"] == placed["peak_bytes"]


def test_simulate_overlaps_steps(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, trace = tmp_path / "out", tmp_path / "steps.json"
    assert run(["place", model, "-c", "2xv100-pcie", "--budget", "0.3", "--out", str(out)]) == 0
    capsys.readouterr()
    simulate = ("simulate", model, "--plan", f"{out}/plan.json", "-c", "2xv100-pcie")
    flags = ("--steps", "12", "--in-flight", "3", "--trace", str(trace))
    code, found = run_json(capsys, *simulate, *flags)
    assert code == 0
    overlap = found["overlap"]
    assert (overlap["steps"], overlap["in_flight"], overlap["order"]) == (12, 3, "oldest-first")
    assert overlap["period_seconds"] <= found["makespan_seconds"] * (1 + 1e-9)
    assert overlap["steps_per_second"] == pytest.approx(1 / overlap["period_seconds"])
    assert json.loads(trace.read_text())["otherData"]["steps"] == 12
    assert run([*simulate, "--steps", "4", "--order", "gpipe"]) == 0
    assert "4 steps, 4 in flight, gpipe" in capsys.readouterr().out
    for wrong, told in (
        (("--in-flight", "3"), "need --steps"),
        (("--steps", "0"), "at least one must run"),
        (("--steps", "4", "--in-flight", "2", "--order", "gpipe"), "all 4 micro-batches"),
        (("--steps", "4", "--trace", "t.json", "--beside", "b.json"), "leave out --steps"),
    ):
        assert run([*simulate, *wrong]) == 2
        assert told in capsys.readouterr().err


def test_two_chains_take_half_the_time_on_two_devices(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, one = run_json(capsys, "place", model, "-c", "1xv100-pcie", "--placer", "single")
    _, two = run_json(capsys, "place", model, "-c", "2xv100-pcie", "--placer", "portfolio")
    assert two["makespan_seconds"] == pytest.approx(one["makespan_seconds"] / 2)
    assert two["makespan_seconds"] >= two["lower_bound_seconds"]


def test_compare_runs_the_placers_asked_for(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = ("--placer", "metis", "--placer", "heft")
    code, compared = run_json(capsys, "compare", model, "-c", "2xv100-pcie", *wanted)
    assert code == 0
    assert [row["placer"] for row in compared["placers"]] == ["metis", "heft"]
    assert all(set(row) >= SUMMARY_KEYS for row in compared["placers"])


def test_constraints_from_flags_hold(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--pin", "a.*=v100:1", "--forbid", "b0=v100:1", "--colocate", "b.*")
    place = ("place", model, "-c", "2xv100-pcie", "--budget", "0.2", *flags)
    code, _ = run_json(capsys, *place, "--out", str(tmp_path / "o"))
    assert code == 0
    plan = json.loads((tmp_path / "o" / "plan.json").read_text())
    assert {name: device for name, device, *_ in plan["ops"]} == {
        **{f"a{i}": "v100:1" for i in range(4)},
        **{f"b{i}": "v100:0" for i in range(4)},
    }


def test_no_feasible_plan_is_exit_code_3(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, placed = run_json(
        capsys, "place", model, "-c", "2xv100-pcie@100B", "--placer", "portfolio"
    )
    assert code == 3
    assert placed["feasible"] is False
    assert "no plan can fit: op 'a1'" in placed["failure"]


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (("place", "nowhere.onnx", "-c", "2xv100-pcie"), "no such file"),
        (("place", "MODEL"), "which devices?"),
        (("place", "MODEL", "-c", "2xz80-pcie"), "unknown device 'z80'"),
        (("place", "MODEL", "-c", "2xv100-pcie", "--placer", "magic"), "unknown placer 'magic'"),
        (("place", "MODEL", "-c", "2xv100-pcie", "--budget=-3s"), "above zero"),
        (("place", "MODEL", "-c", "2xv100-pcie", "--budget", "soon"), "cannot read 'soon'"),
        (("place", "MODEL", "-c", "2xv100-pcie", "--pin", "a0"), "--pin OP=DEVICE"),
        (("place", "MODEL", "-c", "2xv100-pcie", "--pin", "zz=v100:0"), "matches no op"),
        (("place", "MODEL", "-c", "2xv100-pcie", "--pin", "a0=v100:9"), "no device 'v100:9'"),
        (("place", "MODEL", "-c", "2xv100-pcie", "--dim", "batch=0"), "at least 1"),
        (("place", "MODEL", "-c", "2xv100-pcie", "--sed", "1"), "--sed"),
        (("simulate", "MODEL", "-c", "2xv100-pcie", "--plan", "MODEL"), "cannot be read"),
        (("simulate", "MODEL", "-c", "2xv100-pcie", "--plan", "none.json"), "cannot be read"),
        (("clusters", "show", "none.yaml"), "no such file"),
        (("graphs", "show", "no-such-graph"), "no such file"),
        (("plce", "MODEL"), "plce"),
    ],
)
def test_mistakes_get_one_message_and_exit_code_2(
    tokens: tuple[str, ...],
    said: str,
    model: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = run([model if token == "MODEL" else token for token in tokens])
    shown = capsys.readouterr()
    assert code == 2
    assert said in shown.err
    assert "Traceback" not in shown.err + shown.out


def test_mistakes_are_json_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    code, failed = run_json(capsys, "place", "nowhere.onnx", "-c", "2xv100-pcie")
    assert code == failed["exit_code"] == 2
    assert "no such file" in failed["error"]


def test_faults_of_ours_show_no_traceback(
    model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("wires crossed")

    monkeypatch.setattr("simulator.bounds._load_bound", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code = run(["place", model, "-c", "2xv100-pcie", "--placer", "single"])
    shown = capsys.readouterr()
    assert code == 1
    assert "wires crossed" in shown.err
    assert "Traceback" not in shown.err + shown.out
    (details,) = tmp_path.glob("graphwright-*.txt")
    assert str(details) in shown.err
    assert "Traceback" in details.read_text(encoding="utf-8")


def test_nothing_is_written_for_a_failed_command(model: str, tmp_path: Path) -> None:
    out = tmp_path / "never"
    assert run(["place", model, "-c", "2xz80-pcie", "--out", str(out)]) == 2
    assert not out.exists()


def test_graphs_and_clusters_show_what_ships(capsys: pytest.CaptureFixture[str]) -> None:
    _, listed = run_json(capsys, "graphs", "list")
    assert "inception-v3" in {graph["name"] for graph in listed["graphs"]}
    _, shown = run_json(capsys, "graphs", "show", "inception-v3")
    assert shown["ops"] == sum(row["ops"] for row in shown["kinds"])
    _, presets = run_json(capsys, "clusters", "list")
    assert "4xv100-pcie" in {cluster["name"] for cluster in presets["clusters"]}
    _, cluster = run_json(capsys, "clusters", "show", "4xv100-pcie")
    assert len(cluster["links"]) == 12


def test_people_get_tables(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["place", model, "-c", "2xv100-pcie", "--budget", "0.2"]) == 0
    shown = capsys.readouterr().out
    assert "critical path" in shown
    assert "human-expert" in shown
    assert "lower bound" in shown


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from agent.cli.app import run\n"
        "for verb in ([], ['place'], ['compare'], ['clusters', 'probe']):\n"
        "    run([*verb, '--help'])\n"
        "heavy = {'torch', 'tensorflow', 'onnx', 'wandb', 'numba', 'torch_geometric'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert shown.endswith("HEAVY []\n")


def test_a_plan_remembers_the_precision_that_it_was_made_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    place = ("place", "bert-base", "-c", "2xa100-pcie", "--placer", "eft", "--out", out)
    code, whole = run_json(capsys, *place, "--precision", "model")
    assert (code, list(whole["precision"])) == (0, ["float32"])
    code, half = run_json(capsys, *place, "--precision", "bf16")
    assert next(iter(half["precision"])) == "bfloat16"
    assert half["makespan_seconds"] < whole["makespan_seconds"] / 3
    code, again = run_json(capsys, "simulate", "bert-base", "--plan", f"{out}/plan.json")
    assert (code, again["makespan_seconds"]) == (0, half["makespan_seconds"])
    code, _ = run_json(capsys, *place, "--precision", "fp7")
    assert code == 2


def test_place_takes_what_ifs(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    place = ("place", model, "-c", "2xv100-pcie", "--placer", "eft")
    _, before = run_json(capsys, *place)
    code, after = run_json(capsys, *place, "--set", "device.flops=2x", "device.launch=0us")
    assert code == 0
    assert after["makespan_seconds"] < before["makespan_seconds"] / 1.9


@pytest.mark.parametrize(
    "words",
    [
        ["place", "{name}", "-c", "2xv100-pcie"],
        ["place", "resnet-50", "-c", "{name}"],
        ["place", "resnet-50", "-c", "2xv100-pcie", "--policy", "{name}"],
        ["place", "resnet-50", "-c", "2xv100-pcie", "--costs", "{name}"],
        ["simulate", "resnet-50", "-c", "2xv100-pcie", "--plan", "{name}"],
        ["compare", "--suite", "{name}"],
        ["compare", "--suite", "{suite}"],
        ["evaluate", "--suite", "{name}", "--out", "{out}"],
        ["evaluate", "--graphs", "{name}", "--clusters", "2xv100-pcie", "--out", "{out}"],
        ["export", "{name}", "--plan", "{name}", "--out", "{out}"],
        ["measure", "{name}", "--plan", "{name}"],
        ["calibrate", "{name}", "--out", "{out}"],
        ["clusters", "show", "{name}"],
        ["graphs", "show", "{name}"],
    ],
    ids=" ".join,
)
def test_a_name_that_no_file_can_have_is_a_mistake_that_is_explained(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "long" * 100
    suite = tmp_path / "suite.yaml"
    suite.write_text(f"- [{name}, 2xv100-pcie]\n", encoding="utf-8")
    given = {"name": name, "suite": str(suite), "out": str(tmp_path / "out")}
    assert run([word.format(**given) for word in words]) == 2
    said = capsys.readouterr().err
    assert name in said
    assert not said.startswith(f"graphwright: {name}: File name too long")  # nobody's error
    assert "fault of graphwright" not in said
