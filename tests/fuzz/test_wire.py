"""Whatever strangers send to the three ports: nothing unexpected comes of it, others are served."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, cast
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import connect

from fusion import logs
from fusion.links import Links
from fusion.messages import SessionStarted
from fusion.selection import Choice, Pick
from fusion.serving.access import AccessPolicy
from fusion.serving.health import Health
from fusion.serving.ports import open_port
from fusion.serving.web import WebServer
from fusion.settings import Settings
from fusion.status import Phase, Service, ServiceStatus
from realtime.endpoint import RealtimeEndpoint
from tests.fuzz.inputs import INPUTS, TEXTS, attempt, fuzzing, json_like
from tests.fuzz.test_parsers import COMMANDS, EVENTS, HELLO
from tests.running import free_ports
from tests.test_resume import NoTranscriber, Sent
from tests.test_speech_server import Humming
from tts_service import SpeechServer
from whisper_live.server import TranscriptionServer


@dataclass
class World:
    """The three ports of one process, and whatever went wrong in it."""

    settings: Settings
    faults: list[str] = field(default_factory=list)
    speech: SpeechServer | None = None

    def check(self) -> None:
        """Nothing went wrong, and everybody is still served."""
        faults, self.faults[:] = list(self.faults), []
        assert not faults
        for port in (self.settings.transcription_port, self.settings.web_port):
            answer = exchange(port, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", hang_up=False)
            assert answer.startswith(b"HTTP/1.1 200"), (port, answer)


class Faults(logging.Handler):
    """Keeps what a log must not hold: an error with its traceback, but for those of a connection's
    other end (see `fusion/logs.py`)."""

    def __init__(self, kept: list[str]) -> None:
        super().__init__()
        self._kept = kept

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not isinstance(error, WebSocketException | OSError | EOFError):
            self._kept.append(self.format(record))


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    transcription, speech, web_port = free_ports(3)
    settings = Settings(
        transcription_port=transcription,
        speech_port=speech,
        web_port=web_port,
        max_clients=100,
        max_connections_per_address=200,
        max_handshakes_per_minute=1_000_000,
        handshake_timeout=1.0,
    )
    found = World(settings)
    handler = Faults(found.faults)
    logging.getLogger().addHandler(handler)
    logging.getLogger("websockets.server").addFilter(logs._is_our_fault)  # as each service does
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _, context: found.faults.append(str(context)))
    stop, ready = asyncio.Event(), threading.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(found, ready, stop),))
    thread.start()
    assert ready.wait(20)
    yield found
    loop.call_soon_threadsafe(stop.set)
    thread.join(20)
    logging.getLogger().removeHandler(handler)
    logging.getLogger("websockets.server").removeFilter(logs._is_our_fault)


async def serve(world: World, ready: threading.Event, stop: asyncio.Event) -> None:
    settings, status = world.settings, ServiceStatus()
    for service in Service:
        status.start(service)
        status.report(service, Phase.READY)
    sent = cast("Any", Sent())
    server = TranscriptionServer(settings, status, NoTranscriber(), None, sent, sent)
    world.speech = SpeechServer(Humming(), replace(settings), lambda message: None)
    world.speech.handle(SessionStarted("s", "key", "192.0.2.1", "en", "", ""))
    picks = [Pick("none", "test")] * 3
    links = Links("/none", b"", status, Choice(*picks))
    web = WebServer(settings, status, RealtimeEndpoint(settings, links).routes)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(port(settings, status, "transcription", server))
        await stack.enter_async_context(port(settings, status, "speech", world.speech))
        await asyncio.to_thread(web.start)
        ready.set()
        while not stop.is_set():
            for service in Service:
                status.beat(service)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(stop.wait(), 1)
        await asyncio.to_thread(web.stop)
        await server.close()
        world.speech.close()


@contextlib.asynccontextmanager
async def port(
    settings: Settings,
    status: ServiceStatus,
    purpose: str,
    server: TranscriptionServer | SpeechServer,
) -> AsyncIterator[None]:
    access = AccessPolicy(settings, Health(status))
    async with open_port(settings, purpose, access=access, max_size=1 << 16) as handler:
        handler.set_result(server.handle_connection)
        yield


def exchange(port: int, request: bytes, *, hang_up: bool = True) -> bytes:
    """Send bytes, and perhaps say that no more will come; the first bytes of what comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        try:
            client.sendall(request)
            if hang_up:
                client.shutdown(socket.SHUT_WR)
            return client.recv(200)
        except (ConnectionError, TimeoutError):
            return b""


