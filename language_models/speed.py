"""How fast a language model is on this machine: measured, remembered, and doubted.

Whatever else the machine does can only slow a measurement. So of several the best counts, and one
that rules a model out is not believed before it was seen at some starts.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fusion.capacity import ANSWER_TOKENS, TurnCost, cost_of
from fusion.errors import ModelError
from fusion.models.llms import SPEECH_TOKENS, Speed
from language_models.base import Cancellation, ChatMessage, GenerationRequest, LanguageModel

logger = logging.getLogger(__name__)

_TOKENS = 16
"""Tokens that are generated for a measurement."""

SURE_AFTER = 3
"""Measurements, each at a start of its own, after which a speed counts as the machine's own."""

BELIEVED_FOR = 7 * 24 * 3600.0
"""Seconds; a machine of which a speed was measured longer ago may have become another."""

_OBSERVED = 8
"""Replies of which the fastest is compared with what was measured."""

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


@dataclass(frozen=True)
class Measured:
    """The best of some measurements of a model; none of them, once it was doubted.

    `at` is when the latest was made, in seconds since 1970.
    """

    speed: Speed
    times: int
    at: float

    def is_sure(self, now: float) -> bool:
        """Whether it is to be believed, also where it rules the model out."""
        return self.times >= SURE_AFTER and now - self.at < BELIEVED_FOR

    def and_also(self, speed: Speed, now: float) -> Measured:
        """What is known with another measurement."""
        if not self.times or now - self.at > BELIEVED_FOR:
            return Measured(speed, 1, now)
        best = Speed(
            max(speed.prompt, self.speed.prompt), max(speed.generation, self.speed.generation)
        )
        return Measured(best, self.times + 1, now)


class SpeedRecord:
    """The speeds measured on this machine, in a file of the cache folder.

    A file that is damaged, or of another machine, counts as none.
    """

    def __init__(self, cache: Path, threads: int) -> None:
        self._path = cache / "speeds.json"
        self._machine = f"{_processor()}, {threads} threads"

    def read(self) -> dict[str, Measured]:
        """Return what was measured here of each model, by its name."""
        entries = self._all().get(self._machine)
        if not isinstance(entries, Mapping):
            return {}
        try:
            return {name: _measured(*map(float, entry)) for name, entry in entries.items()}
        except (TypeError, ValueError):
            return {}

    def write(self, name: str, speed: Speed) -> Measured:
        """Remember a measurement. Raises OSError when the cache cannot be written."""
        now = time.time()
        before = self.read().get(name, Measured(speed, 0, now))
        return self._put(name, before.and_also(speed, now))

    def doubt(self, name: str) -> None:
        """Let a model be measured again at the next start. Raises OSError likewise."""
        before = self.read().get(name)
        if before is not None:
            self._put(name, replace(before, times=0))

    def _put(self, name: str, measured: Measured) -> Measured:
        entries = {**self.read(), name: measured}
        known = {
            each: [
                *(round(entry.speed.prompt, 1), round(entry.speed.generation, 1)),
                *(entry.times, round(entry.at)),
            ]
            for each, entry in entries.items()
        }
        new = self._path.with_suffix(".new")
        new.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(json.dumps({**self._all(), self._machine: known}, indent=1), "utf-8")
        new.replace(self._path)
        return measured

    def _all(self) -> dict[str, object]:
        try:
            found = json.loads(self._path.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def _measured(prompt: float, generation: float, times: float = 1, at: float = 0.0) -> Measured:
    """An entry of the file; the first ones had two numbers."""
    return Measured(Speed(prompt, generation), int(times), at)


class SpeedWatch:
    """Compares replies with what was measured of the model that makes them, and doubts that.

    Safe from any thread. `name` is the model's in the table; it changes when another takes over.
    """

    def __init__(self, record: SpeedRecord, name: str) -> None:
        self._record = record
        self._lock = threading.Lock()
        self._recent: deque[float] = deque(maxlen=_OBSERVED)
        self._name = name
        self._done = False

    def follow(self, name: str) -> None:
        """Another model makes the replies from now on."""
        with self._lock:
            self._name, self._done = name, False
            self._recent.clear()

    def reply(self, generation: float) -> None:
        """A reply was written at so many tokens a second; 0 where nobody knows."""
        with self._lock:
            if generation:
                self._recent.append(generation)
            known = self._record.read().get(self._name)
            if self._done or known is None or len(self._recent) < _OBSERVED:
                return
            if contradicts(max(self._recent), known.speed.generation):
                self._done = True
                logger.info("%s is measured again at the next start", self._name)
                try:
                    self._record.doubt(self._name)
                except OSError as error:
                    logger.warning("its speed cannot be forgotten: %s", error)


def contradicts(observed: float, measured: float) -> bool:
    """Whether replies, the fastest of which was so fast, show that the measurement is wrong.

    Beside speech they are somewhat slower than alone; too slow to speak is what counts.
    """
    too_slow = observed < SPEECH_TOKENS <= measured and observed < 0.7 * measured
    return too_slow or observed > 1.3 * measured


class ReplyClock:
    """Takes the time of a reply's pieces, each about a token."""

    def __init__(self) -> None:
        self._pieces = 0
        self._first = self._last = 0.0

    def piece(self, now: float) -> None:
        self._pieces += 1
        self._first, self._last = self._first or now, now

    def speed(self) -> float:
        """Tokens a second; 0 where there were too few to tell."""
        if self._pieces < _TOKENS or self._last <= self._first:
            return 0.0
        return (self._pieces - 1) / (self._last - self._first)


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
