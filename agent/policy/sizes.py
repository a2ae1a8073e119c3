"""What the sizes of a network may be."""

from graphs.errors import GraphwrightError

#: A wider or deeper network is a mistake, or somebody's attempt to fill the memory.
WIDEST, MOST_LAYERS = 1 << 14, 64


def check_sizes(settings: object, widths: tuple[str, ...], layers: tuple[str, ...]) -> None:
    """Hold settings that are widths, and those that are numbers of layers, to what is sensible.

    Raises:
        GraphwrightError: a width that is not from 1 to 16384, or layers not from 0 to 64.
    """
    for names, least, most in ((widths, 1, WIDEST), (layers, 0, MOST_LAYERS)):
        for name in names:
            value = getattr(settings, name)
            for size in value if isinstance(value, tuple) else (value,):
                if not least <= size <= most:
                    raise GraphwrightError(f"{name} is {size}; give {least} to {most}")
