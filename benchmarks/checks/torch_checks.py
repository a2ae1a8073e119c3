"""Flops of a torch.export program by torch's own counter."""

from collections.abc import Mapping
from pathlib import Path


def counted_flops(path: Path, dims: Mapping[str, int]) -> float:
    """Flops of the program on the inputs that it was exported with: products and convolutions."""
    del dims
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    program = torch.export.load(path)
    arguments, keywords = program.example_inputs or ((), {})
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        program.module()(*arguments, **keywords)
    return float(counter.get_total_flops())
