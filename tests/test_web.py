"""The page server and its relay, with real sockets on both sides."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response

from fusion.errors import ConfigurationError
from fusion.serving import elsewhere, tls
from fusion.serving.limits import Connections
from fusion.serving.web import PAGE, WebServer, application
from fusion.settings import Settings
from fusion.status import Phase, Service, ServiceStatus

Handler = Callable[[ServerConnection], Awaitable[None]]


@pytest.fixture
def status() -> ServiceStatus:
    status = ServiceStatus()
    for service in Service:
        status.start(service)
        status.report(service, Phase.READY)
    return status


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return dataclasses.replace(Settings(), host="127.0.0.1", web_port=0, cache=str(tmp_path))


@pytest.fixture
def web(settings: Settings, status: ServiceStatus) -> Iterator[WebServer]:
    server = WebServer(settings, status)
    server.start()
    yield server
    server.stop()


def get(web: WebServer, path: str) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{web.port}{path}", trust_env=False)


# -- the page -------------------------------------------------------------------------------------


def test_every_file_of_the_page_is_served_with_its_type(web: WebServer) -> None:
    types = {
        ".html": "text/html",
        ".js": "text/javascript",
        ".css": "text/css",
        ".webmanifest": "application/manifest+json",
    }
    types |= {".svg": "image/svg+xml", ".png": "image/png", ".txt": "text/plain"}
    files = [path for path in PAGE.rglob("*") if path.is_file()]
    assert len(files) > 20
    for path in files:
        response = get(web, f"/{path.relative_to(PAGE).as_posix()}")
        assert response.status_code == 200
        assert response.headers["content-type"].split(";")[0] == types[path.suffix]
        assert response.content == path.read_bytes()
    assert get(web, "/").content == (PAGE / "index.html").read_bytes()


def test_nothing_outside_the_page_is_served(web: WebServer) -> None:
    with socket.create_connection(("127.0.0.1", web.port), timeout=5) as raw:
        raw.sendall(b"GET /../fusion/settings.py HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 404")


def test_the_page_may_load_only_what_is_its_own(web: WebServer) -> None:
    for path in ("/", "/app.js", "/missing", "/healthz"):
        headers = get(web, path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert headers["permissions-policy"].startswith("microphone=(self)")
        assert headers["x-content-type-options"] == "nosniff"


def test_a_browser_keeps_files_but_asks_whether_they_changed(web: WebServer) -> None:
    first = get(web, "/app.js")
    assert first.headers["cache-control"] == "no-cache"
    again = httpx.get(
        f"http://127.0.0.1:{web.port}/app.js",
        headers={"If-None-Match": first.headers["etag"]},
        trust_env=False,
    )
    assert again.status_code == 304


def test_health_tells_why_it_is_not_ready(web: WebServer, status: ServiceStatus) -> None:
    assert (get(web, "/healthz").status_code, get(web, "/healthz").text) == (200, "ok\n")
    status.report(Service.VOICE, Phase.LOADING)
    response = get(web, "/healthz")
    assert (response.status_code, response.text) == (503, "loading the voice\n")
    assert int(response.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    ("host", "asked_at", "found"),
    [
        ("0.0.0.0", "localhost", ["http://192.168.1.5:{port}/", "http://[fd00::5]:{port}/"]),
        ("0.0.0.0", "192.168.1.5", []),
        ("192.168.1.5", "127.0.0.1", ["http://192.168.1.5:{port}/"]),
        ("127.0.0.1", "localhost", []),
    ],
)
def test_this_machine_alone_is_told_where_others_find_the_page(
    settings: Settings,
    status: ServiceStatus,
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    asked_at: str,
    found: list[str],
) -> None:
    monkeypatch.setattr(elsewhere, "machine_addresses", lambda: ["192.168.1.5", "fd00::5"])
    given = dataclasses.replace(settings, host=host, token="s3cret")
    page = application(given, status, Connections.of_port(given))
    client = TestClient(page, base_url=f"http://{asked_at}:8123")
    expected = [address.format(port=8123) for address in found]
    assert client.get("/addresses").json() == {"addresses": expected}


def test_metrics_count_restarts(web: WebServer, status: ServiceStatus) -> None:
    status.start(Service.VOICE)
    text = get(web, "/metrics").text
    assert 'whisperfusion_restarts_total{service="voice"} 1.0' in text
    assert 'whisperfusion_restarts_total{service="transcription"} 0.0' in text
    assert "whisperfusion_ready 0.0" in text


def test_a_taken_port_is_one_clear_sentence(settings: Settings, status: ServiceStatus) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = WebServer(dataclasses.replace(settings, web_port=port), status)
        with pytest.raises(ConfigurationError, match=f"^Port {port} .*--web_port"):
            server.start()
        server.stop()


def test_after_stop_the_port_is_free(settings: Settings, status: ServiceStatus) -> None:
    server = WebServer(settings, status)
    server.start()
    server.stop()
    server.stop()
    with socket.create_server(("127.0.0.1", server.port)):
        pass


# -- the relay ------------------------------------------------------------------------------------

Relayed = Callable[..., Awaitable[str]]


@pytest.fixture
async def relayed(settings: Settings, status: ServiceStatus) -> AsyncIterator[Relayed]:
    """Start a port with this handler and the page server in front; returns the relay's address."""
    opened: list[tuple[Server, WebServer]] = []

    async def start(handler: Handler, **options: object) -> str:
        context = tls.ssl_context(settings_of(options))
        process = options.pop("process_request", None)
        port = await serve(
            handler, "127.0.0.1", 0, ssl=context, process_request=process, max_size=None
        )
        number = next(iter(port.sockets)).getsockname()[1]
        given = dataclasses.replace(
            settings_of(options), transcription_port=number, speech_port=number
        )
        web = WebServer(given, status)
        await asyncio.to_thread(web.start)
        opened.append((port, web))
        return f"{'wss' if context else 'ws'}://127.0.0.1:{web.port}"

    def settings_of(options: dict[str, object]) -> Settings:
        wanted = {name: value for name, value in options.items() if name != "process_request"}
        return dataclasses.replace(settings, **wanted)  # type: ignore[arg-type]

    yield start
    for port, web in opened:
        await asyncio.to_thread(web.stop)
        port.close()
        await port.wait_closed()


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


