"""A recorded session with the real models: its client says the same again, at the same times."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from fusion import tasks
from fusion.settings import Settings
from fusion.status import ServiceStatus
from whisper_live.flight_recorder.format import Entry, Recording, RecordingError
from whisper_live.flight_recorder.recorder import SUFFIX
from whisper_live.flight_recorder.replay import load, settings_of
from whisper_live.handshake import END_OF_AUDIO

Serve = Callable[[Settings, Callable[[ServiceStatus], None]], int]
"""Runs the program; the function is called now and then, with what the services are doing."""

_HOST = "127.0.0.1"
_QUIET = 1.0  # seconds without anything under way after which all is said
_PATIENCE = 60.0  # for that, after the client's last word
_HANDSHAKE = ("uid", "language", "task", "stream", "reply", "system_prompt", "voice", "buffer_lead")


class LiveReplay:
    """Lets a client say what was recorded once the program is ready, and then ends the program."""

    def __init__(self, recording: Recording, settings: Settings) -> None:
        self._recording = recording
        self._settings = settings
        self._begun = False
        self.trouble = ""

    def look(self, status: ServiceStatus) -> None:
        """Called by the supervisor, in the main thread."""
        if not self._begun and status.not_ready() is None:
            self._begun = True
            tasks.thread("replay", self._play, status).start()

    def _play(self, status: ServiceStatus) -> None:
        try:
            asyncio.run(self._talk(status))
        except (OSError, WebSocketException, asyncio.TimeoutError) as error:
            self.trouble = f"The session broke off: {error}."
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    async def _talk(self, status: ServiceStatus) -> None:
        address = f"ws://{_HOST}:{self._settings.transcription_port}/"
        async with connect(address, proxy=None, max_size=None) as client:
            await client.send(json.dumps(handshake(self._recording)))
            ready = await asyncio.wait_for(_ready(client), _PATIENCE)
            address = f"ws://{_HOST}:{self._settings.speech_port}/?key={ready['audio_key']}"
            async with connect(address, proxy=None, max_size=None) as sound:
                readers = [tasks.start(_read(each), "reader") for each in (client, sound)]
                await self._say(client)
                await _until_quiet(status)
                for reader in readers:
                    reader.cancel()

    async def _say(self, client: ClientConnection) -> None:
        began = time.monotonic()
        with contextlib.suppress(WebSocketException):  # the server closes after END_OF_AUDIO
            for at, message in spoken(self._recording.entries):
                await asyncio.sleep(max(0.0, began + at - time.monotonic()))
                await client.send(message)


def play(recording: Recording, changes: dict[str, Any], serve: Serve, folder: Path) -> Recording:
    """Run the program for one session, and return its recording, made in `folder`.

    Raises FusionError where the program does not start or the session breaks off.
    """
    transcription, speech = _free_ports()
    settings = replace(
        settings_of(recording, changes),
        record=str(folder),
        host=_HOST,
        transcription_port=transcription,
        speech_port=speech,
        web_port=0,
    )
    live = LiveReplay(recording, settings)
    status = serve(settings, live.look)
    if status or live.trouble:
        raise RecordingError(live.trouble or "The program did not start; the lines above say why.")
    [path] = folder.glob(f"*{SUFFIX}")
    return load(path)


def _free_ports() -> tuple[int, int]:
    """Two ports that nobody listens on."""
    with socket.create_server((_HOST, 0)) as one, socket.create_server((_HOST, 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


def handshake(recording: Recording) -> dict[str, Any]:
    """What the client said first, for audio as it was recorded."""
    hello = recording.header.get("hello")
    if not isinstance(hello, dict):
        raise RecordingError("It does not hold its client's handshake.")
    said = {name: hello[name] for name in _HANDSHAKE if hello.get(name) not in (None, "")}
    said["language"] = hello.get("language")
    said["initial_prompt"] = hello.get("context", "")
    return said | {"history": _history(hello.get("history", [])), **_tools(hello.get("tools"))}


def spoken(entries: Iterable[Entry]) -> Iterator[tuple[float, str | bytes]]:
    """What the client said, as it goes over its socket, and when: seconds since it began."""
    began: float | None = None
    for entry in entries:
        at = entry.fields.get("at")
        if not isinstance(at, float):
            continue
        began = at if began is None else began
        message = entry.data or command(entry.fields.get("in"), entry.fields.get("given", {}))
        if message:
            yield at - began, message


def command(name: Any, given: dict[str, Any]) -> str:
    """The message that had a session told this; "" for what came from elsewhere."""
    if name == "end_of_audio":
        return END_OF_AUDIO
    said: dict[str, Any] = {"command": name}
    if name == "say":
        said["text"] = given["text"]
    elif name == "read_aloud":
        words = given["words"]
        said |= {"id": words["name"], "text": words["text"], "last": words["last"]}
    elif name == "interrupt":
        said["turn"] = given.get("turn")
    elif name == "configure":
        said |= _configured(given["changes"])
    elif name == "respond":
        said |= _wanted(given["wanted"])
    elif name not in ("end_turn", "clear"):
        return ""
    return json.dumps(said)


def _configured(changes: dict[str, Any]) -> dict[str, Any]:
    said = {name: each for name, each in changes.items() if name != "is" and each is not None}
    said |= {"history": _history(said["history"])} if "history" in said else {}
    return said | _tools(said.get("tools"))


def _wanted(wanted: dict[str, Any]) -> dict[str, Any]:
    wish = wanted["wish"]
    said = {"id": wanted["name"], "speak": wanted["speak"], "max_tokens": wish["max_tokens"]}
    said["system_prompt"] = wish["system_prompt"]
    if wish["aside"] is not None:
        said |= {"aside": True, "history": _history(wish["aside"])}
    return said | _tools(wish.get("tools"))


def _history(turns: list[list[str]]) -> list[dict[str, str]]:
    return [
        {"role": role, **(json.loads(text) if role.startswith("tool_") else {"content": text})}
        for role, text in turns
    ]


def _tools(offer: dict[str, Any] | None) -> dict[str, Any]:
    if offer is None:
        return {}
    told = ({name: each for name, each in tool.items() if name != "is"} for tool in offer["tools"])
    return {
        "tools": [tool | {"parameters": json.loads(tool["parameters"])} for tool in told],
        "tool_choice": offer["choice"],
        "tool_calls_end_reply": offer["ends_reply"],
        "parallel_tool_calls": offer["parallel"],
    }


async def _ready(client: ClientConnection) -> dict[str, Any]:
    async for message in client:
        fields: dict[str, Any] = json.loads(message)
        if fields.get("message") == "SERVER_READY":
            return fields
        if fields.get("status") == "ERROR":
            raise OSError(fields["message"])
    raise OSError("the server closed the connection")


async def _read(client: ClientConnection) -> None:
    with contextlib.suppress(WebSocketException):
        async for _ in client:
            pass


async def _until_quiet(status: ServiceStatus) -> None:
    """Wait until nothing is under way any more."""
    deadline = quiet_since = time.monotonic()
    deadline += _PATIENCE
    while time.monotonic() - quiet_since < _QUIET and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
        if status.turns_under_way:
            quiet_since = time.monotonic()
