"""All heuristics by name; the portfolio runs every one of them."""

from placement.heuristics.placements import (
    HeuristicPlacer,
    eft_grid,
    heft,
    human_expert,
    layers_balanced,
    m_etf,
    m_sct,
    metis_all,
    metis_subsets,
    round_robin,
    single_device,
)

#: In the order in which the portfolio runs them.
HEURISTICS: dict[str, HeuristicPlacer] = {
    "single": HeuristicPlacer(single_device),
    "round-robin": HeuristicPlacer(round_robin),
    "human-expert": HeuristicPlacer(human_expert),
    "layers": HeuristicPlacer(layers_balanced),
    "metis": HeuristicPlacer(metis_all),
    "metis-subsets": HeuristicPlacer(metis_subsets),
    "heft": HeuristicPlacer(heft),
    "eft": HeuristicPlacer(eft_grid),
    "m-etf": HeuristicPlacer(m_etf),
    "m-sct": HeuristicPlacer(m_sct),
}
