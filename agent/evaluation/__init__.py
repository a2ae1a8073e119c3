"""One table of everything that places: heuristics, search, trained policies and their controls."""
