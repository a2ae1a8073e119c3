"""What the exit status of the command says."""

DONE = 0
OUR_FAULT = 1
USER_MISTAKE = 2
INFEASIBLE = 3
"""No plan fits, or a measurement failed."""
INTERRUPTED = 130
