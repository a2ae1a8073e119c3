"""Errors that are the user's to mend, and the one base that all of them share."""


class GraphwrightError(Exception):
    """Something the user gave cannot be used.

    The message says what was given, what is allowed and what to do next; the command line
    prints it without a traceback and exits with `exit_code`.
    """

    exit_code = 2


class ModelError(GraphwrightError):
    """A model file or an in-memory model that cannot become a `Graph`."""


class GraphError(GraphwrightError):
    """Arrays that do not form a valid `Graph`, or a graph file that cannot be read."""
