"""What recording a session costs: the same simulated session plain and recorded, taking turns.

python -m benchmarks.recording --repeats 10
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.session_world import World
from tests.test_flight_recorder import RecordedWorld

TURNS = 3


def cost(make: Callable[[], World]) -> tuple[float, float]:
    """CPU seconds of a session's logic, and the seconds of sound that came in."""
    world = make()
    began, before = world.now, time.process_time()
    for _ in range(TURNS):
        world.speak(2.0)
        world.silence(4.0)
    return time.process_time() - before, world.now - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    repeats = parser.parse_args().repeats
    plain, recorded = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(repeats):
            plain.append(cost(World))
            recorded.append(cost(lambda n=number: RecordedWorld(Path(folder, str(n)))))
        size = sum(path.stat().st_size for path in Path(folder, "0").iterdir())
    seconds = plain[0][1]
    per_second = [
        1000 * statistics.median(cpu for cpu, _ in runs) / seconds for runs in (plain, recorded)
    ]
    print(f"a session's logic: {per_second[0]:.2f} ms of CPU a second of sound")
    print(f"recorded:          {per_second[1]:.2f} ms, {per_second[1] / per_second[0]:.1f} times")
    print(f"the file:          {size / seconds / 1000:.0f} kB a second of sound")


if __name__ == "__main__":
    main()
