"""What strangers send to get in, or to make a mess of the log."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import logging
import socket
from collections.abc import Iterator

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers

from fusion import logs
from fusion.serving.access import AccessPolicy, query
from fusion.serving.banner import ready_banner
from fusion.serving.health import Health
from fusion.serving.ports import open_port
from fusion.serving.web import WebServer
from fusion.settings import Settings
from fusion.status import ServiceStatus
from tests.running import free_ports

JUNK = (b"junk\r\n\r\n", b"\x16\x03\x01\x02", b"GET //[ HTTP/1.1\r\nHost: [\r\n\r\n")
HERE = socket.gethostname().lower()


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """The log of this process, as a service writes it."""
    root = logging.getLogger()
    before, level = root.handlers, root.level
    logs.configure("info", "test")
    stream = io.StringIO()
    [handler] = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(stream)
    yield stream
    root.handlers, root.level = before, level


def policy(**settings: object) -> AccessPolicy:
    return AccessPolicy(Settings(**settings), Health(ServiceStatus()))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("origin", "host", "accepted"),
    [
        ("http://localhost:8000", "localhost:8000", True),
        ("http://localhost:8000", "localhost:6006", True),
        ("http://127.0.0.1:8000", "127.0.0.1:8000", True),
        ("https://192.0.2.7:8000", "192.0.2.7:8000", True),
        ("http://[::1]:8000", "[::1]:8000", True),
        (f"http://{HERE}:8000", f"{HERE}:8000", True),
        ("https://talk.example", "talk.example", True),
        ("http://evil.example:8000", "evil.example:8000", False),
        ("http://evil.example", "evil.example", False),
        ("http://localhost:3000", "localhost:8000", False),
        ("http://localhost:3000", "localhost:6006", False),
        ("http://evil.example", "localhost:6006", False),
        ("http://[", "localhost:6006", False),
        ("http://localhost:8000", "[::1", False),
        ("http://localhost:x", "localhost:x", False),
        ("null", "localhost:6006", False),
        ("", "", False),
    ],
)
def test_pages_of_this_server_alone_may_connect(origin: str, host: str, accepted: bool) -> None:
    access = policy(allowed_hosts="talk.example")
    assert access.accepts_origin(Headers({"Origin": origin, "Host": host})) == accepted


def test_who_names_two_origins_or_hosts_may_not() -> None:
    for twice in ("Origin", "Host"):
        headers = Headers({"Origin": "http://localhost:8000", "Host": "localhost:8000"})
        assert policy().accepts_origin(headers)
        headers[twice] = headers[twice]
        assert not policy().accepts_origin(headers)
        assert not policy(allowed_origins="*").accepts_origin(headers)


def test_any_name_may_be_allowed() -> None:
    headers = Headers({"Origin": "http://any.example", "Host": "any.example"})
    assert policy(allowed_hosts="*").accepts_origin(headers)


async def test_junk_leaves_no_traceback_and_no_secret(log: io.StringIO) -> None:
    speech, page = free_ports(2)
    settings = Settings(host="127.0.0.1", speech_port=speech, transcription_port=speech)
    settings = dataclasses.replace(settings, web_port=page)
    access = AccessPolicy(settings, Health(ServiceStatus()))

    async def serve(connection: ServerConnection, _: AccessPolicy) -> None:
        query(connection, "token")
        await connection.wait_closed()

    web = WebServer(settings, ServiceStatus())
    web.start()
    try:
        async with open_port(settings, "speech", access=access, max_size=1000) as handler:
            handler.set_result(serve)
            for port, path in ((speech, "/"), (page, "/transcription")):
                for headers in ({"Host": "[::1"}, {"Host": "a b"}, {"Origin": "http://["}):
                    answer = await handshake(port, f"{path}?token=SECRET", headers)
                    assert answer.split()[1] in (b"400", b"403")
            async with connect(f"ws://127.0.0.1:{speech}//[?token=SECRET", proxy=None):
                pass
            for port in (speech, page):
                for junk in JUNK:
                    with socket.create_connection(("127.0.0.1", port)) as client:
                        client.sendall(junk)
            async with httpx.AsyncClient(trust_env=False) as client:
                assert (await client.get(f"http://127.0.0.1:{speech}/healthz")).status_code == 503
                assert (await client.get(f"http://127.0.0.1:{page}/healthz")).status_code == 503
    finally:
        web.stop()
    assert "Traceback" not in log.getvalue()
    assert "SECRET" not in log.getvalue()


async def handshake(port: int, path: str, headers: dict[str, str]) -> bytes:
    """The first line of the answer to a handshake with these headers."""
    lines = {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}", **headers}
    fields = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    request = (
        f"GET {path} HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{fields}"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request.encode())
    answer = await asyncio.wait_for(reader.readline(), 5)
    writer.close()
    return answer


def test_a_message_is_one_line_of_the_log(log: io.StringIO) -> None:
    logging.getLogger("any").info("%s left", "me\n12:00:00.000 main: INFO all is well\x1b[2J")
    assert log.getvalue().count("\n") == 1
    assert "\x1b" not in log.getvalue()


def test_the_token_is_shown_to_a_terminal_alone() -> None:
    settings = Settings(host="127.0.0.1", token="SECRET")
    assert "SECRET" in ready_banner(settings, 8000)
    assert "SECRET" not in ready_banner(settings, 8000, with_token=False)
