"""Makes text of unknown origin fit to be shown: what cannot be seen is written out.

Names in a model may hold anything: escape sequences that repaint a terminal, marks that turn the
direction of writing, line breaks that imitate other output. Whatever shows text passes it through
here, at the place where it leaves the program.
"""


def visible(text: str) -> str:
    """One line in which every character can be seen; others are written as Python escapes.

    Line breaks count among those: text of several lines goes through here line by line.

    Example:
        >>> visible("relu\\x1b[2J")
        'relu\\\\x1b[2J'
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else _escape(sign) for sign in text)


def visible_in_picture(text: str) -> str:
    """The same for matplotlib, which takes what stands between dollar signs for a formula."""
    return visible(text).replace("$", r"\$")


def _escape(sign: str) -> str:
    return sign.encode("unicode_escape").decode("ascii")
