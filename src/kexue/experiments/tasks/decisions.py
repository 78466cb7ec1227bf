"""What a rule of the ledger makes of recorded numbers."""

from typing import Any, NamedTuple


class Decision(NamedTuple):
    """The arguments of a chapter's `verdict`."""

    holds: bool | None
    """None where the rule leaves it open."""
    restricted: bool
    """Read where `holds` is False."""
    measured: dict[str, Any]
    """The first is shown beside the verdict: a comparison."""
