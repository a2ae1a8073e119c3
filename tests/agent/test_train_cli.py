"""`train`, `finetune` and policies as placers, from the command line."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from cyclopts import CycloptsError
from training_samples import CLUSTER, largest_difference, tiny_flags, write_models
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from agent.cli.app import run
from agent.cli.layered import TrainFlags
from agent.cli.verbs.train import train_app
from agent.config import TrainConfig
from agent.evaluation.contestants import contestants
from agent.placing.finetuning import FineTuneConfig, fine_tune
from agent.placing.policy_placer import PolicyPlacer
from agent.placing.registry import default_placer, get_placer
from agent.runs.checkpoint import load_checkpoint
from agent.runs.commit import current_commit
from agent.runs.run_folder import versions
from agent.runs.tracking.jsonl import read_lines
from agent.runs.tracking.tracker import Silent
from agent.training.loop import Pretraining
from graphs.errors import GraphwrightError
from graphs.graph_file import read_graph
from placement.placer import Budget, Placed
from placement.problem import Problem
from simulator.cluster_file import load_cluster

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def trained(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four rounds."""
    out = tmp_path_factory.mktemp("runs") / "trained"
    assert run(["train", *tiny_flags(models), f"--out={out}", "--track=none", "--json"]) == 0
    return out


def run_json(capsys: pytest.CaptureFixture[str], *tokens: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = run([*map(str, tokens), "--json"])
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    return code, json.loads(printed)


def settings(*tokens: str) -> TrainConfig:
    """What flags come to, without running anything."""
    _, bound, _ = train_app.parse_args(list(tokens), exit_on_error=False, print_error=False)
    flags = bound.arguments.get("settings", TrainFlags())
    return flags.settings()


def test_flags_are_the_fields_of_the_configuration() -> None:
    assert settings() == TrainConfig()
    found = settings(
        "--ppo.lr=0.01", "--policy.width", "32", "--episode.steps=3", "--sample.samples=7",
        "--suite=validation", "--rounds=11", "--graphs-per-batch=2", "--policy.superposition=False",
        "--sample.moves=[3, 4]", "--policy.tasks=['placement', 'scheduling']", "--clusters=a",
        "--clusters=b", "--episode.group-sizes=[]",
    )  # fmt: skip
    assert (found.agent.ppo.lr, found.agent.policy.width, found.agent.episode.steps) == (
        0.01,
        32,
        3,
    )
    assert (found.agent.sample.samples, found.agent.sample.moves) == (7, (3, 4))
    assert (found.suite, found.rounds, found.graphs_per_batch) == ("validation", 11, 2)
    assert found.agent.policy.superposition is False
    assert found.agent.policy.tasks == ("placement", "scheduling")
    assert found.clusters == ("a", "b")
    assert found.agent.episode.group_sizes == ()
    at_once = settings(
        "--policy.tasks", "placement", "scheduling", "fusion", "--clusters", "a", "b"
    )
    assert at_once.agent.policy.tasks == ("placement", "scheduling", "fusion")
    assert at_once.clusters == ("a", "b")
    with pytest.raises(CycloptsError, match=r"--agent\.ppo\.lr"):
        settings("--agent.ppo.lr=0.01")


def test_help_says_where_a_run_is_told_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    at = shown.index("--track ")
    assert "[default: wandb]" in shown[at : at + 200]


def test_a_yaml_lies_under_the_flags(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "rounds: 7\nclusters: [4xv100-pcie]\nppo: {lr: 0.5, epochs: 3}\n"
        "policy: {tasks: [placement, fusion], superposition: false}\n"
    )
    found = settings(f"--config={path}", "--ppo.lr=0.25")
    assert (found.rounds, found.clusters) == (7, ("4xv100-pcie",))
    assert (found.agent.ppo.lr, found.agent.ppo.epochs) == (0.25, 3)
    assert found.agent.policy.tasks == ("placement", "fusion")
    assert found.agent.policy.superposition is False
    path.write_text("agent: {ppo: {lr: 0.5}}\n")
    assert settings(f"--config={path}").agent.ppo.lr == 0.5


def sweep_choices(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """For each parameter each of its values, or the ends of its range."""
    choices: list[dict[str, Any]] = []
    for name, given in parameters.items():
        values = given.get("values") or [
            given[key] for key in ("value", "min", "max") if key in given
        ]
        choices.extend({"args": {name: {"value": value}}} for value in values)
    return choices


def test_the_sweep_that_ships_is_understood() -> None:
    sweep = yaml.safe_load((ROOT / "benchmarks/sweeps/pretrain.yaml").read_text())
    at = sweep["command"].index("train")
    assert sweep["command"][:at] == ["${env}", "graphwright"]
    fixed = [token for token in sweep["command"][at + 1 :] if token != "${args}"]
    assert "${args}" in sweep["command"]
    choices = sweep_choices(sweep["parameters"])
    found = {settings(*fixed, *create_sweep_command_args(choice)["args"]) for choice in choices}
    assert len(choices) > 20
    assert len(found) > len(choices) / 2, "most choices are other than the default"
    everything = {name: {"value": (g.get("values") or [g.get("value", g.get("min"))])[-1]}
                  for name, g in sweep["parameters"].items()}  # fmt: skip
    last = settings(*fixed, *create_sweep_command_args({"args": everything})["args"])
    assert last.agent.policy.tasks == ("placement", "scheduling")
    assert last.agent.sample.moves == (1, 2, 4)
    assert last.agent.policy.superposition is False
    assert sweep["metric"] == {"name": "validation/proposals_ratio", "goal": "minimize"}


def test_a_run_leaves_what_is_needed_to_repeat_it(trained: Path) -> None:
    assert {path.name for path in trained.iterdir()} >= {
        "config.json", "metrics.jsonl", "checkpoint", "best",
    }  # fmt: skip
    about = json.loads((trained / "config.json").read_text())
    assert about["train"]["rounds"] == 4
    assert about["train"]["agent"]["policy"]["width"] == 16
    assert about["versions"] == dict(versions())
    assert about["suite"]["pairs"] == 2
    assert len(about["suite"]["digest"]) == 64
    assert set(about["suite"]["clusters"]) == {CLUSTER}
    assert about["commands"]
    assert about["commits"] == [current_commit()]
    lines = read_lines(trained)
    assert [line["step"] for line in lines if "lr" in line.get("figures", {})] == [1, 2, 3, 4]
    assert lines[-1]["artifact"] == "policy-trained"


def test_interrupted_by_ctrl_c_and_resumed_it_ends_the_same(
    models: Path,
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_round = Pretraining.run_round

    def interrupted(self: Pretraining) -> dict[str, float]:
        if self.round == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return run_round(self)

    monkeypatch.setattr(Pretraining, "run_round", interrupted)
    out = tmp_path / "run"
    flags = (*tiny_flags(models), "--track=none")
    before = signal.getsignal(signal.SIGINT)
    code, told = run_json(capsys, "train", *flags, f"--out={out}")
    assert code == 130
    assert (told["rounds"], told["interrupted"]) == (3, True)
    assert signal.getsignal(signal.SIGINT) is before  # ignored, where a shell runs this behind
    monkeypatch.undo()
    assert run(["train", *flags, f"--out={out}"]) == 2
    assert "go on with --resume" in capsys.readouterr().err
    code, told = run_json(capsys, "train", f"--resume={out}", "--track=none")
    assert (code, told["rounds"], told["folder"]) == (0, 4, str(out))
    assert largest_difference(out / "checkpoint", trained / "checkpoint") == 0.0
    steps = [line["step"] for line in read_lines(out) if "lr" in line.get("figures", {})]
    assert steps == [1, 2, 3, 4]
    about = json.loads((out / "config.json").read_text())
    assert len(about["commands"]) == len(about["commits"]) == 2


def test_flags_win_over_what_is_resumed_but_for_the_network(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (trained / "config.json").read_text()
    assert run(["train", f"--resume={trained}", "--policy.width=32", "--rounds=9"]) == 2
    assert "cannot go on with another network" in capsys.readouterr().err
    assert run(["train", f"--resume={trained}", "--track=none"]) == 2
    assert "has had 4 rounds already; give more with --rounds" in capsys.readouterr().err
    assert (trained / "config.json").read_text() == before
    other = f"--out={tmp_path / 'longer'}"
    resume = f"--resume={trained / 'checkpoint'}"
    code, told = run_json(capsys, "train", resume, other, "--rounds=5", "--track=none")
    assert (code, told["rounds"]) == (0, 5)
    assert load_checkpoint(trained / "checkpoint").about["round"] == 4


def test_a_run_may_start_from_a_policy(
    models: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [flag for flag in tiny_flags(models, rounds=1) if not flag.startswith("--policy")]
    begun = ("train", *flags, f"--init={trained}", "--ppo.lr=0", "--moves.lr=0", "--track=none")
    code, _ = run_json(capsys, *begun, f"--out={tmp_path / 'run'}")
    assert code == 0
    mine = load_checkpoint(tmp_path / "run" / "checkpoint").policy.state_dict()
    theirs = load_checkpoint(trained / "best").policy.state_dict()
    assert all(bool((mine[name] == theirs[name]).all()) for name in theirs)


def test_a_policy_places_and_is_compared(
    models: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = (str(models / "wide.gwgraph"), "-c", CLUSTER, "--budget=1")
    code, placed = run_json(capsys, "place", *target, "--policy", str(trained))
    assert (code, placed["placer"]) == (0, "policy")
    best = str(trained / "best")
    wanted = ("--placer=portfolio", "--placer=policy", "--placer=policy-untrained")
    code, compared = run_json(capsys, "compare", *target, *wanted, f"--policy={best}")
    times = {row["placer"]: row["makespan_seconds"] for row in compared["placers"]}
    assert code == 0
    assert list(times) == ["portfolio", "policy", "policy-untrained"]
    assert times["policy"] <= times["portfolio"]
    suite = ("--suite", str(models), "-c", CLUSTER, "--budget=1", f"--policy={best}")
    code, table = run_json(capsys, "compare", *suite, *wanted[:2])
    assert [set(row["makespan_seconds"]) for row in table["rows"]] == [{"portfolio", "policy"}] * 2


def test_finetune_learns_on_one_model(
    models: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tuned"
    code, told = run_json(
        capsys, "finetune", str(models / "wide.gwgraph"), "-c", CLUSTER, f"--policy={trained}",
        "--updates=3", "--budget=2s", f"--out={out}", "--track=wandb",
    )  # fmt: skip
    assert code == 0
    assert told["updates"] == 3
    # Neither stops before its budget is spent, and the control has as much.
    assert min(told["zero_shot_cpu_seconds"], told["fine_tuned_cpu_seconds"]) >= 2
    best = min(told["zero_shot_seconds"], told["fine_tuned_seconds"])
    assert told["makespan_seconds"] == best <= told["portfolio_seconds"]
    assert set(told["files"]) == {
        "plan.json", "trace.json", "cluster.yaml", "report.html", "policy",
    }  # fmt: skip
    assert all(Path(path).exists() for path in told["files"].values())
    tuned, before = load_checkpoint(out / "checkpoint"), load_checkpoint(trained / "best")
    assert any(
        bool((tuned.policy.state_dict()[name] != value).any())
        for name, value in before.policy.state_dict().items()
    )
    assert tuned.about["fine_tuned"]["updates"] == 3
    lines = read_lines(out)
    steps = [line["step"] for line in lines if "step_seconds" in line.get("figures", {})]
    assert steps == list(range(1, len(steps) + 1))
    assert len([line for line in lines if "move_loss" in line.get("figures", {})]) == 3
    assert {line["picture"] for line in lines if "picture" in line} == {
        "plan/gantt", "plan/placement",
    }  # fmt: skip
    (devices,) = [line["rows"] for line in lines if line.get("table") == "plan/devices"]
    assert [row["device"] for row in devices] == ["a100:0", "a100:1", "v100:0", "v100:1"]
    assert list(out.glob("wandb/offline-run-*/run-*.wandb"))
    code, placed = run_json(
        capsys, "simulate", str(models / "wide.gwgraph"), "-c", str(out / "cluster.yaml"),
        "--plan", str(out / "plan.json"),
    )  # fmt: skip
    assert placed["makespan_seconds"] == told["makespan_seconds"]


def test_without_a_folder_fine_tuning_shows_its_times(
    models: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(models / "narrow.gwgraph")
    assert (
        run(["finetune", model, "-c", CLUSTER, f"--policy={trained}", "--updates=1", "--budget=1s"])
        == 0
    )
    shown = capsys.readouterr().out
    assert "portfolio" in shown
    assert "policy, no learning" in shown
    assert "fine-tuned, 1 updates" in shown


def test_fine_tuning_is_the_columns_of_the_evaluation(
    models: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same placers: learning and not, without limits but the budget and the updates."""
    called: list[tuple[bool, int, int, int]] = []
    place = PolicyPlacer.__call__

    def watched(self: PolicyPlacer, *given: Any) -> Placed:
        effort = self.effort
        learns = effort.max_updates > 0
        called.append((learns, effort.max_updates, effort.max_passes, effort.max_steps))
        return place(self, *given)

    monkeypatch.setattr(PolicyPlacer, "__call__", watched)
    checkpoint = load_checkpoint(trained / "checkpoint")
    problem = Problem(read_graph(models / "wide.gwgraph", {}), load_cluster(CLUSTER))
    fine_tune(problem, checkpoint, FineTuneConfig(updates=2, budget_seconds=0.2), Silent())
    ours, called[:] = list(called), []
    for column in contestants(("zero-shot", "fine-tuned"), checkpoint, 2):
        column.attempt(problem, Budget(0.2), 0)
    assert ours == called
    assert [learns for learns, *_ in ours] == [False, True]


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (("train", "--rounds=0"), "rounds is 0; it must be at least 1"),
        (("train", "--rounds=many"), '"many"'),
        (("train", "--policy.widht=3"), "Did you mean --policy.width?"),
        (("train", "--policy.width=30"), "not a multiple of 4 heads"),
        (("train", "--episode.reward=fame"), "unknown reward 'fame'"),
        (("train", "--suite=nowhere"), "no suite 'nowhere'"),
        (("train", "--suite=MODELS"), "which devices?"),
        (("train", "--track=mlflow"), "unknown tracker 'mlflow'"),
        (("train", "--config=none.yaml"), "none.yaml cannot be read"),
        (("train", "--config=BAD"), "must hold settings"),
        (("train", "--config=TYPO"), "widht"),
        (("train", "--resume=nowhere"), "neither a run's folder nor a checkpoint"),
        (("train", "--resume=RUN/best", "--rounds=9"), "no state to resume from"),
        (("train", "--resume=RUN", "--init=RUN"), "give one of them"),
        (("train", "--init=nowhere"), "no policy there"),
        (("place", "MODEL", "-c", CLUSTER, "--placer=policy"), "graphwright train"),
        (("place", "MODEL", "-c", CLUSTER, "--policy=nowhere"), "no policy there"),
        (("place", "MODEL", "-c", CLUSTER, "--placer=magic"), "policy-untrained"),
        (("finetune", "MODEL", "-c", CLUSTER), "which policy?"),
        (("finetune", "MODEL", "-c", CLUSTER, "--policy=RUN", "--updates=0"), "at least 1"),
        (("finetune", "MODEL", "-c", CLUSTER, "--policy=RUN", "--track=wandb"), "--out"),
        (("finetune", "MODEL", "-c", CLUSTER, "--policy=RUN", "--out=RUN"), "holds a run already"),
    ],
)
def test_mistakes_get_one_line_and_exit_code_2(
    tokens: tuple[str, ...],
    said: str,
    models: Path,
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("agent.placing.registry.SHIPPED", tmp_path / "none")
    (tmp_path / "bad.yaml").write_text("- a list\n")
    (tmp_path / "typo.yaml").write_text("policy: {widht: 3}\n")
    words = {
        "MODELS": models, "MODEL": models / "wide.gwgraph", "RUN": trained,
        "BAD": "bad.yaml", "TYPO": "typo.yaml",
    }  # fmt: skip
    given = []
    for token in tokens:
        for word, value in words.items():
            if token == word or f"={word}" in token:
                token = token.replace(word, str(value))
                break
        given.append(token)
    code = run(given)
    shown = capsys.readouterr()
    assert code == 2, shown.err
    assert said in shown.err
    assert shown.err.count("\n") == 1
    assert "Traceback" not in shown.err + shown.out
    assert {path.name for path in tmp_path.iterdir()} == {"bad.yaml", "typo.yaml"}


def test_the_policy_is_what_place_uses_once_one_ships(
    trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("agent.placing.registry.SHIPPED", tmp_path / "none")
    assert default_placer() == "search"
    with pytest.raises(GraphwrightError, match="None comes with this version"):
        get_placer("policy")
    monkeypatch.setattr("agent.placing.registry.SHIPPED", trained / "best")
    assert default_placer() == "policy"
    assert getattr(get_placer("policy"), "name", "") == "policy"
