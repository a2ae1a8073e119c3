"""Errors of environments."""

from graphs.errors import GraphwrightError


class EpisodeError(GraphwrightError):
    """An environment that is asked for with settings that do not go together."""


class ActionError(GraphwrightError):
    """An action of another shape or range than the action space has."""
