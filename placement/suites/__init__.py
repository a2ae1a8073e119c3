"""Suites: named lists of placement problems, for training and for judging placers."""

from placement.suites.added import added_suites
from placement.suites.catalogue import SUITES, get_suite
from placement.suites.families import of_families
from placement.suites.folder import suite_from_folder
from placement.suites.pair import Headroom, Pair, Suite
from placement.suites.pin import Pin
from placement.suites.pinning import check_pins, pin_suite, pinned_names
from placement.suites.suite_file import read_suite, suite_text

__all__ = [
    "SUITES",
    "Headroom",
    "Pair",
    "Pin",
    "Suite",
    "added_suites",
    "check_pins",
    "get_suite",
    "of_families",
    "pin_suite",
    "pinned_names",
    "read_suite",
    "suite_from_folder",
    "suite_text",
]
