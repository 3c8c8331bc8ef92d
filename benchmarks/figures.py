"""Figures of many measurements, and how a benchmark reports them: on the screen and as JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path


def median(values: Sequence[float]) -> float | None:
    """The middle of these values; None where there are none."""
    return statistics.median(values) if values else None


def p95(values: Sequence[float]) -> float | None:
    """The value that 95 of 100 do not exceed; None where there are none."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(0.95 * len(ranked)))] if ranked else None


def report(summary: Mapping[str, object], each: Sequence[object], file: Path | None) -> None:
    """Print the summary; with a file, write it there with each measurement."""
    print(json.dumps(summary, indent=2))
    if file:
        result = {**summary, "each": each}
        file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
