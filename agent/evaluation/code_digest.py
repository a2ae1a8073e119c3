"""Digests of code, for placers whose name does not say what they are made of."""

import hashlib
import inspect
from pathlib import Path

import placement
from placement.placer import Placer


def code_digest(placer: Placer) -> str:
    """Sixteen hexadecimal digits of a placer's module, and of all that placers are made of."""
    module = inspect.getmodule(placer if inspect.isroutine(placer) else type(placer))
    own = Path(str(module.__file__)) if module is not None and module.__file__ else None
    state = hashlib.blake2b(placement_code(), digest_size=8)
    if own is not None:
        state.update(own.name.encode())
        state.update(own.read_bytes())
    return state.hexdigest()


def placement_code() -> bytes:
    """Digest of all that placers are made of."""
    root = Path(str(placement.__file__)).parent
    state = hashlib.blake2b(digest_size=8)
    for file in sorted(root.rglob("*.py")):
        state.update(file.name.encode())
        state.update(file.read_bytes())
    return state.digest()
