"""Flops of a torch.export program by torch's own counter."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def counted_flops(path: Path, dims: Mapping[str, int]) -> float:
    """Flops of the program on the inputs that it was exported with: products, convolutions and
    attention, of which torch itself does not count the CPU's kernel."""
    del dims
    import torch
    from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

    def attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return int(sdpa_flop_count(query, key, value))

    on_cpu = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}

    program = torch.export.load(path)
    arguments, keywords = program.example_inputs or ((), {})
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=on_cpu) as counter:
        program.module()(*arguments, **keywords)
    return float(counter.get_total_flops())
