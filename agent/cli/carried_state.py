"""Models that hand state from one step to the next: what is said of them where steps overlap."""

from collections.abc import Sequence
from pathlib import Path

from graphs.file_presence import is_file


def state_between_steps(model: str) -> Sequence[tuple[str, str]]:
    """Inputs of an ONNX model that are outputs of the step before in real use, with these outputs.

    Such as attention's keys and values, or what a recurrent net holds; nothing for other models.
    """
    if Path(model).suffix.lower() != ".onnx" or not is_file(model):
        return ()
    import onnx

    from placement.runtime.ort.feeds import carried_state

    graph = onnx.load(model, load_external_data=False).graph
    weights = {item.name for item in graph.initializer}
    inputs = [item.name for item in graph.input if item.name not in weights]
    return carried_state(inputs, [item.name for item in graph.output])


def state_text(state: Sequence[tuple[str, str]]) -> str:
    """What overlapping steps mean for a model with such state."""
    taken, made = state[0]
    return (
        f"{len(state)} inputs carry state from step to step in real use ({made!r} would be "
        f"{taken!r} of the next step): steps of one sequence wait for each other and do not "
        "overlap; what overlaps here are steps of different sequences, each with state of its own"
    )
