"""A job without work, where other processes can import it from."""


class Empty:
    """Does nothing."""

    def __call__(self, task: int) -> int:
        """The task itself."""
        return task
