"""Suites: named lists of placement problems, for training and for judging placers."""

from placement.suites.catalogue import SUITES, get_suite
from placement.suites.folder import suite_from_folder
from placement.suites.pair import Headroom, Pair, Suite

__all__ = ["SUITES", "Headroom", "Pair", "Suite", "get_suite", "suite_from_folder"]
