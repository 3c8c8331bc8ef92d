"""What an operator's monitor counts, in all processes together.

Each process writes its numbers into memory-mapped files of its own in the run folder, and whichever
process is asked adds them all up (prometheus_client's multiprocess mode): there is no lock between
processes, nothing to send, and what a killed process had counted stays counted. Label values are
few: stages, kinds and the models of this program, never anything that a client chose.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names the files' folder; prometheus_client reads it when it is imported."""

REGISTRY = CollectorRegistry(auto_describe=False)

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0)
_FACTORS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 3.0)


def _counter(name: str, help: str, *labels: str) -> Counter:
    return Counter(f"whisperfusion_{name}", help, labels, registry=REGISTRY)


def _gauge(name: str, help: str, *labels: str) -> Gauge:
    return Gauge(
        f"whisperfusion_{name}", help, labels, registry=REGISTRY, multiprocess_mode="mostrecent"
    )


def _histogram(name: str, help: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
    return Histogram(f"whisperfusion_{name}", help, labels, buckets=buckets, registry=REGISTRY)


SESSIONS = _gauge("sessions", "Sessions now, those of clients that may come back among them.")
CONNECTS = _counter("connects", "Sessions that began, by the name of their token.", "token_name")
TURNS = _counter("turns", "Turns that were committed.")
REPLIES = _counter("replies", "Replies that ended: complete or interrupted.", "end")
ERRORS = _counter("errors", "Errors that clients were told, by kind.", "kind")
TURN_SECONDS = _histogram(
    "turn_seconds", "From the end of speech; first_sound is voice to voice.", _SECONDS, "stage"
)
CALL_SECONDS = _histogram(
    "call_seconds", "What model calls took.", _SECONDS, "stage", "backend", "model"
)
REAL_TIME_FACTOR = _histogram(
    "real_time_factor", "What a call took by its audio.", _FACTORS, "stage", "backend", "model"
)
SPECULATIONS = _counter("speculations", "Speculations: begun, used, wasted.", "fate")
OVERLAPS = _counter("overlaps", "Speech over the machine: addressed is a barge-in.", "verdict")
FALSE_BARGE_INS = _counter("false_barge_ins", "Barge-ins after which no words came.")
AUDIO = _counter("audio_seconds", "Audio in and out.", "direction")
DROPS = _counter("drops", "What was given up, by reason.", "reason")
REFUSALS = _counter("refusals", "Clients that were not let in, by reason.", "reason")
MODELS = _gauge("models", "1 for each model that serves.", "backend", "model")
QUEUE_DEPTH = _gauge("queue_depth", "What waits in a queue.", "queue")
QUEUE_SECONDS = _histogram("queue_seconds", "How long it had waited.", _SECONDS, "queue")
TASKS = _gauge("tasks", "Tasks of a process's event loop.", "process")

_model = ("", "")


def serve_model(backend: str, model: str) -> None:
    """Name the model that this process serves from now on."""
    global _model
    if any(_model):
        MODELS.labels(*_model).set(0)
    _model = (backend, model)
    MODELS.labels(*_model).set(1)


def change_model(model: str) -> None:
    """Name another model of the same backend."""
    serve_model(_model[0], model)


@contextlib.contextmanager
def model_call(
    stage: str, audio_seconds: float = 0.0, model: tuple[str, str] | None = None
) -> Iterator[None]:
    """Time a call on so many seconds of audio; see `called`. From any thread."""
    began = time.monotonic()
    yield
    called(stage, time.monotonic() - began, audio_seconds, model)


def called(
    stage: str, seconds: float, audio_seconds: float = 0.0, model: tuple[str, str] | None = None
) -> None:
    """Take note of a call that ended well. From any thread.

    `model` is backend and name; None is the one that this process serves.
    """
    labels = (stage, *(model or _model))
    CALL_SECONDS.labels(*labels).observe(seconds)
    if audio_seconds:
        REAL_TIME_FACTOR.labels(*labels).observe(seconds / audio_seconds)


class QueueMeter:
    """How much waits in a queue, and for how long it did. A new one begins with nothing."""

    def __init__(self, name: str) -> None:
        self._depth = QUEUE_DEPTH.labels(name)
        self._seconds = QUEUE_SECONDS.labels(name)
        self._depth.set(0)

    def holds(self, waiting: int) -> None:
        """So many wait now."""
        self._depth.set(waiting)

    def left(self, since: float) -> None:
        """Something has its turn that came at a time (monotonic seconds)."""
        self._seconds.observe(time.monotonic() - since)


class AllProcesses(Collector):
    """The sums over all processes; outside of the program, those of this process."""

    def collect(self) -> Iterator[Metric]:
        folder = os.environ.get(FOLDER)
        if folder is None or not Path(folder).is_dir():
            yield from REGISTRY.collect()
        else:
            yield from MultiProcessCollector(None, folder).collect()  # type: ignore[no-untyped-call]
