"""Who decides: the command line, and policies with their training and use.

`train`, `fine_tune`, `load_policy` and `PolicyPlacer` are what other programs call; torch is
imported when one of them is asked for.
"""

from importlib import import_module

TYPE_CHECKING = False  # what `typing` calls so: nothing is imported before paths are settled
if TYPE_CHECKING:
    from agent.placing.finetuning import fine_tune
    from agent.placing.policy_placer import PolicyPlacer
    from agent.placing.registry import load_policy
    from agent.training.loop import pretrain as train

__all__ = ["PolicyPlacer", "fine_tune", "load_policy", "train"]

_MODULES = {
    "PolicyPlacer": ("agent.placing.policy_placer", "PolicyPlacer"),
    "fine_tune": ("agent.placing.finetuning", "fine_tune"),
    "load_policy": ("agent.placing.registry", "load_policy"),
    "train": ("agent.training.loop", "pretrain"),
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for."""
    if name not in _MODULES:
        raise AttributeError(f"module 'agent' has no attribute {name!r}")
    module, attribute = _MODULES[name]
    return getattr(import_module(module), attribute)
