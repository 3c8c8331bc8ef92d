"""Memory that a process has freed, given back to the system.

glibc keeps what lies below a piece that is still used, in an arena for each of many threads, for
whoever may need it next: after many visits a service held hundreds of megabytes that nobody used.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable

INTERVAL = 15.0
"""Seconds: giving 100 MB back takes some 10 ms, in which nobody else can allocate."""


def give_back() -> bool:
    """Give the system what is free of glibc's memory; False where the C library has no such call
    (musl, which keeps little)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim is not None and bool(trim(0) in (0, 1))


def keep_low(wait: Callable[[float], None] = time.sleep) -> None:
    """Give memory back now and then, in a thread of its own, until the process ends."""
    while give_back():
        wait(INTERVAL)
