"""How long a search may take, and on how many cores: `--budget`, `--wall` and `--jobs`."""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cyclopts import Parameter

from agent.cli.options import read_seconds
from graphs.errors import GraphwrightError

if TYPE_CHECKING:
    from agent.placing.policy_placer import PolicyPlacer
    from placement.placer import Placer


@Parameter(name="*")
@dataclass(frozen=True)
class SearchTime:
    """How long a search takes."""

    budget: str | None = None
    """CPU time for search, such as 30s or 5min, of all --jobs together; 30s where neither this nor
    --wall is given, simplifying included. What start-up, import and files take comes on top and is
    shown."""
    wall: str | None = None
    """Instead of --budget: time for search by the clock, which is what you wait for."""
    jobs: int = 1
    """Chains of the search that run at once, each in a process of its own, and share the best
    plan; for the placers search and policy."""

    @property
    def seconds(self) -> float:
        """Of CPU time, or by the clock.

        Raises:
            GraphwrightError: no duration, or both flags.
        """
        if self.wall is None:
            return read_seconds("30s" if self.budget is None else self.budget, "--budget")
        if self.budget is not None:
            raise GraphwrightError(
                f"--budget {self.budget} counts CPU seconds and --wall {self.wall} the clock's: "
                "give one of them"
            )
        return read_seconds(self.wall, "--wall")

    @property
    def by_the_clock(self) -> bool:
        return self.wall is not None

    def refuse_for_throughput(self) -> None:
        """Raise where a flag is given that the search for throughput does not know.

        Raises:
            GraphwrightError: --wall, or several --jobs.
        """
        if self.wall is not None or self.jobs != 1:
            raise GraphwrightError(
                "--objective throughput searches in one process for CPU seconds: leave out --jobs, "
                "and give --budget instead of --wall"
            )

    def at_once(self, name: str, decide: "Placer", opened: ExitStack) -> "Placer":
        """The placer with so many chains at once, whose processes are started.

        Args:
            name: of the placer.
            opened: ends the processes.

        Raises:
            GraphwrightError: a placer that has no chains.
        """
        if self.jobs < 1:
            raise GraphwrightError(f"--jobs {self.jobs}: give at least 1")
        if self.jobs == 1:
            return decide
        from placement.chains.chain_team import ProcessTeam
        from placement.placers.search import search
        from placement.placers.shared_search import SharedSearch

        policy = _guiding(decide) if name == "policy" else None
        if policy is None and decide is not search:
            raise GraphwrightError(
                f"--jobs {self.jobs} is for the placers search and policy, without --fuse: leave "
                "it out"
            )
        # They load kernels while this process reads the model.
        team = opened.enter_context(ProcessTeam(self.jobs))
        if policy is None:
            return SharedSearch(self.jobs, make_team=lambda problem, _: team.opened(problem))
        from agent.placing.shared_policy_placer import SharedPolicyPlacer

        return SharedPolicyPlacer(
            policy, self.jobs, make_team=lambda problem, _: team.opened(problem)
        )


def _guiding(decide: "Placer") -> "PolicyPlacer | None":
    """The policy of a placer that has one."""
    from agent.placing.policy_placer import PolicyPlacer

    return decide if isinstance(decide, PolicyPlacer) else None
