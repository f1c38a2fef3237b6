"""What the networks have in common that are read from a repository of the hub or a local folder, and trained no further."""

from functools import cached_property

from ovseg.backbones.weights import name_of_weights


class Frozen:
    """A network by its source."""

    source: str

    @cached_property
    def fingerprint(self) -> str:
        """A short name for the weights, the same in every precision."""
        return name_of_weights(self.source)
