"""What the processes of a running server hold: memory, descriptors, threads and tasks."""

from __future__ import annotations

import contextlib
import re
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tests.running import RunningServer

_TASKS = re.compile(r'^whisperfusion_tasks\{process="(\w+)"\} (\S+)$', re.MULTILINE)


@dataclass(frozen=True)
class Held:
    """What one process holds. `rss` is its resident memory in MB; `tasks` of its event loop."""

    rss: float
    descriptors: int
    threads: int
    tasks: int | None = None


def held(pid: int) -> Held:
    """What this process holds now; its tasks are not known."""
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    return Held(
        rss=round(int(status["VmRSS"].split()[0]) / 1024, 1),
        descriptors=len(list(Path(f"/proc/{pid}/fd").iterdir())),
        threads=int(status["Threads"]),
    )


def names(running: RunningServer) -> dict[str, int]:
    """The processes of a server by their names."""
    found = {"main": running.pid}
    for service in ("transcription", "language_model", "voice"):
        found[service] = running.service_pid(service)
    others = [pid for pid in running.children() if pid not in found.values()]
    for pid in others:
        with contextlib.suppress(OSError):
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found["page"] = pid
    return found


def look(running: RunningServer) -> dict[str, Held]:
    """What each process holds now."""
    address = f"http://127.0.0.1:{running.transcription_port}/metrics"
    with urllib.request.urlopen(address, timeout=10) as answer:
        tasks = {name: float(count) for name, count in _TASKS.findall(answer.read().decode())}
    result = {}
    for name, pid in names(running).items():
        now = held(pid)
        count = tasks.get(name)
        result[name] = Held(
            now.rss, now.descriptors, now.threads, None if count is None else int(count)
        )
    return result
