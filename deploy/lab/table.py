"""The table *who could see what*, and what has to be true of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .search import Sight

HEADINGS = ("", "initiator's address", "responder's address", "inner bytes", "datagram sizes", "path")


@dataclass(frozen=True)
class Row:
    """One place: what was seen there, and which AINs it cannot but know (a link's ends, a node and its neighbours)."""

    sight: Sight
    own: frozenset[str]
    nodes: tuple[str, ...]

    @property
    def path(self) -> str:
        """How much of the path showed: all of it, or no more than what is next to this place."""
        seen = {node for node in self.nodes if self.sight.sees(node)}
        if seen <= self.own:
            return "next hops" if seen else "-"
        return "yes" if seen >= set(self.nodes) else "in part"

    def cells(self) -> list[str]:
        """The row as text."""
        sight = self.sight
        ends = [" and ".join(sight.kinds(end)) or "-" for end in ("initiator", "responder")]
        return [sight.place, *ends, _yes(sight.sees_marker), _yes(sight.sees_sizes), self.path]

    @property
    def sees_nothing(self) -> bool:
        """Whether the place showed neither end, nor content, nor sizes, nor more of the path than its next hops."""
        return self.cells()[1:5] == ["-"] * 4 and self.path in ("-", "next hops")


def render(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need to be."""
    lines = [list(headings), *[list(row) for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
    return "\n".join([text[0], "  ".join("-" * width for width in widths), *text[1:]])


def who_could_see_what(rows: Sequence[Row]) -> str:
    """The table."""
    return render(HEADINGS, [row.cells() for row in rows])


def _yes(seen: bool) -> str:
    return "yes" if seen else "-"
