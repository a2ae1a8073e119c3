"""What a team would do instead of placing ops: estimates, to be held against every plan."""

from placement.rivals.rival import Rival, rivals_of

__all__ = ["Rival", "rivals_of"]
