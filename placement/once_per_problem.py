"""Figures that several placers ask for and that a problem alone decides are worked out once."""

from collections.abc import Callable
from functools import wraps
from typing import TypeVar
from weakref import WeakKeyDictionary

from placement.problem import Problem

Figures = TypeVar("Figures")


def once_per_problem(work_out: Callable[[Problem], Figures]) -> Callable[[Problem], Figures]:
    """Keep what a function makes of a problem for as long as the problem is there.

    Problems never change. What is kept is handed to everybody, and must not be written to.
    """
    kept: WeakKeyDictionary[Problem, Figures] = WeakKeyDictionary()

    @wraps(work_out)
    def kept_or_worked_out(problem: Problem) -> Figures:
        if problem not in kept:
            kept[problem] = work_out(problem)
        return kept[problem]

    return kept_or_worked_out