METHODS = st.sampled_from(("GET", "POST", "HEAD", "PUT", "OPTIONS", "get", "PRI", "G\x00T"))
PATHS = st.sampled_from(
    (
        *("/", "/healthz", "/metrics", "/transcription", "/audio?key=key&turn=1&received=x", "//["),
        *("/v1/models", "/v1/realtime", "/v1/realtime/client_secrets", "/../main.py", "/%2e%2e/x"),
        *("*", "http://[/", "/%ff", "/a\x00b", "/" + "a" * 9000, "/?token=%ud800", "/app.js"),
    )
)
NAMES = st.sampled_from(
    (
        *("Host", "Origin", "Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version"),
        *("Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions", "Authorization", "Range"),
        *(
            "X-Forwarded-For",
            "Content-Length",
            "Transfer-Encoding",
            "Expect",
            "If-None-Match",
            "a b",
        ),
    )
)
FIELDS = st.sampled_from(
    (
        *(
            "localhost",
            "[::1",
            "websocket",
            "Upgrade",
            "keep-alive, Upgrade",
            "13",
            "chunked",
            "-1",
        ),
        *(
            "dGhlIHNhbXBsZSBub25jZQ==",
            "whisperfusion",
            "Bearer \x7f",
            "bytes=0-",
            "999999999999",
            "5",
        ),
        *("permessage-deflate; x=y", "100-continue", "http://[", "null", "\xe9", "a" * 9000),
    )
) | TEXTS.filter(lambda text: len(text) < 100)
UPGRADE = {
    "Host": "localhost",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Something like an HTTP request, with something like frames after it."""
    headers = list(UPGRADE.items()) if draw(st.booleans()) else []
    headers += draw(st.lists(st.tuples(NAMES, FIELDS), max_size=4))
    end = draw(st.sampled_from(("\r\n", "\r\n", "\r\n", "\n", "\r", "\r\n ")))
    version = draw(st.sampled_from(("HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2", "")))
    lines = [f"{draw(METHODS)} {draw(PATHS)} {version}"]
    lines += [f"{name}: {value}" for name, value in headers]
    request = (end.join(lines) + 2 * end).encode("utf-8", "surrogatepass")
    frames = draw(st.binary(max_size=20) | st.just(b"\x81\x85\0\0\0\0hello"))
    cut = draw(st.integers(0, len(request))) if draw(st.integers(0, 5)) == 0 else len(request)
    return request[:cut] + frames


@fuzzing
@given(st.sampled_from(("transcription", "speech", "web")), requests() | st.binary(max_size=200))
def test_http(world: World, purpose: str, request: bytes) -> None:
    number = getattr(world.settings, f"{purpose}_port")
    answer = attempt("HTTP requests", (), lambda: exchange(number, request))
    assert answer is not None
    assert not answer.startswith(b"HTTP/1.1 500"), answer
    world.check()


# A conversation takes a tenth of a second.
conversing = profile(fuzzing, max_examples=max(10, INPUTS // 10))
BYTES = st.binary(max_size=300)


@conversing
@given(
    json_like({"uid": "me", "stream": True}, {"uid": "me", "audio_format": "int16"}, HELLO) | BYTES,
    st.lists(json_like(*COMMANDS) | BYTES | st.sampled_from(("END_OF_AUDIO", b"END_OF_AUDIO"))),
)
def test_conversations(world: World, hello: str | bytes, messages: list[str | bytes]) -> None:
    hello = hello if isinstance(hello, bytes) else _sendable(hello)
    code = attempt(
        "conversations",
        (),
        lambda: converse(f"ws://127.0.0.1:{world.settings.transcription_port}/", hello, *messages),
    )
    assert code != 1011
    world.check()


@conversing
@given(
    st.sampled_from(("key", "guess", "")) | st.text(st.characters(codec="ascii"), max_size=9),
    st.lists(
        json_like({"event": "played", "turn": 1, "seconds": 0.5}) | st.binary(max_size=100),
        max_size=3,
    ),
)
def test_audio_connections(world: World, key: str, messages: list[str | bytes]) -> None:
    assert world.speech is not None
    for session in world.speech._clients.values():
        session.audio_key = "key"
    address = f"ws://127.0.0.1:{world.settings.speech_port}/?key={quote(key)}&turn=1&received={quote(key)}"
    code = attempt("audio connections", (), lambda: converse(address, *messages))
    assert code != 1011
    world.check()


@conversing
@given(st.lists(json_like(*EVENTS) | st.binary(max_size=100), max_size=4))
def test_realtime_connections(world: World, messages: list[str | bytes]) -> None:
    address = f"ws://127.0.0.1:{world.settings.web_port}/v1/realtime"
    code = attempt("realtime connections", (), lambda: converse(address, *messages))
    assert code != 1011
    world.check()


def converse(address: str, *messages: str | bytes) -> int | None:
    """Send these messages and hang up; the close code if the server was first."""
    try:
        with connect(address, compression=None, proxy=None, close_timeout=1) as client:
            for message in messages:
                client.send(message if isinstance(message, bytes) else _sendable(message))
            with contextlib.suppress(TimeoutError):
                client.recv(timeout=0.002)
            client.close()
            return client.close_code
    except ConnectionClosed as error:
        return error.rcvd.code if error.rcvd is not None else None
    except InvalidStatus as refusal:
        assert refusal.response.status_code < 500 or refusal.response.status_code == 503
        return None


def _sendable(text: str) -> str:
    """What UTF-8 can hold: halves of characters are sent in JSON's own way."""
    return text.encode("utf-8", "replace").decode()


def test_the_checks_find_what_they_are_for(world: World) -> None:
    try:
        json.loads("{")
    except ValueError:
        logging.getLogger("any").exception("unexpected")
    assert len(world.faults) == 1
    world.faults.clear()
    world.check()
