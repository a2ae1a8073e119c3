"""The example scripts, run, and what they come to."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from exported_models import shared_weight_model

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_placing_an_onnx_model(tmp_path: Path) -> None:
    model = shared_weight_model(tmp_path / "model.onnx")
    found = example("place_onnx_model").run(model, tmp_path / "out")
    assert found["bound"] <= found["seconds"]
    assert found["difference"] < 1e-4
    assert (tmp_path / "out" / "report.html").stat().st_size > 500_000


def test_pretraining_and_fine_tuning(tmp_path: Path) -> None:
    found = example("pretrain_and_finetune").run(tmp_path / "run")
    assert found["zero_shot"] <= found["portfolio"]
    assert found["fine_tuned"] <= found["portfolio"]


def test_a_placer_and_a_wrapper_of_ones_own() -> None:
    found = example("own_placer_and_wrapper").run()
    assert found["portfolio"] <= found["by halves"]
    assert found["random"] < found["one device"]


@pytest.mark.slow
def test_an_encoder_of_ones_own() -> None:
    module = example("own_encoder")
    found = module.run()
    if found["last"] < -0.5:  # policy gradients may end in a local optimum; not twice
        found = module.run(seed=1)
    assert found["first"] < -1.0
    assert found["last"] > -0.5
    assert found["over_optimum"] < 1.001


def test_ten_lines_do_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The README's lines, on another model."""
    text = (FOLDER.parent.parent / "README.md").read_text(encoding="utf-8")
    code = text.split("From Python:\n\n```python\n")[1].split("```")[0]
    assert len(code.strip().splitlines()) <= 10
    model = shared_weight_model(tmp_path / "model.onnx")
    code = code.replace('"model.onnx"', repr(str(model))).replace('"plan"', repr(str(tmp_path)))
    code = code.replace('"plan/', f'"{tmp_path}/')
    exec(code.replace("budget_seconds=30", "budget_seconds=0.5"), {})
    assert (tmp_path / "report.html").exists()
    assert (tmp_path / "model.split.json").exists()
