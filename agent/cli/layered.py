"""Settings of a training run in layers: flags, over a YAML file, over what is gone on from."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter, Token
from cyclopts.argument import Argument, ArgumentCollection
from cyclopts.config import Dict

from agent.config import AgentConfig, TrainConfig
from agent.runs.plain_values import to_plain
from graphs.errors import GraphwrightError


@Parameter(name="*")
@dataclass(frozen=True)
class TrainFlags(TrainConfig):
    """The settings of a run as flags: `--ppo.lr`, not `--agent.ppo.lr`."""

    agent: Annotated[AgentConfig, Parameter(name="*")] = field(default_factory=AgentConfig)

    def settings(self) -> TrainConfig:
        """The same as the rest of the project knows it."""
        return TrainConfig(**{item.name: getattr(self, item.name) for item in fields(TrainConfig)})


def layers(app: App, _commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Fill in what no flag gave: from --config, then from --resume, then from --init.

    Raises:
        GraphwrightError: a file that cannot be read, or that holds no settings.
    """
    for argument in arguments:
        spread_list(argument)
    given = {name: token_of(arguments, name) for name in ("--config", "--resume", "--init")}
    sources: list[tuple[str, Mapping[str, Any]]] = []
    if (file := given["--config"]) is not None:
        sources.append((file, read_settings(Path(file))))
    if (stored := given["--resume"]) is not None:
        from agent.runs.run_folder import find_resume

        sources.append((stored, flat(find_resume(Path(stored)).settings())))
    if (start := given["--init"]) is not None:
        from agent.placing.registry import load_policy

        network = to_plain(load_policy(Path(start)).config.policy)
        sources.append((start, {"policy": network}))
    for source, values in sources:
        # No commands: their names, `clusters` among them, would not count as settings.
        Dict(dict(values), source=source)(app, (), arguments)


def read_settings(path: Path) -> Mapping[str, Any]:
    """The settings of a YAML file, nested as flags are or as a run stores them.

    Raises:
        GraphwrightError: it cannot be read, or holds no mapping.
    """
    import yaml

    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise GraphwrightError(f"{path} cannot be read ({' '.join(str(error).split())})") from error
    if not isinstance(settings, dict) or not all(isinstance(key, str) for key in settings):
        raise GraphwrightError(f"{path} must hold settings, such as `rounds: 100`")
    return flat(settings)


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without the level `agent`, which flags do not have."""
    rest = dict(values)
    agent = rest.pop("agent", {})
    if not isinstance(agent, Mapping):
        raise GraphwrightError(f"agent is {agent!r}; it is a group of settings")
    return {**agent, **rest}


def token_of(arguments: ArgumentCollection, name: str) -> str | None:
    """What was given with a flag; None where it was left out."""
    argument = arguments.match(name)[0]
    return argument.tokens[0].value if argument.tokens else None


def spread_list(argument: Argument) -> None:
    """Take apart `--policy.tasks=['placement', 'fusion']`, as W&B's sweeps write lists of text."""
    if argument.hint != tuple[str, ...] or len(argument.tokens) != 1:
        return
    token = argument.tokens[0]
    if not token.value.startswith("["):
        return
    try:
        values = ast.literal_eval(token.value)
    except (ValueError, SyntaxError):
        return
    argument.tokens.clear()
    for index, value in enumerate(values):
        argument.tokens.append(
            Token(keyword=token.keyword, value=str(value), source=token.source, index=index)
        )
