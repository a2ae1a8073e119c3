"""Configurations to and from plain values: nothing lost, nothing unknown taken."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import yaml

from agent.config import AgentConfig, EpisodeConfig, TrainConfig
from agent.learning.config import SampleConfig
from agent.runs.plain_values import from_plain, to_plain
from graphs.errors import GraphwrightError


@pytest.mark.parametrize("write", [json.dumps, yaml.safe_dump])
def test_a_configuration_survives_json_and_yaml(write: Callable[[Any], str]) -> None:
    agent = replace(
        AgentConfig(),
        sample=SampleConfig(samples=7, moves=(3,)),
        episode=EpisodeConfig(group_sizes=()),
    )
    config = TrainConfig(agent=agent, clusters=("a", "b"), rounds=9)
    assert from_plain(TrainConfig, yaml.safe_load(write(to_plain(config)))) == config


def test_what_is_left_out_keeps_its_default() -> None:
    assert from_plain(TrainConfig, {}) == TrainConfig()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"roundz": 3}, "unknown setting roundz"),
        (
            {"agent": {"ppo": {"learning_rate": 1}}},
            "unknown setting agent.ppo.learning_rate",
        ),
        ({"agent": {"ppo": 3}}, "agent.ppo is 3; it is a group of settings"),
        ({"rounds": "many"}, "rounds is 'many'; it must be a whole number"),
        ({"rounds": True}, "rounds is True; it must be a whole number"),
        ({"rounds": 2.5}, "rounds is 2.5; it must be a whole number"),
        ({"compile": "yes"}, "compile is 'yes'; it must be true or false"),
        ({"clusters": "4xv100-pcie"}, "clusters is '4xv100-pcie'; it must be a list"),
        ({"agent": {"sample": {"moves": [1, "x"]}}}, "agent.sample.moves is 'x'"),
        ({"rounds": 0}, "rounds is 0; it must be at least 1"),
    ],
)
def test_mistakes_name_their_path(values: dict[str, object], said: str) -> None:
    with pytest.raises(GraphwrightError, match=said):
        from_plain(TrainConfig, values)


def test_whole_numbers_are_numbers() -> None:
    assert from_plain(TrainConfig, {"agent": {"ppo": {"lr": 1}}}).agent.ppo.lr == 1.0
