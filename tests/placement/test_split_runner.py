"""The runner of split models: tensors of every type, threads, execution providers, times."""

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from device_models import core_cluster
from exported_models import CLUSTER, normal, shared_weight_model, value
from onnx import TensorProto, helper
from split_runs import OtherDevice, runner_module, save_any, split_of

import graphs
from agent.cli.app import run
from placement.export import ExportError
from placement.export.split_forecast import forecast_split
from placement.problem import Problem
from simulator.plan import Plan

node = helper.make_node
LACKING = [
    "bfloat16", "float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz", "int4", "uint4",
    "int2", "uint2",
]  # fmt: skip
CHAIN = {"first": 1, "relu": 1, "second": 2, "add": 2, "third": 1, "join": 1}


def kind_of(name: str) -> int:
    return int(TensorProto.DataType.Value(name.upper()))


def cast_model(path: Path, name: str) -> Path:
    """Casts to a type and back; both are outputs."""
    kind = kind_of(name)
    nodes = [node("Cast", ["x"], ["a"], "down", to=kind), node("Cast", ["a"], ["y"], "up", to=1)]
    outputs = [value("y", "n", 3), value("a", "n", 3, kind=kind)]
    opset = 25 if name.endswith("int2") else 21
    return save_any(path, nodes, [value("x", "n", 3)], outputs, opset=opset)


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """The runner of a model whose parts go from one GPU to another and back."""
    model = shared_weight_model(tmp_path / "model.onnx")
    return split_of(model, tmp_path / "out", CHAIN)


@pytest.mark.parametrize("name", LACKING)
def test_types_that_numpy_lacks_cross(name: str, tmp_path: Path) -> None:
    model = cast_model(tmp_path / "m.onnx", name)
    runner = runner_module(split_of(model, tmp_path / "out", {"down": 1, "up": 2}))
    x = np.array([[0, 1, -1], [2, 0.5, 3], [1, 0, -2]], np.float32)
    (wanted,) = ort.InferenceSession(str(model)).run(["y"], {"x": x})
    with runner.SplitModel(cpu=True) as split:
        assert len(split.parts) == 2
        got = split.run({"x": x})
        again = split.run({"x": -x})
    np.testing.assert_array_equal(got["y"], wanted)
    assert got["a"].data_type() == f"tensor({name})"
    np.testing.assert_array_equal(runner.numbers(got["a"]), wanted)  # not what came later
    np.testing.assert_array_equal(runner.numbers(again["a"]), again["y"])


@pytest.mark.parametrize("name", LACKING)
def test_types_that_numpy_lacks_are_given_as_they_are_stored(name: str, tmp_path: Path) -> None:
    kind = kind_of(name)
    nodes = [node("Cast", ["a"], ["x"], "up", to=1), node("Neg", ["x"], ["y"], "neg")]
    opset = 25 if name.endswith("int2") else 21
    model = save_any(
        tmp_path / "m.onnx", nodes, [value("a", 2, 3, kind=kind)], [value("y", 2, 3)], opset=opset
    )
    runner = runner_module(split_of(model, tmp_path / "out", {"up": 1, "neg": 2}))
    own = {"bfloat16": "bfloat16"}.get(name, name.replace("float8e", "float8_e"))
    values = np.array([[0, 1, 1], [1, 1, 0]], getattr(ml_dtypes, own))
    with runner.SplitModel(cpu=True) as split:
        wanted = -values.astype(np.float32)
        np.testing.assert_array_equal(split.run({"a": values})["y"], wanted)
        held = runner._from_stored("a", values, f"tensor({name})")
        np.testing.assert_array_equal(split.run({"a": runner.stored(held)})["y"], wanted)
        np.testing.assert_array_equal(split.run({"a": held})["y"], wanted)
        with pytest.raises(ValueError, match=f"the model reads {name}"):
            split.run({"a": np.zeros((2, 3), np.float32)})


@pytest.mark.parametrize("name", [name for name in LACKING if "float" in name])
def test_bits_are_read_as_ml_dtypes_reads_them(name: str, chain: Path) -> None:
    runner = runner_module(chain)
    own = name.replace("float8e", "float8_e")
    bits = np.arange(2**16, dtype=np.uint16) if name == "bfloat16" else np.arange(256, dtype="u1")
    held = runner._from_stored("a", bits, f"tensor({name})")
    with np.errstate(invalid="ignore"):
        wanted = bits.view(getattr(ml_dtypes, own)).astype(np.float64)
    np.testing.assert_array_equal(runner.numbers(held), wanted)
    np.testing.assert_array_equal(runner.stored(held), bits)