def open_socket(address: str, **options: object) -> connect:
    return connect(address, proxy=None, max_size=None, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["/transcription", "/audio"])
async def test_messages_go_both_ways_unchanged(relayed: Relayed, path: str) -> None:
    address = await relayed(echo)
    async with open_socket(address + path) as client:
        for message in ("text ü", b"\x00\x01\xff", "", b"", "x" * 100_000, bytes(1_000_000)):
            await client.send(message)
            assert await client.recv() == message


async def test_small_messages_do_not_wait_for_one_another(relayed: Relayed) -> None:
    async def burst(connection: ServerConnection) -> None:
        await connection.recv()
        for number in range(4):
            await connection.send(f"message {number}")
            await asyncio.sleep(0.001)
        await connection.wait_closed()

    address = await relayed(burst)
    took = []
    for _ in range(3):  # the first burst of a connection is the one that waits
        async with open_socket(address + "/audio") as client:
            began = asyncio.get_running_loop().time()
            await client.send("go")
            for _ in range(4):
                await client.recv()
            took.append(asyncio.get_running_loop().time() - began)
    assert min(took) < 0.03


async def test_the_port_sees_who_really_asks(relayed: Relayed) -> None:
    seen: list[Request] = []

    async def look(connection: ServerConnection) -> None:
        assert connection.request is not None
        seen.append(connection.request)

    address = await relayed(look)
    headers = {"Origin": "http://page.example:8000", "X-Forwarded-For": "203.0.113.5"}
    async with open_socket(
        address + "/audio?key=a%20b&token=s", additional_headers=headers
    ) as client:
        with pytest.raises(ConnectionClosed):
            await client.recv()
    request = seen[0]
    assert request.path == "/?key=a%20b&token=s"
    assert request.headers["Origin"] == "http://page.example:8000"
    assert request.headers["Host"] == address.removeprefix("ws://")
    assert request.headers["X-Forwarded-For"] == "203.0.113.5, 127.0.0.1"


