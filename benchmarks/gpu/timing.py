"""How the GPU's work is timed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

Figures = dict[str, float]
"""What was measured, each figure named with its unit."""


def seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """Median time of some runs, the GPU's work included."""
    times = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return statistics.median(times)
