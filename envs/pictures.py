"""How pictures are drawn: alike everywhere, whatever settings lie about.

matplotlib reads a file `matplotlibrc` of the current folder, which may come with a model: it could
have texts set by LaTeX, or change what a picture shows.
"""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Drawn = TypeVar("Drawn")


def drawn_alike(draw: Callable[Given, Drawn]) -> Callable[Given, Drawn]:
    """A function that draws with matplotlib's own defaults; the caller's settings stay."""

    @wraps(draw)
    def drawing(*args: Given.args, **kwargs: Given.kwargs) -> Drawn:
        from matplotlib import style

        with style.context("default", after_reset=True):
            return draw(*args, **kwargs)

    return drawing
