"""Tied parameters, of which torch's joint programs know one name only."""

from torch import nn


def register_once(root: nn.Module) -> None:
    """Keep the first of a tied parameter's names; the other modules read it from there.

    A joint program counts each name as a parameter, and fails where one has no gradient.
    """
    homes: dict[int, tuple[nn.Module, str]] = {}
    for module in root.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is None:
                continue
            if id(parameter) not in homes:
                homes[id(parameter)] = (module, name)
                continue
            del module._parameters[name]
            _read_from(module, name, *homes[id(parameter)])


def _read_from(module: nn.Module, name: str, owner: nn.Module, its_name: str) -> None:
    kind = type(module)
    shared = property(lambda _: getattr(owner, its_name))
    module.__class__ = type(kind.__name__, (kind,), {name: shared})
