"""What a slot of the second phase teaches: moves that are tried at plans which search meets."""

from agent.learning.outcomes import Outcomes, anneal_from, try_moves
from agent.training.slots import Slot, SlotJob


class Trials(SlotJob[tuple[Outcomes, ...]]):
    """The outcomes of each step of a slot's episode; no network has a say in them."""

    def work_out(self, slot: Slot) -> tuple[Outcomes, ...]:
        """Try moves, search on from there, and so on."""
        agent, state = self.config.agent, self.starts.draw(slot.round, slot.number)
        steps: list[Outcomes] = []
        for step in range(agent.episode.steps):
            rng = self.generator(slot, step)
            steps.append(try_moves(state, agent.policy.reads_trace, agent.outcomes, rng))
            if step + 1 < agent.episode.steps:
                state = anneal_from(state, agent.outcomes, rng)
        return tuple(steps)

    def cost(self, slot: Slot) -> float:
        """The graph's ops: as many moves are tried of each graph."""
        return self.starts.asked(slot.round, slot.number)[0]
