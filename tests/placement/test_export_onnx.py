"""Plans as ONNX models: outputs equal under onnxruntime, weights referred to, checkers content."""

import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from exported_models import (
    CLUSTER,
    control_flow_model,
    external_copy,
    request_for,
    shared_weight_model,
    value,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from agent.cli.app import run
from graphs.importers.onnx_models.model import import_onnx_model
from graphs.importers.onnx_models.steps import onnx_steps
from graphs.loading import load
from placement.export import ExportError, ExportRequest, export_all
from placement.export.onnx_annotated import export_onnx_annotated, session_settings
from placement.export.onnx_parts import cut
from placement.export.onnx_split import export_onnx_split
from placement.export.split_forecast import forecast_split
from placement.problem import Problem
from simulator.plan import Plan

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"


def session(path: Path, **entries: str) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    for key, text in entries.items():
        options.add_session_config_entry(key.replace("__", "."), text)
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def feeds_for(path: Path, batch: int = 3) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(5)
    feeds: dict[str, np.ndarray] = {}
    for item in session(path).get_inputs():
        shape = [size if isinstance(size, int) else batch for size in item.shape]
        kind = {"tensor(float)": np.float32, "tensor(bool)": np.bool_}[item.type]
        feeds[item.name] = np.asarray(generator.standard_normal(shape) > 0).astype(kind)
        if kind is np.float32:
            feeds[item.name] = generator.standard_normal(shape).astype(kind)
    return feeds


def run_split(runner: Path, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    model = runpy.run_path(str(runner))["SplitModel"](cpu=True)
    return model.run(feeds)


def assert_same_outputs(model: Path, runner: Path, feeds: dict[str, np.ndarray]) -> None:
    names = [item.name for item in session(model).get_outputs()]
    wanted = dict(zip(names, session(model).run(names, feeds), strict=True))
    got = run_split(runner, feeds)
    assert list(got) == names
    for name in names:
        np.testing.assert_allclose(got[name], wanted[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [shared_weight_model, control_flow_model])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_parts_compute_what_the_model_computes(
    make: Callable[[Path], Path], seed: int, tmp_path: Path
) -> None:
    from exported_models import scattered

    model = make(tmp_path / "model.onnx")
    request = request_for(model, tmp_path / "out", scattered(load(model), CLUSTER, seed))
    exported = export_onnx_split(request)
    for part in (tmp_path / "out").glob("*.onnx"):
        onnx.checker.check_model(str(part), full_check=True)
    feeds = feeds_for(model)
    assert_same_outputs(model, exported.files[1], feeds)
    if "flag" in feeds:
        assert_same_outputs(
            model,
            exported.files[1],
            {**feeds, "flag": np.logical_not(feeds["flag"], out=np.empty((), bool))},
        )


@pytest.mark.parametrize(
    "name", ["light_squeezenet", pytest.param("light_shufflenet", marks=pytest.mark.slow)]
)
def test_whole_networks_survive_a_scattered_plan(name: str, tmp_path: Path) -> None:
    model = LIGHT / f"{name}.onnx"
    request = replace(request_for(model, tmp_path), max_parts=1000)
    exported = export_onnx_split(request)
    assert_same_outputs(model, exported.files[1], feeds_for(model))
    parts = json.loads(exported.files[0].read_text())["parts"]
    problem = Problem(request.graph, request.cluster)
    assert forecast_split(problem, request.plan).part_count == len(parts)
    few = replace(request, out=tmp_path / "few", max_parts=len(parts) - 1)
    with pytest.raises(ExportError, match=rf"into {len(parts)} models, at most {len(parts) - 1} "):
        export_onnx_split(few)
    assert not few.out.exists()


def test_a_plan_that_crosses_once_makes_two_parts(tmp_path: Path) -> None:
    model = shared_weight_model(tmp_path / "model.onnx")
    graph = load(model)
    front = {"x", "w", "first", "relu", "second"}
    plan = Plan.of(np.array([1 if name in front else 2 for name in graph.op_names]))
    exported = export_onnx_split(request_for(model, tmp_path / "out", plan))
    manifest = json.loads(exported.files[0].read_text())
    assert [(part["device"], part["stage"]) for part in manifest["parts"]] == [
        ("v100:0", 0),
        ("v100:1", 1),
    ]
    assert manifest["parts"][1]["inputs"] == ["c", "a"]
    assert [device["provider"] for device in manifest["devices"]] == [
        "CPUExecutionProvider",
        "CUDAExecutionProvider:0",
        "CUDAExecutionProvider:1",
    ]


def test_a_shared_weight_is_written_once(tmp_path: Path) -> None:
    model = shared_weight_model(tmp_path / "model.onnx")
    graph = load(model)
    plan = Plan.of(np.arange(graph.op_count) % 3)
    exported = export_onnx_split(request_for(model, tmp_path / "out", plan))
    (weights,) = [path for path in exported.files if path.suffix == ".weights"]
    assert weights.stat().st_size == 32 * 32 * 4
    readers = [
        path
        for path in exported.files
        if path.suffix == ".onnx"
        for tensor in onnx.load(path, load_external_data=False).graph.initializer
        if tensor.name == "w"
    ]
    assert len(readers) > 1


def test_external_weights_are_referred_to_and_never_touched(tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    inline = control_flow_model(tmp_path / "inline.onnx")
    model = external_copy(folder / "model.onnx", inline)
    before = (folder / "weights.bin").read_bytes()
    exported = export_onnx_split(request_for(model, folder))
    assert not [path for path in exported.files if path.suffix == ".weights"]
    assert json.loads(exported.files[0].read_text())["weight_files"] == ["weights.bin"]
    assert (folder / "weights.bin").read_bytes() == before
    for part in exported.files[2:]:
        onnx.checker.check_model(str(part))
    assert_same_outputs(model, exported.files[1], feeds_for(model))
    annotated = export_onnx_annotated(request_for(model, folder)).files[0]
    onnx.checker.check_model(str(annotated), full_check=True)


def test_weights_elsewhere_are_copied_only_where_allowed(tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    model = external_copy(folder / "model.onnx", shared_weight_model(tmp_path / "inline.onnx"))
    out = tmp_path / "there"
    with pytest.raises(ExportError, match=r"own folder only.*--copy-weights"):
        export_onnx_split(request_for(model, out))
    assert not list(out.glob("*")) if out.exists() else True
    exported = export_onnx_split(request_for(model, out, copy_weights=True))
    (weights,) = [path for path in exported.files if path.suffix == ".weights"]
    assert weights.stat().st_size < 2 * (folder / "weights.bin").stat().st_size
    (folder / "weights.bin").rename(folder / "gone.bin")
    outputs = run_split(exported.files[1], {"x": np.ones((2, 32), np.float32)})
    assert np.isfinite(outputs["y"]).all()


@pytest.mark.slow
def test_models_over_two_gigabytes(tmp_path: Path) -> None:
    """Four weights of 640 MB in a sparse file: nothing of it is copied, and the parts run."""
    size = 160 << 20
    model = onnx.load(shared_weight_model(tmp_path / "small.onnx"))
    del model.graph.node[:], model.graph.initializer[:], model.graph.output[:]
    last = "x"
    for index in range(4):
        tensor = model.graph.initializer.add(
            name=f"w{index}", data_type=1, dims=[32, size // 32], data_location=1
        )
        for key, text in {
            "location": "huge.bin", "offset": str(4 * size * index), "length": str(4 * size)
        }.items():  # fmt: skip
            tensor.external_data.add(key=key, value=text)
        nodes = [
            helper.make_node("MatMul", [last, f"w{index}"], [f"p{index}"], name=f"p{index}"),
            helper.make_node(
                "ReduceMean", [f"p{index}"], [f"m{index}"], axes=[1], name=f"m{index}"
            ),
            helper.make_node("Add", [last, f"m{index}"], [f"s{index}"], name=f"s{index}"),
        ]
        model.graph.node.extend(nodes)
        last = f"s{index}"
    model.graph.output.append(helper.make_tensor_value_info(last, 1, ["batch", 32]))
    with (tmp_path / "huge.bin").open("wb") as file:
        file.truncate(16 * size)
    path = tmp_path / "huge.onnx"
    path.write_bytes(model.SerializeToString())
    graph = load(path)
    devices = [1 + (name[-1] in "23") for name in graph.op_names]
    exported = export_onnx_split(request_for(path, tmp_path, Plan.of(np.array(devices))))
    assert sum(file.stat().st_size for file in exported.files) < 1 << 20
    x = np.ones((1, 32), np.float32)
    np.testing.assert_array_equal(run_split(exported.files[1], {"x": x})[last], x)


def test_annotations_of_all_three_kinds(tmp_path: Path) -> None:
    model = control_flow_model(tmp_path / "model.onnx")
    request = request_for(model, tmp_path / "out")
    path, options, *_ = export_onnx_annotated(request).files
    onnx.checker.check_model(str(path), full_check=True)
    annotated = onnx.load(path)
    (configuration,) = annotated.configuration
    assert list(configuration.device) == list(CLUSTER.device_names)
    for node in annotated.graph.node:
        if node.op_type == "Constant":
            continue
        wanted = request.device_of(node.name)
        (placed,) = node.device_configurations
        assert placed.configuration_id == configuration.name
        assert {tuple(spec.device) for spec in placed.sharding_spec} == {(wanted,)}
        notes = {item.key: item.value for item in node.metadata_props}
        assert notes["graphwright.device"] == CLUSTER.device_names[wanted]
        assert notes["layer_ann"] == CLUSTER.device_names[wanted].replace(":", "_")
    (settings,) = json.loads(options.read_text()).values()
    assert settings == "cpu(=cpu_0); gpu:0(=v100_0); gpu:1(=v100_1)"
    feeds = feeds_for(model)
    runs = session(path, session__layer_assignment_settings=settings)
    for got, wanted in zip(runs.run(None, feeds), session(model).run(None, feeds), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_onnxruntime_obeys_the_layer_annotations(tmp_path: Path) -> None:
    """A device that it does not know is refused, so the setting is not just ignored."""
    model = shared_weight_model(tmp_path / "model.onnx")
    targets = dict.fromkeys(CLUSTER.device_names, "cpu")
    request = request_for(model, tmp_path / "out", targets=targets)
    settings = session_settings(request)
    assert settings.startswith("cpu(=cpu_0, =v100_0")
    path = export_onnx_annotated(request).files[0]
    session(path, session__layer_assignment_settings=settings)
    with pytest.raises(Exception, match="Missing '\\('"):
        session(path, session__layer_assignment_settings="cpu")


def test_the_runner_script_checks_itself(tmp_path: Path) -> None:
    model = shared_weight_model(tmp_path / "model.onnx")
    runner = export_onnx_split(request_for(model, tmp_path / "out")).files[1]
    command = [sys.executable, str(runner), "--cpu", "--random", "--check", str(model)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "largest difference" in done.stdout
    manifest = json.loads((tmp_path / "out" / "model.split.json").read_text())
    part = tmp_path / "out" / manifest["parts"][-1]["file"]
    broken = onnx.load(part, load_external_data=False)
    broken.graph.node[-1].op_type = "Sub"
    part.write_bytes(broken.SerializeToString())
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1


def test_a_part_that_fails_ends_the_run(tmp_path: Path) -> None:
    model = shared_weight_model(tmp_path / "model.onnx")
    runner = export_onnx_split(request_for(model, tmp_path / "out")).files[1]
    with pytest.raises(Exception, match=r"(?i)dimension"):
        run_split(runner, {"x": np.ones((2, 31), np.float32)})
    with pytest.raises(ValueError, match="missing inputs"):
        run_split(runner, {})


def test_ops_that_a_form_does_not_hold_back_are_told(tmp_path: Path) -> None:
    model = shared_weight_model(tmp_path / "model.onnx")
    request = request_for(model, tmp_path / "out")
    index = request.graph.op_index
    holds = np.full(request.graph.op_count, -1, np.int32)
    holds[index["relu"]] = index["first"]
    held = replace(request, plan=replace(request.plan, holds=holds))
    for export in (export_onnx_split, export_onnx_annotated):
        told = [note for note in export(held).notes if "holds 1 ops back" in note]
        assert len(told) == 1
        assert "it may take more memory than simulated" in told[0]
        assert not [note for note in export(request).notes if "ops back" in note]


def test_a_plan_for_another_model_is_refused(tmp_path: Path) -> None:
    one = shared_weight_model(tmp_path / "one.onnx")
    other = control_flow_model(tmp_path / "other.onnx")
    request = request_for(one, tmp_path / "out")
    mixed = type(request)(other, request.graph, request.cluster, request.plan, request.out)
    with pytest.raises(ExportError, match="give the model file that the plan was made for"):
        export_onnx_split(mixed)
    with pytest.raises(ExportError, match="a target is given for device 'tpu:0'"):
        request_for(one, tmp_path / "out", targets={"tpu:0": "x"})


def test_every_form_that_applies_at_once(tmp_path: Path) -> None:
    model = shared_weight_model(tmp_path / "model.onnx")
    done, refused = export_all(request_for(model, tmp_path / "out"))
    assert {"plan", "onnx-split", "onnx-annotated"} <= {item.form for item in done} | set(refused)
    assert all(path.exists() for item in done for path in item.files)
    assert not list((tmp_path / "out").glob("*.partial"))


def test_place_then_export_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(shared_weight_model(tmp_path / "model.onnx"))
    out = str(tmp_path / "plan")
    flags = ("-c", "2xv100-pcie", "--placer", "round-robin", "--out", out)
    assert run(["place", model, *flags, "--json"]) == 0
    capsys.readouterr()
    plan = str(tmp_path / "plan" / "plan.json")
    export = ("export", model, "--plan", plan, "--out", str(tmp_path / "x"))
    assert run([*export, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert {item["form"] for item in printed["forms"]} >= {"plan", "onnx-split", "onnx-annotated"}
    assert run([*export, "--form", "magic"]) == 2
    assert "there are plan, onnx-split" in capsys.readouterr().err
    assert run(["export", "rnnlm-2", "--plan", plan, "--out", str(tmp_path / "y")]) == 2
    assert "only a model file or folder" in capsys.readouterr().err
    assert not (tmp_path / "y").exists()


def test_a_plan_remembers_the_dimensions_that_it_was_made_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(shared_weight_model(tmp_path / "model.onnx"))
    flags = ("-c", "2xv100-pcie", "--placer", "round-robin", "--out", str(tmp_path / "plan"))
    assert run(["place", model, "--dim", "batch=7", *flags]) == 0
    assert "graphwright export" in capsys.readouterr().out
    plan = str(tmp_path / "plan" / "plan.json")
    for verb in (["simulate"], ["explain"], ["export", "--out", str(tmp_path / "x")]):
        assert run([verb[0], model, "--plan", plan, *verb[1:], "--json"]) == 0
        shown = json.loads(capsys.readouterr().out)
        if "digest" in shown:
            assert shown["digest"] == load(model, {"batch": 7}).digest
    manifest = json.loads((tmp_path / "x" / "model.split.json").read_text())
    assert manifest["example_shapes"] == {"x": [7, 32]}


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_parts_of_any_plan_can_run_one_after_the_other(data: st.DataObject) -> None:
    """Whatever the plan: every node once, inputs from earlier stages, no stage too many."""
    count = data.draw(st.integers(2, 14))
    nodes, tensors = [], ["x"]
    for index in range(count):
        reads = [data.draw(st.sampled_from(tensors)) for _ in range(2)]
        nodes.append(helper.make_node("Add", reads, [f"t{index}"], name=f"n{index}"))
        tensors.append(f"t{index}")
    graph = helper.make_graph(
        nodes, "g", [value("x", 4)], [value(f"t{count - 1}", 4), value("t0", 4)]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    steps = onnx_steps(model, {}, "model", None)
    imported = import_onnx_model(model, {}, "model")
    devices = [data.draw(st.integers(0, 2)) for _ in range(imported.op_count)]
    request = ExportRequest(
        Path("model.onnx"), imported, CLUSTER, Plan.of(np.array(devices)), Path("unused")
    )
    parts = cut(steps, request)
    assert [s.name for s in steps.steps] == sorted(
        (s.name for part in parts for s in part.steps), key=lambda name: int(name[1:])
    )
    stage_of = dict.fromkeys(steps.binding.inputs, -1)
    device_of: dict[str, int] = {}
    for part in parts:
        assert all(stage_of[name] < part.stage for name in part.inputs)
        for step in part.steps:
            assert request.device_of(step.name) == part.device
            stage_of[step.node.output[0]] = part.stage
            device_of[step.node.output[0]] = part.device
        made = {step.node.output[0] for step in part.steps}
        if part.stage:
            before = [n for n in part.inputs if n in device_of and n not in made]
            assert any(stage_of[name] == part.stage - 1 for name in before)
    outputs = {name for part in parts for name in part.outputs}
    assert set(steps.outputs) <= outputs | set(steps.binding.inputs)
