"""Libraries that report what they are used for are told not to, before any of them is loaded.

onnxruntime (from 1.29 on) sends names of models, hashes of their weights and an identifier of the
machine to its maker unless it is told otherwise, and Ray counts its uses. What a user of
graphwright plans for is nobody else's business. A variable that is set already is left as it is, so
that whoever wants to report can. W&B sends what the user asked it to (`agent.runs.tracking`).
"""

import os

#: Variables that turn reports off, by name.
REPORTS_OFF = {"ORT_DISABLE_TELEMETRY": "1", "RAY_USAGE_STATS_ENABLED": "0"}


def turn_reports_off() -> None:
    """Set the variables, for this process and those that it starts."""
    for name, value in REPORTS_OFF.items():
        os.environ.setdefault(name, value)
