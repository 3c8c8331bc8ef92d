"""How many people this machine can serve well, from what a turn costs it. Pure, but for `cost_of`.

Each service measures at its first start what one turn of a conversation costs: seconds of processor
time, and seconds that it takes when nothing else runs. People do not take turns with one another,
so a machine that is busy all the time lets everybody wait. Up to a third of it, the slowest of
twenty answers come at most half as late again as where one person talks alone
(`python -m benchmarks.load`, docs/reliability.md).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

CYCLE = 12.0
"""Seconds from one question of a person to the next: asked in 3, answered in 5, and a pause."""

SPOKEN = 3.0
"""Seconds of speech in a question."""

ANSWER_SECONDS = 5.0
"""Seconds of speech in an answer."""

ANSWER_TOKENS = 24
"""Tokens of an answer."""

LOAD = 0.35
"""The share of the machine that may be busy."""


@dataclass(frozen=True)
class TurnCost:
    """What one turn costs a service.

    `processor` is seconds of processor time in all threads, `alone` seconds that it takes where
    nothing else runs, and `at_once` how many such turns are worked on together in that time.
    """

    processor: float
    alone: float
    at_once: int = 1

    def times(self, count: float) -> TurnCost:
        """The cost of as much work, so many times."""
        return TurnCost(self.processor * count, self.alone * count, self.at_once)

    def and_also(self, other: TurnCost) -> TurnCost:
        """The cost of both, one after the other."""
        seconds = self.alone + other.alone
        return TurnCost(self.processor + other.processor, seconds, self.at_once)


def capacity(costs: Iterable[TurnCost], cores: int) -> int:
    """How many people can be served: at least one.

    Neither the processor, which all services share, nor any service by itself may be busier than
    `LOAD`. A model on a GPU costs the processor little and is bounded by the time that it takes.
    """
    known = list(costs)
    shares = [cost.alone / cost.at_once / CYCLE for cost in known]
    shares.append(sum(cost.processor for cost in known) / cores / CYCLE)
    busiest = max(shares)
    return max(1, math.floor(LOAD / busiest)) if busiest > 0 else _MOST


_MOST = 1 << 16  # where everything costs nothing


def people(count: int) -> str:
    """A number of people, in words."""
    return "1 person" if count == 1 else f"{count} people"


def cost_of(work: Callable[[], object], at_once: int = 1) -> TurnCost:
    """Do some work and measure it, in a process that does nothing else meanwhile."""
    processor, began = time.process_time(), time.monotonic()
    work()
    return TurnCost(time.process_time() - processor, time.monotonic() - began, at_once)
