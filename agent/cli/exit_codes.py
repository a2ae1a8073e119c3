"""What the exit status of the command says."""

DONE = 0
OUR_FAULT = 1
USER_MISTAKE = 2
INFEASIBLE = 3
"""No plan fits, or a measurement failed."""
INTERRUPTED = 130
"""Ctrl-C."""
TERMINATED = 143
"""SIGTERM, which schedulers and batch systems send."""
