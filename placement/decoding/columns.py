"""What the decoder sees of each device when it is to choose one: names of the columns, in order."""

DECISION_COLUMNS = (
    "lateness", "sending", "pushing", "link_wait", "device_free", "idle", "work", "room", "need",
    "has_critical_input", "input_bytes", "input_count", "is_used", "is_before", "is_after", "pace",
    "first_use", "progress", "seconds", "is_earliest", "is_hinted", "neighbours_here", "has_hint",
)  # fmt: skip
