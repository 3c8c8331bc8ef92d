"""CUDA graphs: work on tensors that stay where they are, recorded once and replayed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Work = Callable[..., None]
"""Does its work for the sizes given; all it reads and writes are tensors that live for good."""


class Graphs:
    """Runs pieces of work, on a GPU as CUDA graphs: one launch instead of hundreds.

    A graph is of one size, so numbers of rows are rounded up to a power of two. Everything must run
    in one thread, as graphs share the memory of their intermediate results.
    """

    def __init__(self, recorded: bool) -> None:
        """Record where `recorded`, else run everything as it comes."""
        self._recorded = recorded
        self._graphs: dict[tuple[Any, ...], Any] = {}
        self._pool: Any = None

    def size(self, count: int, most: int) -> int:
        """How many rows to run for `count` of `most`."""
        return min(most, 1 << (count - 1).bit_length()) if self._recorded else count

    def sizes(self, most: int) -> list[int]:
        """All that `size` returns."""
        if not self._recorded:
            return []
        return sorted({self.size(count, most) for count in range(1, most + 1)})

    def run(self, work: Work, *sizes: int) -> None:
        """Do the work. Its first run is no graph yet, as libraries set up what they need."""
        graph = self._graphs.get((work, *sizes))
        if graph is not None:
            graph.replay()
            return
        work(*sizes)
        if self._recorded:
            self._graphs[(work, *sizes)] = self._record(work, sizes)

    def _record(self, work: Work, sizes: tuple[int, ...]) -> Any:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            work(*sizes)
        self._pool = self._pool or graph.pool()
        return graph
