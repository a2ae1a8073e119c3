"""Damage to values of JSON and YAML, where they stand."""

import json
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from random import Random
from typing import Any

from .mutate_bytes import FLOATS, INTEGERS, TEXTS, mutate_bytes

#: How a document becomes values, and values a document.
Codec = tuple[Callable[[bytes], Any], Callable[[Any], bytes]]

JSON: Codec = (json.loads, lambda value: json.dumps(value).encode())


def document_mutator(codec: Codec = JSON) -> Callable[[bytes, Sequence[bytes], Random], bytes]:
    """A mutator of documents; what is no document any more is damaged as bytes."""
    parse, write = codec

    def mutate(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
        if random.random() < 0.1:
            return mutate_bytes(data, others, random)
        try:
            document = parse(data)
            other = parse(random.choice(others))
        except (ValueError, RecursionError):
            return mutate_bytes(data, others, random)
        for _ in range(random.choice((1, 1, 1, 2, 4))):
            document = mutate_value(document, other, random)
        try:
            return write(document)
        except (ValueError, RecursionError):
            return mutate_bytes(data, others, random)

    return mutate


def mutate_value(document: Any, other: Any, random: Random) -> Any:
    """One change somewhere in a document; `other` lends parts."""
    places = list(_places(document))
    if not places:
        return deepcopy(random.choice(list(_parts(other, random))))
    holder, key = random.choice(places)
    value = holder[key]
    match random.randrange(10):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, list):
            holder.insert(random.randrange(len(holder) + 1), deepcopy(value))
        case 1:
            holder[random.choice((*TEXTS, *map(str, holder)))] = holder.pop(key)
        case 2:
            second, place = random.choice(places)
            if place in second if isinstance(second, dict) else place < len(second):
                given = deepcopy(second[place])
                if isinstance(holder, dict) or key < len(holder):
                    holder[key] = given
        case 3:
            holder[key] = deepcopy(random.choice(list(_parts(other, random))))
        case 4:
            holder[key] = random.choice(([value], {"x": value}, [], {}, None, True, [value] * 40))
        case 5 if isinstance(value, list):
            random.shuffle(value)
        case _:
            holder[key] = _another(value, random)
    return document


def _another(value: Any, random: Random) -> Any:
    """A value of the same kind as a rule."""
    kinds = ("number", "figure", "text")
    kind = random.choice(kinds)
    if random.random() < 0.7:
        if isinstance(value, str):
            kind = "text"
        elif isinstance(value, int | float):
            kind = random.choice(kinds[:2])
    if kind == "text":
        word = random.choice(TEXTS)
        return (
            random.choice((word, f"{value}{word}", str(value)[:-1]))
            if isinstance(value, str)
            else word
        )
    if kind == "figure":
        return random.choice(FLOATS)
    near = value + random.choice((-1, 1)) if isinstance(value, int) else 0
    return random.choice((*INTEGERS, near, near))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """All values of a document, by what holds them and where."""
    waiting = [value]
    while waiting:
        holder = waiting.pop()
        if isinstance(holder, dict | list):
            keys = list(holder) if isinstance(holder, dict) else range(len(holder))
            for key in keys:
                yield holder, key
                waiting.append(holder[key])


def _parts(value: Any, random: Random) -> Iterator[Any]:
    """The document, and a few values of it."""
    yield value
    places = list(_places(value))
    for holder, key in random.sample(places, min(len(places), 8)):
        yield holder[key]
