"""Names of the table's columns, and what each is; no framework is imported for them."""

from collections.abc import Mapping
from dataclasses import dataclass

TENSORFLOW, UNTRAINED, GDP, HDP = "tensorflow", "untrained", "gdp", "hdp"
GREEDY, ZERO_SHOT, FINE_TUNED = "zero-shot-greedy", "zero-shot", "fine-tuned"
PORTFOLIO, SEARCH = "portfolio", "search"


@dataclass(frozen=True)
class Column:
    """What a column is."""

    about: str
    uses_policy: bool = False
    """Whether it needs a trained policy."""
    spends_budget: bool = False
    """Whether it goes on until the budget is spent."""


COLUMNS: Mapping[str, Column] = {
    TENSORFLOW: Column("TensorFlow's default: the first accelerator, first come first served"),
    "single": Column("the best single device"),
    "human-expert": Column("contiguous layers"),
    "metis": Column("METIS"),
    "heft": Column("HEFT"),
    PORTFOLIO: Column("the best of all heuristics"),
    SEARCH: Column("annealing from the portfolio's plan", spends_budget=True),
    UNTRAINED: Column("the policy's loop with an untrained network", spends_budget=True),
    GDP: Column("GDP-style policy trained on the graph from scratch", spends_budget=True),
    HDP: Column("HDP-style grouper and placer, trained from scratch", spends_budget=True),
    GREEDY: Column("the policy's likeliest decisions, scored once", uses_policy=True),
    ZERO_SHOT: Column(
        "the policy without learning, best of all samples", uses_policy=True, spends_budget=True
    ),
    FINE_TUNED: Column(
        "the policy after updates on the graph", uses_policy=True, spends_budget=True
    ),
}

#: What is claimed, and the rivals that a policy has to beat to be of use.
CLAIMS = (ZERO_SHOT, FINE_TUNED)
RIVALS = (SEARCH, PORTFOLIO)
