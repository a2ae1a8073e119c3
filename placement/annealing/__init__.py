"""Search by moves of groups of ops, compiled together with the event engine."""
