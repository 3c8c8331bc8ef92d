"""`python -m whisper_live.client.demo`: ask the server a spoken question and show what comes back.

Takes the flags of `main.py`. When no server answers on their ports it starts one with them, and
stops it at the end. Exits non-zero unless the question was transcribed, answered and spoken.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from websockets.exceptions import ConnectionClosed

from fusion.audio import SAMPLE_RATE, SPEECH_RATE
from fusion.command_line import parse
from fusion.errors import FusionError
from fusion.models.llms import LLMS
from fusion.serving import tls
from fusion.serving.hosts import is_everywhere
from fusion.serving.tokens import Tokens
from fusion.settings import Settings
from whisper_live.client.conversation import (
    Conversation,
    Playback,
    Server,
    talk,
)
from whisper_live.client.events import (
    Closed,
    Event,
    Failure,
    Notice,
    ReplyText,
    Samples,
    Sound,
    Transcript,
)
from whisper_live.client.sound_files import read_wav, write_wav
from whisper_live.client.terminal import Screen

SMALLEST_LLM = LLMS[0].name
ROOT = Path(__file__).resolve().parents[2]
_INSTALLED = Path(__file__).with_name("recordings")
RECORDINGS = _INSTALLED if _INSTALLED.is_dir() else ROOT / "tests" / "audio"
QUESTION = "brooklyn_bridge.wav"
REPLY = "reply.wav"

START_TIMEOUT = 900.0  # the models may have to be fetched first
TURN_TIMEOUT = 60.0
STOP_TIMEOUT = 10.0
_POLL_INTERVAL = 0.25
_HEALTH_TIMEOUT = 5.0

SILENT = 1e-3  # loudest sample of a reply that nobody could hear


@dataclass
class Outcome:
    """What came of the question, with when it came (`time.monotonic()`)."""

    transcript: Transcript | None = None
    reply: ReplyText | None = None
    first_word: float | None = None
    first_sound: float | None = None
    failures: list[str] = field(default_factory=list)
    playback: Playback = field(default_factory=Playback)

    def take(self, event: Event) -> bool:
        """Note an event; whether the turn is over with it."""
        self.playback.take(event)
        if isinstance(event, Transcript) and event.final and self.transcript is None:
            self.transcript = event
        elif isinstance(event, ReplyText):
            self.first_word = self.first_word or event.at
            self.reply = event if event.final else self.reply
        elif isinstance(event, Sound):
            self.first_sound = self.first_sound or event.at
        elif isinstance(event, Failure):
            self.failures.append(event.message)
        ended = isinstance(event, Notice) and event.name == "reply_end"
        return ended or isinstance(event, Failure | Closed)

    def problems(self) -> list[str]:
        """Everything that is missing; empty when all went well."""
        sound = self.playback.samples
        missing = {
            "The question was not transcribed.": not (self.transcript and self.transcript.text),
            "No reply came.": not (self.reply and self.reply.text.strip()),
            "No sound came.": not len(sound),
            "The sound is silent.": len(sound) > 0 and np.abs(sound).max() < SILENT,
        }
        return self.failures + [sentence for sentence, applies in missing.items() if applies]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    settings = parse(arguments)
    try:
        settings = tls.with_certificate(settings)
        with running_server(settings, arguments):
            outcome, end_of_speech = asyncio.run(asyncio.wait_for(ask(settings), TURN_TIMEOUT))
    except FusionError as error:
        print(error, file=sys.stderr)
        return 1
    except asyncio.TimeoutError:
        print(f"The turn did not end within {TURN_TIMEOUT:.0f} s.", file=sys.stderr)
        return 1
    report(outcome, end_of_speech)
    for problem in outcome.problems():
        print(problem, file=sys.stderr)
    return 1 if outcome.problems() else 0


# -- the server ------------------------------------------------------------------------------------


@contextlib.contextmanager
def running_server(settings: Settings, arguments: Sequence[str]) -> Iterator[None]:
    """A server that is ready: the one that answers already, or one that lives as long as this.

    Raises FusionError when it cannot be started or does not get ready.
    """
    if health(settings) is not None:
        print(f"A server answers on port {settings.transcription_port} already.")
        wait_until_ready(settings, None)
        yield
        return
    print("Starting the server ...")
    # The page is not needed, and what the server logs would break up the lines printed here.
    command = [sys.executable, str(ROOT / "whisperfusion.py")]
    command += ["--web_port", "0", "--log_level", "warning"]
    # The smallest language model, unless the flags name another: a demo downloads no gigabyte.
    command += ["--llm", SMALLEST_LLM, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_until_ready(settings, process)
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()


def wait_until_ready(settings: Settings, process: subprocess.Popen[bytes] | None) -> None:
    """Say what is being loaded until the server can answer. Raises FusionError."""
    started, shown = time.monotonic(), ""
    while (reason := health(settings)) != "":
        if process is not None and process.poll() is not None:
            raise FusionError("The server ended; the reason is above.")
        if time.monotonic() - started > START_TIMEOUT:
            raise FusionError(f"The server was not ready within {START_TIMEOUT:.0f} s: {reason}.")
        if reason and reason != shown:
            shown = reason
            print(f"  {time.monotonic() - started:5.1f} s  {reason}", flush=True)
        time.sleep(_POLL_INTERVAL)
    print(f"  {time.monotonic() - started:5.1f} s  ready", flush=True)


def health(settings: Settings) -> str | None:
    """Why the server cannot answer yet; "" when it can, None when there is none."""
    host, port = _host(settings), settings.transcription_port
    if settings.tls:
        context = ssl.create_default_context(cafile=settings.tls_certificate)
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, port, timeout=_HEALTH_TIMEOUT, context=context
        )
    else:
        connection = http.client.HTTPConnection(host, port, timeout=_HEALTH_TIMEOUT)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/healthz")
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace").strip()
        except (OSError, http.client.HTTPException):
            return None
    return "" if answer.status == http.client.OK else text


def _host(settings: Settings) -> str:
    return "localhost" if is_everywhere(settings.host) else settings.host


# -- the question ----------------------------------------------------------------------------------


async def ask(settings: Settings) -> tuple[Outcome, float]:
    """Ask the bundled question at the pace of speech; what came back, and when speech ended."""
    manifest = json.loads((RECORDINGS / "manifest.json").read_text())
    entry = next(entry for entry in manifest if entry["file"] == QUESTION)
    question = read_wav(RECORDINGS / QUESTION, SAMPLE_RATE)
    server = Server(
        _host(settings),
        settings.transcription_port,
        settings.speech_port,
        Tokens(settings).any(),
        settings.tls_certificate if settings.tls else "",
    )
    print(f"Asking: {entry['text']}")
    outcome, screen = Outcome(), Screen(sys.stdout)
    async with talk(server) as conversation:
        speaking = asyncio.create_task(_speak(conversation, question))
        started = time.monotonic()
        async for event in conversation.events():
            screen.show(event)
            if outcome.take(event):
                break
        speaking.cancel()
    return outcome, started + entry["end_of_speech"]


async def _speak(conversation: Conversation, question: Samples) -> None:
    """The question, and then the silence of somebody who waits for an answer."""
    silence = np.zeros(int(TURN_TIMEOUT * SAMPLE_RATE), np.float32)
    with contextlib.suppress(ConnectionClosed):
        await conversation.stream(np.concatenate([question, silence]))


def report(outcome: Outcome, end_of_speech: float) -> None:
    """Print the times that a person notices, and keep the sound."""
    times = {
        "transcript": outcome.transcript.at if outcome.transcript else None,
        "first word": outcome.first_word,
        "first sound": outcome.first_sound,
    }
    print("After the end of speech:")
    for name, at in times.items():
        print(f"  {name:12}" + ("  never" if at is None else f"{at - end_of_speech:7.2f} s"))
    sound = outcome.playback.samples
    if len(sound):
        try:
            write_wav(REPLY, sound, SPEECH_RATE)
            kept = f"are in {REPLY}"
        except OSError as error:  # a container's file system may be read-only
            kept = f"cannot be kept in {REPLY} ({error.strerror})"
        print(f"The reply's {len(sound) / SPEECH_RATE:.1f} s of sound {kept}.")


if __name__ == "__main__":
    sys.exit(main())
