"""Damage to protobuf messages, field by field as their descriptors say."""

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError

from .mutate_bytes import FLOATS, INTEGERS, TEXTS, mutate_bytes

_BITS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
#: A larger message is damaged in its first fields only.
_MOST_PLACES = 20_000


def message_mutator(kind: Any) -> Callable[[bytes, Sequence[bytes], Random], bytes]:
    """A mutator of serialized messages of one class."""

    def mutate(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
        if random.random() < 0.05:
            return mutate_bytes(data, others, random)
        message = kind()
        try:
            message.ParseFromString(data)
            for _ in range(random.choice((1, 1, 1, 2, 4, 8))):
                mutate_message(message, random)
            return message.SerializeToString()
        except (DecodeError, ValueError):
            return mutate_bytes(data, others, random)

    return mutate


def mutate_message(message: Any, random: Random) -> None:
    """One change of a field somewhere in a message."""
    places = list(_places(message))
    if not places:
        return
    holder, field = random.choice(places)
    if random.random() < 0.1:  # a field that is not there yet
        field = random.choice(holder.DESCRIPTOR.fields)
    if _is_map(field):
        _mutate_map(getattr(holder, field.name), field, random)
    elif field.is_repeated:
        _mutate_list(getattr(holder, field.name), field, places, random)
    elif random.random() < 0.2:
        holder.ClearField(field.name)
    elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        _lend(getattr(holder, field.name), places, random)
    else:
        setattr(holder, field.name, _value(getattr(holder, field.name), field, places, random))


def _mutate_list(values: Any, field: Any, places: list[Any], random: Random) -> None:
    is_message = field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE
    size = len(values)
    at = random.randrange(size) if size else 0
    match random.randrange(6):
        case 0 if size:
            del values[at]
        case 1 if size and is_message:
            values.add().CopyFrom(values[at])
        case 1 if size:
            values.extend([values[at]] * random.choice((1, 1, 2, 100)))
        case 2 if size > 1:
            other = random.randrange(size)
            if is_message:
                kept = type(values[at])()
                kept.CopyFrom(values[at])
                values[at].CopyFrom(values[other])
                values[other].CopyFrom(kept)
            else:
                values[at], values[other] = values[other], values[at]
        case 3 if size:
            del values[random.randrange(size) :]
        case _ if is_message:
            _lend(values[at] if size and random.random() < 0.7 else values.add(), places, random)
        case _ if size and random.random() < 0.7:
            values[at] = _value(values[at], field, places, random)
        case _:
            values.append(_value(values[at] if size else _empty(field), field, places, random))


def _mutate_map(values: Any, field: Any, random: Random) -> None:
    keys = sorted(values)
    if not keys:
        return
    kind = field.message_type.fields_by_name["value"]
    is_message = kind.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE
    key, other = random.choice(keys), random.choice(keys)
    match random.randrange(3):
        case 0:
            del values[key]
        case 1 if is_message:
            values[key].CopyFrom(values[other])
        case 1:
            values[key] = values[other]
        case _ if isinstance(key, str) and is_message:
            values[random.choice(TEXTS[:6])].CopyFrom(values[key])


def _lend(message: Any, places: list[Any], random: Random) -> None:
    """Make a message what another of its kind is, or empty."""
    same = [holder for holder, _ in places if holder.DESCRIPTOR is message.DESCRIPTOR]
    if same and random.random() < 0.8:
        kept = type(message)()
        kept.CopyFrom(random.choice(same))
        message.CopyFrom(kept)
    else:
        message.Clear()
        message.SetInParent()


def _value(value: Any, field: Any, places: list[Any], random: Random) -> Any:
    """Another value of a scalar field."""
    if field.cpp_type in _BITS:
        low, high = _BITS[field.cpp_type]
        fitting = [number for number in INTEGERS if low <= number <= high]
        near = min(max(value + random.choice((-1, 1)), low), high)
        return random.choice((*fitting, near, near, near))
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_ENUM:
            known = [item.number for item in field.enum_type.values]
            return random.choice((*known, 99))
        case FieldDescriptor.CPPTYPE_BOOL:
            return not value
        case FieldDescriptor.CPPTYPE_STRING:
            return _text(value, field, places, random)
        case _:
            return random.choice(FLOATS[:8] if field.cpp_type == 6 else FLOATS)


def _text(value: Any, field: Any, places: list[Any], random: Random) -> Any:
    """Another text: a strange one, or one that stands somewhere else."""
    is_bytes = field.type == FieldDescriptor.TYPE_BYTES
    if is_bytes and random.random() < 0.5:
        return mutate_bytes(bytes(value), [bytes(value)], random)
    elsewhere: list[str] = []
    for holder, other in random.sample(places, min(len(places), 40)):
        if other.type == FieldDescriptor.TYPE_STRING:
            found = getattr(holder, other.name)
            texts = [found] if isinstance(found, str | bytes) else list(found)[:4]
            elsewhere.extend(text for text in texts if isinstance(text, str))
    choices = [text for text in (*TEXTS, *elsewhere, *elsewhere) if text.isascii() or not is_bytes]
    text = random.choice([item for item in choices if item != "\ud800"])
    return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text


def _empty(field: Any) -> Any:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return b"" if field.type == FieldDescriptor.TYPE_BYTES else ""
        case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
            return 0.0
        case FieldDescriptor.CPPTYPE_BOOL:
            return False
    return 0


def _is_map(field: Any) -> bool:
    return (
        field.message_type is not None
        and field.message_type.has_options
        and field.message_type.GetOptions().map_entry
    )


def _places(message: Any) -> Iterator[tuple[Any, Any]]:
    """All fields that are set, of the message and of those within, outermost first."""
    waiting, count = [message], 0
    while waiting:
        holder = waiting.pop(0)
        for field, value in holder.ListFields():
            count += 1
            if count > _MOST_PLACES:
                return
            yield holder, field
            if _is_map(field):
                kind = field.message_type.fields_by_name["value"]
                if kind.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
                    waiting.extend(value[key] for key in sorted(value))
            elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
                waiting.extend(value if field.is_repeated else [value])
