"""The real program with models of a few lines, in which a test breaks one thing after another.

`python -m tests.tiny_program FLAGS` takes the flags of main.py. In the environment, FAULT_FILE is a
file that names the place where something breaks, as long as it is there. FAULTS names a service:
each life of it has the next of its unexpected faults planted, and the life after the last none.
Without FAULTS, the expected ones of all services are planted.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from asyncio.selector_events import BaseSelectorEventLoop
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.server import ServerConnection

import llm_service
import tts_service
from fusion import channels, child_process, logs, memory
from fusion.audio import SPEECH_RATE
from fusion.command_line import parse
from fusion.errors import ChannelFullError, ModelError
from fusion.links import Links
from fusion.selection import Choice, Pick
from fusion.settings import Settings
from fusion.status import Service
from fusion.supervisor import Restarts, Supervisor
from fusion.tools import Tool
from language_models.base import Cancellation, ChatMessage, GenerationRequest
from voices import synthesis
from voices.sending import Sender
from whisper_live import connection, scheduler, server
from whisper_live.outgoing import OutgoingMessages
from whisper_live.session import Session
from whisper_live.transcribers.base import Transcript, TranscriptionRequest

FRAME = 512


class Loudness:
    """A voice activity detector for speech that is loud and silence that is silent."""

    def __init__(self) -> None:
        self._rest: NDArray[np.float32] = np.zeros(0, np.float32)

    def feed(self, samples: NDArray[np.float32]) -> list[tuple[NDArray[np.float32], float]]:
        joined = np.concatenate([self._rest, samples])
        whole = len(joined) - len(joined) % FRAME
        self._rest = joined[whole:]
        frames = joined[:whole].reshape(-1, FRAME)
        return [(frame, 0.95 if np.abs(frame).max() > 0.1 else 0.02) for frame in frames]


class Ear:
    """A transcriber that hears the same in every sound."""

    name = "tiny ear"
    languages = frozenset({"en"})
    max_batch = 1

    def prepare(self, language: str | None) -> None:
        pass

    def transcribe(
        self,
        requests: Sequence[TranscriptionRequest],
        cancelled: Callable[[], bool] = lambda: False,
    ) -> list[Transcript]:
        meet(threading.current_thread().name)
        return [Transcript("what time is it", "en") for _ in requests]

    def close(self) -> None:
        pass


class Sureness:
    """A turn detector that takes every pause for the end."""

    max_batch = 1
    workers = 1

    def probability(self, audio: NDArray[np.float32]) -> float:
        return self.probabilities([audio])[0]

    def probabilities(self, audios: Sequence[NDArray[np.float32]]) -> list[float]:
        meet("turn detector")
        return [0.95 for _ in audios]


class Parrot:
    """A language model that says what it was told."""

    name = "tiny parrot"
    takes_tools = False
    max_concurrent = 2

    def count_tokens(self, messages: Sequence[ChatMessage], tools: Sequence[Tool] = ()) -> int:
        return 1

    def stream(self, request: GenerationRequest, cancellation: Cancellation) -> Iterator[str]:
        meet("language model")
        time.sleep(0.1)  # as any model: a client's audio connection is there before the reply is
        yield f"You said: {request.messages[-1].content}."

    def prefill(
        self,
        messages: Sequence[ChatMessage],
        cancellation: Cancellation,
        tools: Sequence[Tool] = (),
    ) -> None:
        pass

    def close(self) -> None:
        pass


class Hum:
    """A voice that hums a tenth of a second for every word."""

    name = "tiny hum"
    sample_rate = SPEECH_RATE
    max_concurrent = 1
    speakers: Mapping[str, str] = MappingProxyType({})
    languages = ("en",)

    def prepare(self, language: str) -> None:
        pass

    def synthesize(
        self,
        text: str,
        *,
        language: str = "en",
        speaker: str = "",
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[NDArray[np.float32]]:
        meet("voice")
        yield np.full(SPEECH_RATE // 10 * len(text.split()), 0.5, np.float32)

    def close(self) -> None:
        pass


# -- faults ---------------------------------------------------------------------------------------


def meet(place: str) -> None:
    """Break here, if this is the place; once, where it ends the process."""
    file = Path(os.environ["FAULT_FILE"])
    try:
        asked = file.read_text()
        if asked not in (place, f"hang of {place}"):
            return
        if asked != place or "FAULTS" in os.environ:
            file.unlink()
    except FileNotFoundError:  # nothing is asked for, or another thread has met it
        return
    if asked != place:
        time.sleep(3600)
    if "FAULTS" in os.environ:
        raise KeyError("planted")
    raise (ChannelFullError if "channel" in place else ModelError)("It is too much.")


def before(owner: Any, name: str, place: str) -> Callable[[], None]:
    """Plant a fault where a function is called."""

    def plant() -> None:
        original = getattr(owner, name)

        def broken(*args: Any, **kwargs: Any) -> Any:
            meet(place)
            return original(*args, **kwargs)

        setattr(owner, name, broken)

    return plant


def at_start(owner: Any, name: str) -> Callable[[], None]:
    """Plant a fault that is met before anybody can talk."""

    def plant() -> None:
        def broken(*args: Any, **kwargs: Any) -> Any:
            time.sleep(0.2)
            raise KeyError("planted")

        setattr(owner, name, broken)

    return plant


def nothing() -> None:
    """What has its place in one of the models above."""


CHANNELS: dict[str, Callable[[], None]] = {
    "inbox": before(BaseSelectorEventLoop, "sock_accept", "inbox"),
    "inbox-peer": before(channels, "_read_message", "inbox-peer"),
    "outbox": before(channels.pickle, "dumps", "outbox"),
    "watch": at_start(child_process, "wait"),
    "memory": at_start(memory, "give_back"),
}

FAULTS_OF: dict[Service, dict[str, Callable[[], None]]] = {
    Service.TRANSCRIPTION: {
        "main thread": before(server.TranscriptionServer, "handle", "main thread"),
        "load": at_start(server, "load"),
        "clock": before(Session, "idle", "clock"),
        "writer": before(ServerConnection, "send", "writer"),
        "closing": before(OutgoingMessages, "all_sent", "closing"),
        "transcribe-1": nothing,
        "transcribe-2": nothing,
        "turn detector": nothing,
        **CHANNELS,
    },
    Service.VOICE: {
        "main thread": before(tts_service.SpeechServer, "handle", "main thread"),
        "load": at_start(tts_service, "load"),
        "sender": before(Sender, "_announce", "sender"),
        "voice": nothing,
        **CHANNELS,
    },
    Service.LANGUAGE_MODEL: {
        "main thread": before(llm_service.LanguageModelService, "handle", "main thread"),
        "load": at_start(llm_service, "load"),
        "generation": before(llm_service.LanguageModelService, "prompt", "generation"),
        **CHANNELS,
    },
}
"""What may break in each service: the place, and how to break it."""

EXPECTED = (
    "transcribe-1",
    "turn detector",
    "language model",
    "voice",
    *(f"channel of {service.name}" for service in FAULTS_OF),
)
"""What may fail without ending anything: a model, or a channel that is full."""


def plant(service: Service, links: Links) -> None:
    """Break what this life of the service is to have broken."""
    if "FAULTS" not in os.environ:
        before(channels.Outbox, "put", f"channel of {service.name}")()
    elif os.environ["FAULTS"] == service.name:
        faults = list(FAULTS_OF[service].values())
        life = links.status.restart_count(service)
        if life < len(faults):
            faults[life]()


# -- the services ---------------------------------------------------------------------------------


def transcription(settings: Settings, links: Links) -> None:
    server.load = lambda *_: Ear()  # type: ignore[assignment]
    server.load_turn_detector = lambda _: Sureness()  # type: ignore[assignment]
    connection.VoiceActivityDetector = Loudness  # type: ignore[misc, assignment]
    scheduler._PATIENCE = 1.0
    plant(Service.TRANSCRIPTION, links)
    server.run(settings, links)


def language_model(settings: Settings, links: Links) -> None:
    llm_service.load = lambda *_, **__: Parrot()  # type: ignore[assignment]
    plant(Service.LANGUAGE_MODEL, links)
    llm_service.run(settings, links)


def voice(settings: Settings, links: Links) -> None:
    tts_service.load = lambda *_: Hum()  # type: ignore[assignment]
    synthesis._PATIENCE = 1.0
    plant(Service.VOICE, links)
    tts_service.run(settings, links)


def main() -> int:
    settings = parse()
    logs.configure("info", "main")
    Restarts.DELAYS = (0.0,) * 100
    tiny = Pick("tiny", "for a test")
    services = {
        Service.VOICE: voice,
        Service.TRANSCRIPTION: transcription,
        Service.LANGUAGE_MODEL: language_model,
    }
    return Supervisor(settings, Choice(tiny, tiny, tiny), services).run()


if __name__ == "__main__":
    sys.exit(main())
