"""Who made the plan: placers, constraints, search; plans on disk."""

from placement.constraints import ConstraintError, Constraints, load_constraints
from placement.place import Placement, place, place_problem
from placement.placer import Budget, Candidate, Placed, Placer
from placement.placers.registry import PLACERS, get_placer
from placement.plan_file import PlanDocument, read_plan, write_plan
from placement.problem import Problem

__all__ = [
    "PLACERS",
    "Budget",
    "Candidate",
    "ConstraintError",
    "Constraints",
    "Placed",
    "Placement",
    "Placer",
    "PlanDocument",
    "Problem",
    "get_placer",
    "load_constraints",
    "place",
    "place_problem",
    "read_plan",
    "write_plan",
]
