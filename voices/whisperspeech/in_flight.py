"""What was asked of the GPU and is not known to be done."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import torch

Deliver = Callable[[Any], None]


class InFlight:
    """Results on their way to the host, delivered in the order in which they were asked for.

    Without waiting for each result the GPU never idles between two steps; with a bound on how many
    are under way, who comes or goes is taken into account at the next step or the one after.
    On a CPU each result is there at once. For one thread.
    """

    def __init__(self, device: Any) -> None:
        self._on_gpu = device.type == "cuda"
        self._waiting: deque[tuple[Any, Any, Deliver]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, result: Any, deliver: Deliver) -> None:
        """Call `deliver` with `result` on the host, now or in a later `settle`."""
        if not self._on_gpu:
            deliver(result)
            return
        host = torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
        host.copy_(result, non_blocking=True)
        done = torch.cuda.Event()
        done.record()
        self._waiting.append((done, host, deliver))

    def mark(self) -> None:
        """Count a step without a result, so that `settle` waits for it too."""
        if self._on_gpu:
            done = torch.cuda.Event()
            done.record()
            self._waiting.append((done, None, lambda _: None))

    def settle(self, most: int) -> None:
        """Deliver what is there, and wait until at most so many results are left."""
        while self._waiting and (len(self._waiting) > most or self._waiting[0][0].query()):
            done, host, deliver = self._waiting.popleft()
            done.synchronize()
            deliver(host)

    def clear(self) -> None:
        """Forget everything."""
        self._waiting.clear()
