"""Names that belong together, joined pair by pair."""


class Groups:
    """Union-find over names; a name that was never joined stands alone."""

    def __init__(self) -> None:
        self.parent: dict[str, str] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.parent

    def find(self, name: str) -> str:
        """The name that stands for a name's group."""
        root = name
        while self.parent.setdefault(root, root) != root:
            root = self.parent[root]
        while self.parent[name] != root:
            self.parent[name], name = root, self.parent[name]
        return root

    def join(self, first: str, second: str) -> None:
        """Make one group of two; the first name's representative stands for both."""
        a, b = self.find(first), self.find(second)
        if a != b:
            self.parent[b] = a
