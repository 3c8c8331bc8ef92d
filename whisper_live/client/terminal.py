"""The command `whisperfusion-client`: talk to a server from a terminal."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TextIO

from websockets.exceptions import ConnectionClosed

from fusion import __version__
from fusion.audio import SAMPLE_RATE, SPEECH_RATE
from fusion.errors import FusionError
from whisper_live.client.conversation import (
    CHUNK,
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
from whisper_live.client.sound_card import SoundBuffer, microphone, speaker
from whisper_live.client.sound_files import read_wav, write_wav


class Screen:
    """Shows the conversation: a line that grows in a terminal, whole lines in a file or a pipe."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._live = out.isatty()

    def show(self, event: Event) -> None:
        if isinstance(event, Transcript):
            self._line(f"> {event.text}", event.final)
        elif isinstance(event, ReplyText):
            self._line(f"< {event.text}{' …' if event.interrupted else ''}", event.final)
        elif isinstance(event, Failure):
            self._line(f"! {event.message}", True)
        elif isinstance(event, Notice) and event.name == "DISCONNECT":
            self._line("! The server's time limit is reached.", True)
        elif isinstance(event, Notice) and event.name == "left_out":
            self._line(f"! {event.fields['message']}", True)

    def _line(self, text: str, whole: bool) -> None:
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            # Back to the start of the line, which is cleared. A line that grows shows its end.
            text = f"\r\x1b[K{text if whole else text[-width:]}"
        elif not whole:
            return
        print(text, end="\n" if whole else "", file=self._out, flush=True)


def parser() -> argparse.ArgumentParser:
    module = Path(sys.argv[0]).name == "__main__.py"
    result = argparse.ArgumentParser(
        prog="python -m whisper_live.client" if module else None,
        description="Talk to a WhisperFusion server, or have a recording transcribed and answered.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    version = f"WhisperFusion {__version__}"
    result.add_argument("--version", action="version", version=version, help="show the version")
    result.add_argument("--host", default="localhost", help="where the server is")
    result.add_argument("--port", type=int, default=6006, help="its transcription port")
    result.add_argument(
        "--speech_port", "--speech-port", type=int, default=8888, help="its speech port"
    )
    result.add_argument("--token", default="", help="its secret, if it has one")
    result.add_argument(
        "--certificate", default="", help="its certificate file (PEM): talk to it over TLS"
    )
    result.add_argument("--file", help="WAV file to send; without it, the microphone is used")
    result.add_argument("--say", metavar="TEXT", help="ask this instead of speaking")
    result.add_argument("--language", default="en", help="what is spoken; auto detects it")
    result.add_argument(
        "--reply", action=argparse.BooleanOptionalAction, default=True, help="also get an answer"
    )
    result.add_argument("--save", metavar="WAV", help="write the reply there instead of playing it")
    return result


async def run(options: argparse.Namespace) -> int:
    """Hold one conversation; 0 when it went well. Raises FusionError."""
    server = Server(
        options.host, options.port, options.speech_port, options.token, options.certificate
    )
    language = None if options.language == "auto" else options.language
    recording = read_wav(options.file, SAMPLE_RATE) if options.file else None
    playback, screen, went_well = Playback(), Screen(sys.stdout), True
    speaks = not (options.file or options.say)
    # The server first: without one, nobody need hear about sound cards.
    async with talk(server, language=language, reply=options.reply) as conversation:
        with contextlib.ExitStack() as devices:
            source = devices.enter_context(microphone(SAMPLE_RATE, CHUNK)) if speaks else None
            output = _speaker(devices) if options.reply and not options.save else None
            sender = asyncio.create_task(_send(conversation, recording, source, options.say))
            async for event in conversation.events():
                screen.show(event)
                playback.take(event)
                _play(event, output)
                went_well = went_well and not isinstance(event, Failure)
            sender.cancel()
            if output is not None:
                await asyncio.sleep(output.samples_left / SPEECH_RATE)
    if options.save:
        write_wav(options.save, playback.samples, SPEECH_RATE)
    assert isinstance(event, Closed)
    return 0 if went_well and event.code == 1000 else 1


def _speaker(devices: contextlib.ExitStack) -> SoundBuffer | None:
    """The loudspeaker; None, and a word about it, where there is none: the answers are printed."""
    try:
        return devices.enter_context(speaker(SPEECH_RATE))
    except FusionError as error:
        print(f"{error} The answers are printed.", file=sys.stderr)
        return None


async def _send(
    conversation: Conversation,
    recording: Samples | None,
    source: AsyncIterator[Samples] | None,
    text: str | None,
) -> None:
    with contextlib.suppress(ConnectionClosed):
        if text:
            await conversation.command("say", text=text)
            await conversation.end_of_audio()
        elif recording is not None:
            await conversation.stream(recording)
            await conversation.end_of_audio()
        elif source is not None:
            async for chunk in source:
                await conversation.send(chunk)


def _play(event: Event, output: SoundBuffer | None) -> None:
    if output is not None and isinstance(event, Sound):
        output.add(event.samples)
    elif output is not None and isinstance(event, Notice) and event.name == "flush":
        output.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    options = parser().parse_args(arguments)
    try:
        return asyncio.run(run(options))
    except FusionError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print()
        return 0