def test_tensors_pass_from_part_to_part_without_numpy(
    chain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = runner_module(chain)
    read: list[ort.OrtValue] = []
    numpy = ort.OrtValue.numpy

    def noted(value: ort.OrtValue) -> np.ndarray:
        read.append(value)
        return numpy(value)

    monkeypatch.setattr(ort.OrtValue, "numpy", noted)
    monkeypatch.setattr(ort.InferenceSession, "run", None)
    with runner.SplitModel(cpu=True) as split:
        outputs = split.run({"x": normal(2, 32)})
        assert len(split.parts) == 3
    assert len(read) == len(outputs) == 2


def test_a_tensor_is_let_go_after_its_last_reader(
    chain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = runner_module(chain)
    held: list[set[str]] = []
    run = runner._Part.run

    def noted(part: object, values: dict[str, object]) -> object:
        held.append(set(values))
        return run(part, values)

    monkeypatch.setattr(runner._Part, "run", noted)
    with runner.SplitModel(cpu=True) as split:
        split.run({"x": normal(2, 32)})
    assert [part.inputs for part in split.parts] == [["x"], ["b"], ["d", "a"]]
    assert held == [{"x"}, {"a", "b", "bias"}, {"a", "d", "bias"}]


def test_sequences_cross_and_come_out(tmp_path: Path) -> None:
    several = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
    nodes = [
        node("SplitToSequence", ["x"], ["s"], "split", axis=0, keepdims=1),
        node("ConcatFromSequence", ["s"], ["y"], "join", axis=0),
    ]
    outputs = [several, value("y", 3, 2)]
    model = save_any(tmp_path / "m.onnx", nodes, [value("x", 3, 2)], outputs)
    runner = runner_module(split_of(model, tmp_path / "out", {"split": 1, "join": 2}))
    x = normal(3, 2)
    with runner.SplitModel(cpu=True) as split:
        got = split.run({"x": x})
    np.testing.assert_array_equal(np.concatenate(got["s"]), x)
    np.testing.assert_array_equal(got["y"], x)


def test_maps_come_out_and_texts_go_in(tmp_path: Path) -> None:
    """What onnxruntime cannot bind goes in and out as objects, beside tensors that it can."""
    kind = onnx.TypeProto()
    pair = kind.sequence_type.elem_type.map_type
    pair.key_type = TensorProto.INT64
    pair.value_type.CopyFrom(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    nodes = [
        node("LabelEncoder", ["t"], ["k"], "encode", domain="ai.onnx.ml",
             keys_strings=["a", "b"], values_floats=[1.0, 2.0]),
        node("Add", ["k", "x"], ["z"], "add"),
        node("ZipMap", ["z"], ["m"], "zip", domain="ai.onnx.ml", classlabels_int64s=[4, 5]),
        node("Identity", ["t"], ["u"], "same"),
    ]  # fmt: skip
    outputs = [helper.make_value_info("m", kind), value("u", 1, 2, kind=TensorProto.STRING)]
    inputs = [value("t", 1, 2, kind=TensorProto.STRING), value("x", 1, 2)]
    model = save_any(tmp_path / "m.onnx", nodes, inputs, outputs)
    places = {"encode": 1, "add": 2, "zip": 0, "same": 2}
    runner = runner_module(split_of(model, tmp_path / "out", places))
    feeds = {"t": np.array([["b", "a"]]), "x": np.array([[0.5, 0.25]], np.float32)}
    with runner.SplitModel(cpu=True) as split:
        got = split.run(feeds)
    assert got["m"] == [{4: 2.5, 5: 1.25}]
    assert got["u"].tolist() == [["b", "a"]]


def test_sequences_go_in_and_an_empty_optional_comes_out(tmp_path: Path) -> None:
    kind = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    several = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
    nodes = [
        node("ConcatFromSequence", ["s"], ["y"], "join", axis=0),
        node("Optional", [], ["o"], "none", type=kind),
        node("Neg", ["y"], ["z"], "neg"),
    ]
    outputs = [value("z", "n"), helper.make_value_info("o", helper.make_optional_type_proto(kind))]
    model = save_any(tmp_path / "m.onnx", nodes, [several], outputs)
    runner = runner_module(split_of(model, tmp_path / "out", {"join": 1, "neg": 2}))
    with runner.SplitModel(cpu=True) as split:
        got = split.run({"s": [np.ones(2, np.float32), np.zeros(1, np.float32)]})
    np.testing.assert_array_equal(got["z"], [-1, -1, 0])
    assert got["o"] is None


def test_weights_may_be_overridden(tmp_path: Path) -> None:
    model = onnx.load(shared_weight_model(tmp_path / "plain.onnx"))
    model.graph.input.append(value("w", 32, 32))
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    runner = runner_module(split_of(path, tmp_path / "out", CHAIN))
    feeds = {"x": normal(2, 32), "w": normal(32, 32, seed=9) / 8}
    whole = ort.InferenceSession(str(path))
    with runner.SplitModel(cpu=True) as split:
        for given in (feeds, {"x": feeds["x"]}):
            wanted = whole.run(["y"], given)[0]
            np.testing.assert_allclose(split.run(given)["y"], wanted, rtol=1e-4, atol=1e-5)


def test_pools_are_sized_and_do_not_spin(chain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = runner_module(chain)
    monkeypatch.setattr(runner, "_cores", lambda: 9)

    def options(**chosen: object) -> list[tuple[int, int, str]]:
        with runner.SplitModel(cpu=True, **chosen) as split:
            found = [part.session.get_session_options() for part in split.parts]
        key = "session.intra_op.allow_spinning"
        return [
            (o.intra_op_num_threads, o.inter_op_num_threads, _entry(o, key) or "") for o in found
        ]

    assert options() == [(4, 1, "0")] * 3  # of nine cores, for two devices
    assert options(threads=3) == [(3, 1, "0")] * 3
    assert options(threads=0) == [(0, 0, "")] * 3
    monkeypatch.setattr(runner, "_cores", lambda: 1)
    assert options() == [(1, 1, "0")] * 3
    with pytest.raises(ValueError, match="threads are -1; give 0 or more"):
        options(threads=-1)


def _entry(options: ort.SessionOptions, key: str) -> str | None:
    try:
        return str(options.get_session_config_entry(key))
    except RuntimeError:
        return None


def test_threads_are_made_once_and_end(chain: Path) -> None:
    runner = runner_module(chain)
    before = set(threading.enumerate())
    with runner.SplitModel(cpu=True) as split:
        used = set()
        for _ in range(3):
            split.run({"x": normal(2, 32)})
            used |= set(threading.enumerate()) - before
        assert len(used) == 2
    assert not any(thread.is_alive() for thread in used)
    with pytest.raises(RuntimeError, match="shutdown"):
        split.run({"x": normal(2, 32)})


def test_steps_of_several_callers_do_not_wait_for_each_other(chain: Path) -> None:
    runner = runner_module(chain)
    inputs = [normal(2, 32, seed=seed) for seed in range(24)]
    with runner.SplitModel(cpu=True) as split, ThreadPoolExecutor(8) as callers:
        jobs = [callers.submit(split.run, {"x": x}) for x in inputs]
        got = [job.result(timeout=3600)["y"] for job in jobs]
        for x, found in zip(inputs, got, strict=True):
            np.testing.assert_array_equal(found, split.run({"x": x})["y"])


def test_a_device_that_fails_ends_the_others(tmp_path: Path) -> None:
    nodes = [
        node("Neg", ["x"], ["a"], "neg"),
        node("Gather", ["a", "i"], ["b"], "pick"),
        node("Relu", ["b"], ["y"], "relu"),
    ]
    inputs = [value("x", 4), value("i", 1, kind=TensorProto.INT64)]
    model = save_any(tmp_path / "m.onnx", nodes, inputs, [value("y", 1)])
    places = {"neg": 0, "pick": 1, "relu": 2}
    runner = runner_module(split_of(model, tmp_path / "out", places))
    x = np.arange(4, dtype=np.float32)
    with runner.SplitModel(cpu=True) as split:
        with pytest.raises(
            runner.SplitError, match=r"part01-v100_0\.onnx on v100:0: .*(?i:bounds)"
        ):
            split.run({"x": x, "i": np.array([9])})
        np.testing.assert_array_equal(split.run({"x": -x, "i": np.array([3])})["y"], [3])
        with pytest.raises(ValueError, match="'x' is float64, the model reads float32"):
            split.run({"x": x.astype(np.float64), "i": np.array([3])})


def test_a_missing_provider_is_an_error(chain: Path, tmp_path: Path) -> None:
    runner = runner_module(chain)
    message = r"v100:0: onnxruntime .* has no CUDAExecutionProvider here; it has .*CPUEx.*--cpu"
    with pytest.raises(runner.SplitError, match=message):
        runner.SplitModel()
    with pytest.raises(runner.SplitError, match=r"v100:1: .*has no Magic"):
        runner.SplitModel(on={"v100:0": "cpu", "v100:1": "Magic"})
    with pytest.raises(runner.SplitError, match="no device 'tpu:0'; there are cpu:0, v100:0"):
        runner.SplitModel(on={"tpu:0": "cpu"})
    with pytest.raises(runner.SplitError, match="'x' is no option"):
        runner.SplitModel(on={"v100:0": "cpu,x"})
    command = [sys.executable, str(chain), "--random"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: v100:0: onnxruntime")
    both = [*command, "--on", "v100:0=cpu", "--on", "v100:1=CPUExecutionProvider"]
    assert subprocess.run(both, capture_output=True, check=False).returncode == 0
    used = split_of(tmp_path / "model.onnx", tmp_path / "one", dict.fromkeys(CHAIN, 0))
    with runner_module(used).SplitModel() as split:  # what is not used need not be there
        split.run({"x": normal(2, 32)})


@pytest.fixture
def with_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """An onnxruntime that claims to have CUDA, and notes what it is asked for."""
    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: names)
    monkeypatch.setattr(ort, "InferenceSession", OtherDevice)
    OtherDevice.asked.clear()
    OtherDevice.bound.clear()


def test_options_of_providers_arrive(tmp_path: Path, with_cuda: None) -> None:
    model = shared_weight_model(tmp_path / "model.onnx")
    targets = {"v100:0": "cuda:3,arena_extend_strategy=kSameAsRequested,gpu_mem_limit=1024"}
    runner = runner_module(split_of(model, tmp_path / "out", CHAIN, targets))
    cpu: tuple[str, dict[str, str]] = ("CPUExecutionProvider", {})
    with runner.SplitModel(on={"v100:1": "CUDAExecutionProvider:5,use_tf32=0"}):
        options = {"device_id": "3", "arena_extend_strategy": "kSameAsRequested"}
        first = [("CUDAExecutionProvider", {**options, "gpu_mem_limit": "1024"}), cpu]
        second = [("CUDAExecutionProvider", {"device_id": "5", "use_tf32": "0"}), cpu]
        assert OtherDevice.asked == [first, second, first]
    with pytest.raises(ExportError, match=r"write NAME\[:NUMBER\]\[,KEY=VALUE"):
        split_of(model, tmp_path / "bad", CHAIN, {"v100:0": "cuda:1,fast"})
    assert not (tmp_path / "bad").exists()


def test_options_of_providers_by_command(tmp_path: Path) -> None:
    model = str(shared_weight_model(tmp_path / "model.onnx"))
    flags = ("-c", "2xv100-pcie", "--placer", "round-robin", "--out", str(tmp_path / "plan"))
    assert run(["place", model, *flags]) == 0
    plan = str(tmp_path / "plan" / "plan.json")
    command = [
        "export",
        model,
        "--plan",
        plan,
        "--form",
        "onnx-split",
        "--out",
        str(tmp_path / "x"),
    ]
    assert run([*command, "--on", "v100:1=cuda:4,use_tf32=0,gpu_mem_limit=9"]) == 0
    manifest = json.loads((tmp_path / "x" / "model.split.json").read_text())
    assert [device["provider"] for device in manifest["devices"]] == [
        "CUDAExecutionProvider:0",
        "cuda:4,use_tf32=0,gpu_mem_limit=9",
    ]
    assert run([*command, "--on", "v100:1"]) == 2


def test_tensors_stay_on_the_device_that_alone_reads_them(tmp_path: Path, with_cuda: None) -> None:
    model = shared_weight_model(tmp_path / "model.onnx")
    runner = runner_module(split_of(model, tmp_path / "out", CHAIN))
    with runner.SplitModel() as split:
        split.run({"x": normal(2, 32)})
    (first, second, _) = split.parts
    kept = set(first.outputs) - set(second.inputs) - {"bias"}
    assert kept == {"a"}  # made and read again on the first GPU
    assert {(name, kind, number) for name, kind, number in OtherDevice.bound} == {
        (name, "cuda" if name in kept else "cpu", 0)
        for part in split.parts
        for name in part.outputs
    }


def test_a_provider_that_does_not_start_is_an_error(
    chain: Path, with_cuda: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OtherDevice, "get_providers", lambda _: ["CPUExecutionProvider"])
    runner = runner_module(chain)
    with pytest.raises(runner.SplitError, match=r"CUDAExecutionProvider does not start.*--cpu"):
        runner.SplitModel()


def test_the_manifest_says_what_was_predicted(chain: Path, tmp_path: Path) -> None:
    manifest = json.loads((tmp_path / "out" / "model.split.json").read_text())
    graph = graphs.load(tmp_path / "model.onnx")
    plan = Plan.of(np.array([CHAIN.get(name, 0) for name in graph.op_names]))
    problem = Problem(graph, CLUSTER)
    assert manifest["predicted_seconds"] == forecast_split(problem, plan).makespan_seconds
    assert manifest["simulated_seconds"] == problem.evaluate(plan).makespan_seconds
    assert manifest["costs"] == problem.costs.name


def test_steps_are_timed_beside_the_prediction(tmp_path: Path) -> None:
    model = shared_weight_model(tmp_path / "model.onnx")
    places = {name: int(device == 2) for name, device in CHAIN.items()}
    path = split_of(model, tmp_path / "out", places, cluster=core_cluster())
    command = [sys.executable, str(path), "--random", "--check", str(model), "--time", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[-4].startswith("3 parts, ")
    assert said[-3].startswith("split: median ")
    assert "(3 steps after 5 to warm up)" in said[-3]
    manifest = json.loads((tmp_path / "out" / "model.split.json").read_text())
    assert f"predicted: {1e3 * manifest['predicted_seconds']:.3f} ms as a split" in said[-2]
    assert said[-1].startswith("original in one session on the CPU: median ")


def test_every_output_is_stored_and_checked(tmp_path: Path) -> None:
    model = cast_model(tmp_path / "m.onnx", "bfloat16")
    path = split_of(model, tmp_path / "out", {"down": 1, "up": 2})
    outputs = tmp_path / "outputs.npz"
    (tmp_path / "precious").write_text("kept")
    outputs.symlink_to(tmp_path / "precious")
    command = [sys.executable, str(path), "--cpu", "--random", "--check", str(model)]
    done = subprocess.run(
        [*command, "--outputs", str(outputs)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "a: tensor(bfloat16)[" in done.stdout
    found = np.load(outputs)
    np.testing.assert_array_equal(found["a"].view(ml_dtypes.bfloat16), found["y"])
    assert not outputs.is_symlink()
    assert (tmp_path / "precious").read_text() == "kept"


@pytest.mark.parametrize("name", ["bfloat16", "float8e5m2", "int4"])
def test_differences_in_types_that_numpy_lacks_are_found(name: str, chain: Path) -> None:
    runner = runner_module(chain)
    dtype = np.uint16 if name == "bfloat16" else np.uint8
    one = runner._from_stored("a", np.array([1, 2], dtype), f"tensor({name})")
    same = runner._from_stored("a", np.array([1, 2], dtype), f"tensor({name})")
    other = runner._from_stored("a", np.array([1, 5], dtype), f"tensor({name})")
    assert runner.largest_difference(one, same) == 0
    assert runner.largest_difference([one], [other]) > 0


def test_made_up_inputs_of_every_type(chain: Path) -> None:
    runner: ModuleType = runner_module(chain)
    for name in LACKING:
        kind = f"tensor({name})"
        made = runner.random_feeds({"a": kind}, {"a": (4, 5)}, 0)["a"]
        found = np.abs(runner.numbers(runner._from_stored("a", made, kind)))
        assert (found <= 2).all()
        assert len(np.unique(found)) > 1
        assert found.shape == (4, 5)
        if "float" in name:
            assert (found >= 0.5).all()
    with pytest.raises(runner.SplitError, match="give --inputs"):
        runner.random_feeds({"a": "tensor(string)"}, {"a": (1,)}, 0)
