"""Figures of several contenders: medians of rounds, a table for a person, JSON for a machine."""

from __future__ import annotations

import json
import os
import statistics
from pathlib import Path

Figures = dict[str, float]


def medians(rounds: list[Figures]) -> Figures:
    """Of every figure, the median over the rounds."""
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


def table(columns: list[str], rows: list[tuple[str, list[float | str]]]) -> str:
    """Right-aligned columns under their headings; the first column holds names."""
    lines = [["", *columns], *([name, *map(cell, values)] for name, values in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(line[1:], widths[1:]))]).rstrip()
        for line in lines
    )


def cell(value: float | str) -> str:
    """Three significant digits are all that a shared machine gives."""
    if isinstance(value, str):
        return value
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def bench_directory() -> Path:
    """Where figures go."""
    root = Path(__file__).resolve().parents[2]
    directory = Path(os.environ.get("CARGO_TARGET_DIR", root / "target")) / "bench"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def merge(name: str, figures: dict[str, float | str]) -> Path:
    """Writes figures into a flat object, over those of an earlier run of other parts."""
    path = bench_directory() / name
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(dict(sorted((known | figures).items())), indent=2) + "\n")
    return path


def machine() -> dict[str, float | str]:
    """What the figures were made on."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in info if line.startswith("model name")), "unknown")
    return {"machine.cpu": model, "machine.cpus": float(len(os.sched_getaffinity(0)))}
