"""The table that `make test-interop` ends with: what was tried with which peer, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass

HEAD = ("case", "peer", "family", "algorithm", "verdict")


@dataclass(frozen=True)
class Row:
    """One line."""

    case: str
    peer: str
    family: str
    algorithm: str
    verdict: str

    def cells(self) -> tuple[str, ...]:
        """As text, in the order of `HEAD`."""
        return (self.case, self.peer, self.family, self.algorithm, self.verdict)


rows: list[Row] = []


def table() -> str:
    """All rows, under their head."""
    lines = [HEAD, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    return "\n".join("  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)
