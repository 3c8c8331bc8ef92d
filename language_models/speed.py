"""How fast a language model is on this machine, measured once and remembered."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path

from fusion.capacity import ANSWER_TOKENS, TurnCost, cost_of
from fusion.errors import ModelError
from fusion.models.llms import Speed
from language_models.base import Cancellation, ChatMessage, GenerationRequest, LanguageModel

_TOKENS = 16
"""Tokens that are generated for a measurement."""

# Not a prompt that a cache may hold, and one that any model answers with a few sentences.
_STORY = (
    "Once upon a time a small lighthouse stood on a rock far out in the sea. Its keeper wound the "
    "clock each evening, wrote down the weather and counted the ships that passed. One night the "
    "lamp went out, and he rowed to the harbour with a lantern in his hand. Tell me what happened."
)


def measure(model: LanguageModel) -> Speed:
    """Read a short story and begin an answer, twice, and take the better of each.

    Whatever else the machine does can only slow it. Takes two to four seconds with the smallest
    model, which must be warm. Raises ModelError when it fails or has nothing to say.
    """
    speeds = [_measure(model, f"{number}. {_STORY}") for number in ("One", "Two")]
    return Speed(
        prompt=max(speed.prompt for speed in speeds),
        generation=max(speed.generation for speed in speeds),
    )


def _measure(model: LanguageModel, story: str) -> Speed:
    messages = (ChatMessage("user", story),)
    began = time.perf_counter()
    arrivals = [
        time.perf_counter()
        for _ in model.stream(GenerationRequest(messages, max_tokens=_TOKENS), Cancellation())
    ]
    if len(arrivals) < 2:
        raise ModelError(f"{model.name} gave no answer that its speed could be taken from.")
    read = arrivals[0] - began
    written = arrivals[-1] - arrivals[0]
    return Speed(
        prompt=model.count_tokens(messages) / max(read, 1e-6),
        generation=(len(arrivals) - 1) / max(written, 1e-6),
    )


def turn_cost(model: LanguageModel, library: str) -> TurnCost:
    """What one answer costs this process. A server of somebody else's bounds itself.

    Raises ModelError when the model fails.
    """
    if library == "openai_api":
        return TurnCost(0.0, 0.0)
    messages = (ChatMessage("user", f"Say something. {_STORY}"),)
    request = GenerationRequest(messages, max_tokens=ANSWER_TOKENS)

    def answer() -> None:
        for _ in model.stream(request, Cancellation()):
            pass

    return cost_of(answer, model.max_concurrent)


class SpeedRecord:
    """The speeds measured on this machine, in a file of the cache folder.

    A file that is damaged, or of another machine, counts as none.
    """

    def __init__(self, cache: Path, threads: int) -> None:
        self._path = cache / "speeds.json"
        self._machine = f"{_processor()}, {threads} threads"

    def read(self) -> dict[str, Speed]:
        """Return the speed of each model that was measured here, by its name."""
        speeds = self._all().get(self._machine)
        if not isinstance(speeds, Mapping):
            return {}
        try:
            return {name: Speed(*map(float, pair)) for name, pair in speeds.items()}
        except (TypeError, ValueError):
            return {}

    def write(self, name: str, speed: Speed) -> None:
        """Remember a speed. Raises OSError when the cache cannot be written."""
        known = {other: [each.prompt, each.generation] for other, each in self.read().items()}
        known[name] = [round(speed.prompt, 1), round(speed.generation, 1)]
        new = self._path.with_suffix(".new")
        new.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(json.dumps({**self._all(), self._machine: known}, indent=1), "utf-8")
        new.replace(self._path)

    def _all(self) -> dict[str, object]:
        try:
            found = json.loads(self._path.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def _processor() -> str:
    """The processor and how many of its cores are ours."""
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return f"{name}, {len(os.sched_getaffinity(0))} cores"


def free_memory() -> int:
    """Bytes that a new process may take: what the system has, and what a container leaves of it."""
    free = [_meminfo(), _cgroup("memory.max", "memory.current")]
    return min((each for each in free if each is not None), default=0)


def _meminfo() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _cgroup(limit: str, used: str) -> int | None:
    """None where there is no limit, or none that can be read."""
    folder = Path("/sys/fs/cgroup")
    try:
        return int((folder / limit).read_text()) - int((folder / used).read_text())
    except (OSError, ValueError):
        return None
