"""Errors of clusters, plans and infeasible problems."""

from graphs.errors import GraphwrightError


class ClusterError(GraphwrightError):
    """A cluster description that cannot be used."""


class PlanError(GraphwrightError):
    """A plan that does not belong to a graph and cluster, or breaks a rule."""


class OrderError(PlanError):
    """A plan whose steps come to a stop in an order: ops of a later phase wait for each other."""


class InfeasibleError(GraphwrightError):
    """No plan can satisfy the memory limits and constraints that were given."""

    exit_code = 3


class TraceError(GraphwrightError):
    """A trace file that cannot be read."""


class KernelInputError(GraphwrightError):
    """An array that a compiled kernel must not be given: it would read or write foreign memory."""
