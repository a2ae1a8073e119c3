"""Names of the table's columns, and what each is; no framework is imported for them."""

from collections.abc import Mapping
from dataclasses import dataclass

from graphs.errors import GraphwrightError
from placement.heuristics.registry import HEURISTICS
from placement.placers.registry import PLACERS

TENSORFLOW, UNTRAINED, GDP, HDP = "tensorflow", "untrained", "gdp", "hdp"
PLACETO, GIPH, DOPPLER = "placeto", "giph", "doppler"
#: Published placers that go from op to op and are known by their configuration.
PUBLISHED = (PLACETO, GIPH, DOPPLER)
GREEDY, ZERO_SHOT, FINE_TUNED = "zero-shot-greedy", "zero-shot", "fine-tuned"
ONE_SHOT, ONE_SHOT_GREEDY = "one-shot", "one-shot-greedy"
ONE_SHOT_UNTAUGHT = "one-shot-untaught"
ONE_SHOT_TUNED, ONE_SHOT_MORE = "one-shot-tuned", "one-shot-more"
#: Columns of the policy that decides a whole graph from one look (`agent.decoding.placer`).
ONE_SHOTS = (ONE_SHOT, ONE_SHOT_GREEDY, ONE_SHOT_UNTAUGHT, ONE_SHOT_TUNED, ONE_SHOT_MORE)
PORTFOLIO, SEARCH = "portfolio", "search"


@dataclass(frozen=True)
class Column:
    """What a column is."""

    about: str
    uses_policy: bool = False
    """Whether it needs a trained policy."""
    spends_budget: bool = False
    """Whether it goes on until the budget is spent."""
    on_request: bool = False
    """Whether the table has it only if it is asked for."""


#: The columns of the table unless others are asked for.
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
    PLACETO: Column(
        "Placeto-style policy that places group after group, trained on the graph from scratch",
        spends_budget=True,
        on_request=True,
    ),
    GIPH: Column(
        "GiPH-style search that relocates a group at a time, trained on the graph from scratch",
        spends_budget=True,
        on_request=True,
    ),
    DOPPLER: Column(
        "Doppler-style policies that select and place groups, taught by a critical-path heuristic, "
        "then trained on the graph",
        spends_budget=True,
        on_request=True,
    ),
    GREEDY: Column("the policy's likeliest decisions, scored once", uses_policy=True),
    ZERO_SHOT: Column(
        "the policy without learning, best of all samples", uses_policy=True, spends_budget=True
    ),
    FINE_TUNED: Column(
        "the policy with updates on the graph, as `finetune` does it; zero-shot is its control, "
        "with the same CPU seconds",
        uses_policy=True,
        spends_budget=True,
    ),
    ONE_SHOT: Column(
        "one look of the one-shot policy, the best of 64 plans, no search", on_request=True
    ),
    ONE_SHOT_GREEDY: Column("its single likeliest plan", on_request=True),
    ONE_SHOT_UNTAUGHT: Column(
        "its control: 64 plans of the same decoder with tuned weights, nothing learned",
        on_request=True,
    ),
    ONE_SHOT_TUNED: Column(
        "the one-shot policy after up to 50 updates on the graph; all its plans count",
        on_request=True,
    ),
    ONE_SHOT_MORE: Column("its control: as many plans without any update", on_request=True),
}


def column_of(name: str) -> Column:
    """A column by name; every placer of the registry makes one.

    Raises:
        GraphwrightError: no such column.
    """
    if name in COLUMNS:
        return COLUMNS[name]
    if name not in PLACERS:
        raise GraphwrightError(f"no column {name!r}; there are {', '.join(column_names())}")
    placer = PLACERS[name]
    about = (placer.__doc__ or f"the placer {name}").splitlines()[0].rstrip(".")
    return Column(about, spends_budget=name not in HEURISTICS)


def column_names() -> tuple[str, ...]:
    """All that may be asked for: the table's own columns first, then the other placers."""
    return (*COLUMNS, *(name for name in PLACERS if name not in COLUMNS))


#: What columns are where the objective is throughput, as far as they differ.
OF_PERIODS: Mapping[str, str] = {
    PORTFOLIO: "the best of all heuristics and of cuts, by its period",
    SEARCH: "the best split of a pipeline",
}

#: What is claimed, and the rivals that a policy has to beat to be of use.
CLAIMS = (ZERO_SHOT, FINE_TUNED)
RIVALS = (SEARCH, PORTFOLIO)
