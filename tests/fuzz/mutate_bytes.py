"""Damage to bytes and to text, whatever they mean."""

from collections.abc import Sequence
from random import Random

#: Where 32, 48 and 64 bits end, and what counts as nothing.
INTEGERS = (
    0, 1, -1, 2, 3, 7, 31, 32, 127, 128, 255, 256, 65535, 65536, 10**6, 2**31 - 1, 2**31, -(2**31),
    2**32, 2**40, 2**48, 2**48 + 1, 2**53, 2**53 + 1, 2**62, 2**63 - 1, -(2**63), 2**63, 2**64,
    10**30,
)  # fmt: skip
FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-300, 1e18, 1e30, 1e300, float("inf"), float("-inf"),
          float("nan"))  # fmt: skip
TEXTS = (
    "", " ", "0", "-1", "None", "nan", "inf", "1e400", "x", "\0", "\n", "\x1b[2J", "\u202e",
    "\ud800",
    "../../etc/passwd", "/dev/zero", "a" * 3000, "(" * 300, "9" * 400, "9**9**9", "((9**8)**8)**8",
    "%s%n", "batch", "float32", "é",
)  # fmt: skip


def mutate_bytes(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    """Flip, drop, repeat, overwrite or splice a few stretches."""
    value = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        size = len(value)
        at = random.randrange(size + 1)
        length = min(random.choice((1, 1, 2, 4, 8, 64, 1024)), size - at)
        match random.randrange(7):
            case 0 if at < size:
                value[at] ^= 1 << random.randrange(8)
            case 1:
                del value[at : at + length]
            case 2:
                value[at:at] = value[at : at + length] * random.choice((1, 1, 2, 16))
            case 3:
                number = random.choice(INTEGERS) & (2**64 - 1)
                value[at : at + length] = number.to_bytes(8, "little")[:length]
            case 4:
                value[at:at] = random.randbytes(random.choice((1, 4, 16)))
            case 5:
                other = random.choice(others)
                start = random.randrange(len(other) + 1)
                value[at : at + length] = other[start : start + random.choice((4, 64, 1024))]
            case _:
                del value[at:]
    return bytes(value)


def mutate_text(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    """Damage words and lines; now and then bytes."""
    if random.random() < 0.15:
        return mutate_bytes(data, others, random)
    lines = data.decode("utf-8", "replace").split("\n")
    for _ in range(random.choice((1, 1, 2, 4))):
        at = random.randrange(len(lines)) if lines else 0
        match random.randrange(6):
            case 0 if lines:
                del lines[at]
            case 1 if lines:
                lines.insert(at, lines[random.randrange(len(lines))])
            case 2:
                other = random.choice(others).decode("utf-8", "replace").split("\n")
                lines.insert(at, random.choice(other))
            case _ if lines:
                words = lines[at].split(" ")
                word = random.randrange(len(words))
                new = random.choice((str(random.choice(INTEGERS)), random.choice(TEXTS), "NV99"))
                words[word] = random.choice((new, words[word] + new, words[word][:-1]))
                lines[at] = " ".join(words)
    return "\n".join(lines).encode("utf-8", "surrogatepass")
