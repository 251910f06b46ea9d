"""The table *who could see what*, and what has to be true of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .search import Sight

HEADINGS = ("", "initiator's address", "responder's address", "inner bytes", "datagram sizes", "path")


@dataclass(frozen=True)
class Row:
    """One place: what was seen there, and which AINs it has to know (the ends of a link, a node and its neighbours)."""

    sight: Sight
    own: frozenset[str]
    nodes: tuple[str, ...]

    @property
    def sees_path(self) -> bool:
        """Whether every AIN of the path showed, when they are not all next to this place anyway."""
        return set(self.nodes) - self.own != set() and all(self.sight.sees(node) for node in self.nodes)

    def cells(self) -> list[str]:
        """The row as text."""
        sight = self.sight
        return [
            sight.place,
            _kinds(sight.kinds("initiator")),
            _kinds(sight.kinds("responder")),
            _yes(sight.sees_marker),
            _yes(sight.sees_sizes),
            _yes(self.sees_path),
        ]

    @property
    def sees_nothing(self) -> bool:
        """Whether the place showed neither end, nor content, nor sizes, nor path."""
        return self.cells()[1:] == ["-"] * 5


def render(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need to be."""
    lines = [list(headings), *[list(row) for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
    return "\n".join([text[0], "  ".join("-" * width for width in widths), *text[1:]])


def who_could_see_what(rows: Sequence[Row]) -> str:
    """The table."""
    return render(HEADINGS, [row.cells() for row in rows])


def _kinds(kinds: list[str]) -> str:
    return " and ".join(kinds) if kinds else "-"


def _yes(seen: bool) -> str:
    return "yes" if seen else "-"