async def test_last_words_and_close_code_reach_the_client(relayed: Relayed) -> None:
    async def refuse(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send("why")
        await connection.close(1008, "the handshake is wrong")

    address = await relayed(refuse)
    async with open_socket(address + "/transcription") as client:
        await client.send("hello")
        await client.send(
            bytes(200_000)
        )  # fails at the closed port, which must not hide the answer
        assert await client.recv() == "why"
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert (client.close_code, client.close_reason) == (1008, "the handshake is wrong")


async def test_the_client_s_close_reaches_the_port(relayed: Relayed) -> None:
    closed: asyncio.Future[tuple[int | None, str | None]] = asyncio.Future()

    async def wait(connection: ServerConnection) -> None:
        await connection.wait_closed()
        closed.set_result((connection.close_code, connection.close_reason))

    address = await relayed(wait)
    async with open_socket(address + "/audio") as client:
        await client.close(4001, "bye")
    assert await asyncio.wait_for(closed, 5) == (4001, "bye")


async def test_a_client_that_vanishes_leaves_nothing_behind(relayed: Relayed) -> None:
    closed: asyncio.Future[int | None] = asyncio.Future()

    async def wait(connection: ServerConnection) -> None:
        await connection.wait_closed()
        closed.set_result(connection.close_code)

    address = await relayed(wait)
    async with open_socket(address + "/audio") as client:
        client.transport.abort()
    assert await asyncio.wait_for(closed, 5) in (1001, 1006)


async def test_a_port_that_dies_is_a_bad_gateway(relayed: Relayed) -> None:
    async def die(connection: ServerConnection) -> None:
        connection.transport.abort()

    address = await relayed(die)
    async with open_socket(address + "/audio") as client:
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert client.close_code == 1014


async def test_a_port_that_is_not_there_yet_is_said_over_http(
    settings: Settings, status: ServiceStatus
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    web = WebServer(dataclasses.replace(settings, transcription_port=port), status)
    await asyncio.to_thread(web.start)
    try:
        with pytest.raises(InvalidStatus) as refusal:
            await open_socket(f"ws://127.0.0.1:{web.port}/transcription")
        assert refusal.value.response.status_code == 503
    finally:
        await asyncio.to_thread(web.stop)


async def test_the_port_s_refusal_over_http_is_handed_on(relayed: Relayed) -> None:
    def forbid(connection: ServerConnection, request: Request) -> Response:
        return connection.respond(403, "this origin may not\n")

    address = await relayed(echo, process_request=forbid)
    with pytest.raises(InvalidStatus) as refusal:
        await open_socket(address + "/transcription")
    response = refusal.value.response
    assert (response.status_code, response.body) == (403, b"this origin may not\n")


async def test_other_paths_are_no_sockets(relayed: Relayed) -> None:
    address = await relayed(echo)
    with pytest.raises(InvalidStatus) as refusal:
        await open_socket(address + "/elsewhere")
    assert refusal.value.response.status_code == 403


async def test_a_slow_port_slows_the_client_down(relayed: Relayed) -> None:
    slow = asyncio.Event()

    async def stall(connection: ServerConnection) -> None:
        await slow.wait()
        async for _ in connection:
            pass

    address = await relayed(stall)
    async with open_socket(address + "/transcription") as client:
        taken = await megabytes_taken(client)
        slow.set()
        assert taken < kernel_megabytes() + 10, "the relay keeps what the port does not take"


def kernel_megabytes() -> float:
    """What the system's buffers of the two connections may hold, from client to port."""
    most = [
        int(Path(f"/proc/sys/net/ipv4/{name}").read_text().split()[2])
        for name in ("tcp_rmem", "tcp_wmem")
    ]
    return 2 * sum(most) / 1e6


async def megabytes_taken(client: ClientConnection) -> int:
    message = bytes(1_000_000)
    for count in range(200):
        try:
            await asyncio.wait_for(client.send(message), 1)
        except asyncio.TimeoutError:
            return count
    return 200


async def test_a_message_beyond_the_limit_is_not_taken(relayed: Relayed) -> None:
    address = await relayed(echo, max_message_bytes=1000)
    async with open_socket(address + "/transcription") as client:
        await client.send(bytes(2000))
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert client.close_code == 1009


async def test_one_certificate_is_enough_for_page_and_sockets(relayed: Relayed) -> None:
    address = await relayed(echo, tls=True)
    trust = ssl.create_default_context()
    trust.check_hostname = False
    trust.verify_mode = ssl.CERT_NONE
    async with open_socket(address + "/transcription", ssl=trust) as client:
        await client.send("hello")
        assert await client.recv() == "hello"
    page = await asyncio.to_thread(
        httpx.get, address.replace("wss", "https") + "/", verify=False, trust_env=False
    )
    assert page.status_code == 200
