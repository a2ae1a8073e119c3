"""Why a plan cannot take a form."""

from graphs.errors import GraphwrightError


class ExportError(GraphwrightError):
    """The model, the plan and the form asked for do not go together."""
