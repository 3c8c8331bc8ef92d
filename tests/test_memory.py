"""Memory that was freed comes back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fusion import memory

_FREED = """
import threading
import numpy as np
from pathlib import Path
from fusion.memory import give_back

def resident() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) // 1024

def work() -> None:
    for number in range(1000):
        freed.append(np.ones(8000, np.float32))
        if number % 20 == 0:
            kept.append(np.ones(8, np.float32))

freed, kept = [], []
before = resident()
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
freed.clear()
print(before, resident(), give_back(), resident())
"""


def test_what_several_threads_have_freed_goes_back() -> None:
    result = subprocess.run(
        [sys.executable, "-c", _FREED], capture_output=True, text=True, check=True, timeout=60
    )
    before, held, has_it, after = result.stdout.split()
    assert has_it == "True"
    assert int(held) > int(before) + 60  # else this shows nothing
    assert int(after) < int(before) + 20


def test_it_is_given_back_again_and_again() -> None:
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            raise StopIteration

    with pytest.raises(StopIteration):
        memory.keep_low(wait)
    assert waits == [memory.INTERVAL] * 3


def test_a_c_library_without_the_call_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    assert not memory.give_back()
    memory.keep_low()
