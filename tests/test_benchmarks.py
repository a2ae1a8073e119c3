"""The benchmarks still fit the code that they measure: each can be imported, each variant made."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from agent.config import AgentConfig

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmarks_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["ablations", "move_ranking", "tune_guide", "joint_tasks"])
def test_benchmarks_of_policies_import_what_is_there(name: str) -> None:
    assert callable(loaded(FOLDER / f"{name}.py").main)


def test_every_ablation_is_a_configuration() -> None:
    variants = loaded(FOLDER / "ablations.py").VARIANTS
    made = {name: change(AgentConfig()) for name, change in variants.items()}
    same = [name for name, config in made.items() if config == AgentConfig()]
    assert same == ["full", "no pretraining"]
