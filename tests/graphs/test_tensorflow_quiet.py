"""TensorFlow's start-up messages stay off the terminal, other messages do not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from graphs.importers.tensorflow_models.quiet import without_chatter

CHATTER = (
    b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
    b"I0000 00:00:1.0 1 port.cc:153] oneDNN custom operations are on.\n"
    b"To enable the following instructions: AVX2, rebuild TensorFlow.\n"
)


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As if TensorFlow were not imported yet and the user had set nothing."""
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "")
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    return monkeypatch


def test_chatter_is_kept_back_and_trouble_is_not(
    unloaded: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with without_chatter():
        os.write(2, CHATTER + b"libcudart is broken\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "libcudart is broken\nafter\n"


def test_trouble_is_shown_when_the_import_fails(
    unloaded: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ImportError), without_chatter():
        os.write(2, CHATTER + b"a library is missing\n")
        raise ImportError("tensorflow")
    assert capfd.readouterr().err == "a library is missing\n"


def test_a_level_that_the_user_sets_counts(
    unloaded: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    unloaded.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    with without_chatter():
        os.write(2, CHATTER)
    assert capfd.readouterr().err.encode() == CHATTER
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"


def test_loading_a_model_says_nothing(tmp_path: Path) -> None:
    import tensorflow as tf

    live = tf.Graph()
    with live.as_default():
        tf.tanh(tf.compat.v1.placeholder(tf.float32, (2, 3), "x"), name="y")
    (tmp_path / "model.pb").write_bytes(live.as_graph_def().SerializeToString())
    code = "import graphs, sys; graphs.load(sys.argv[1])"
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model.pb")],
        check=True, capture_output=True, text=True, env=environment,
    )  # fmt: skip
    assert done.stderr == ""
