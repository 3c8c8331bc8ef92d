"""What a port does about clients who connect too much, or take their time."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import resource
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import InvalidStatus

from fusion.serving import timed_http
from fusion.serving.access import AccessPolicy
from fusion.serving.health import Health
from fusion.serving.limits import FULL, MOST_WAITING, TOO_MANY, TOO_OFTEN, Connections
from fusion.serving.ports import open_port
from fusion.serving.web import PAGE, WebServer
from fusion.settings import Settings
from fusion.status import Phase, Service, ServiceStatus
from tests.running import free_ports

# -- the rules ------------------------------------------------------------------------------------


def test_the_oldest_waiting_connection_of_the_busiest_address_gives_way() -> None:
    connections = Connections(most=10, per_address=10, per_minute=10)
    assert connections.opened(("calm", 1)) is None
    for port in range(MOST_WAITING - 1):
        assert connections.opened(("flood", port)) is None
    assert connections.opened(("other", 1)) == ("flood", 0)
    assert connections.opened(("flood", 100)) == ("flood", 1)
    assert connections.establish(("calm", 1), "calm", 0.0) is None


def test_an_address_has_a_share_and_gets_it_back() -> None:
    connections = Connections(most=3, per_address=2, per_minute=100)
    assert connections.establish(("a", 1), "a", 0.0) is None
    assert connections.establish(("a", 2), "a", 0.0) is None
    assert connections.establish(("a", 3), "a", 0.0) == TOO_MANY
    assert connections.establish(("b", 1), "b", 0.0) is None
    assert connections.establish(("c", 1), "c", 0.0) == FULL
    connections.closed(("a", 1))
    assert connections.establish(("a", 3), "a", 0.0) is None


def test_handshakes_of_an_address_are_counted_over_a_minute() -> None:
    connections = Connections(most=1000, per_address=1000, per_minute=6)
    answers = [connections.establish(("a", n), "a", 0.0) for n in range(8)]
    assert answers == [None] * 6 + [TOO_OFTEN] * 2
    assert connections.establish(("b", 0), "b", 0.0) is None
    assert connections.establish(("a", 8), "a", 9.0) == TOO_OFTEN
    assert connections.establish(("a", 9), "a", 10.0) is None
    assert connections.establish(("a", 10), "a", 10.0) == TOO_OFTEN


@given(st.lists(st.tuples(st.sampled_from(["open", "establish", "close"]), st.integers(0, 150))))
def test_no_order_of_events_breaks_a_limit(events: list[tuple[str, int]]) -> None:
    connections = Connections(most=20, per_address=5, per_minute=60)
    for now, (event, number) in enumerate(events):
        peer = (f"host{number % 7}", number)
        if event == "open":
            gives_way = connections.opened(peer)
            assert gives_way != peer
        elif event == "establish":
            connections.establish(peer, peer[0], float(now))
        else:
            connections.closed(peer)
        assert len(connections._waiting) <= MOST_WAITING
        assert len(connections._open) <= 20
    for number in range(151):
        connections.closed((f"host{number % 7}", number))
    assert not connections._waiting
    assert not connections._open


def test_addresses_that_come_no_more_are_forgotten() -> None:
    connections = Connections(most=10_000, per_address=5, per_minute=60)
    for number in range(5000):
        connections.establish(("x", number), f"address {number}", number / 100)
    connections.establish(("x", 5000), "the last", 200.0)
    assert len(connections._allowances) == 1


def test_there_are_no_more_connections_than_the_system_allows_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))
    assert Connections.of_port(Settings()).most == 96
    assert Connections.of_port(Settings(), descriptors=2).most == 48
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1 << 20, 1 << 20))
    assert Connections.of_port(Settings()).most == Settings().max_connections


# -- real sockets ---------------------------------------------------------------------------------


@pytest.fixture
def status() -> ServiceStatus:
    status = ServiceStatus()
    for service in Service:
        status.start(service)
        status.report(service, Phase.READY)
    return status


@pytest.fixture
def settings() -> Settings:
    speech, web = free_ports(2)
    return Settings(
        host="127.0.0.1",
        speech_port=speech,
        transcription_port=speech,
        web_port=web,
        max_connections_per_address=3,
        max_handshakes_per_minute=8,
        trusted_proxies="",
        handshake_timeout=5.0,
    )


@pytest.fixture
async def port(settings: Settings, status: ServiceStatus) -> AsyncIterator[int]:
    """A port that does nothing with its connections."""

    async def stay(connection: ServerConnection, access: AccessPolicy) -> None:
        await connection.wait_closed()

    access = AccessPolicy(settings, Health(status))
    async with open_port(settings, "speech", access=access, max_size=1000) as handler:
        handler.set_result(stay)
        yield settings.speech_port


@pytest.fixture
def web(settings: Settings, status: ServiceStatus) -> Iterator[int]:
    server = WebServer(settings, status)
    server.start()
    yield server.port
    server.stop()


async def healthy(port: int) -> bool:
    async with httpx.AsyncClient(trust_env=False, timeout=3) as client:
        return (await client.get(f"http://127.0.0.1:{port}/healthz")).status_code == 200


Opened = Callable[[int, int, bytes], Awaitable[list[socket.socket]]]


@pytest.fixture
async def unfinished() -> AsyncIterator[Opened]:
    """Open connections to a port whose request begins so and does not come to an end."""
    opened: list[socket.socket] = []

    def begin(port: int, number: int, beginning: bytes) -> list[socket.socket]:
        clients = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(number)]
        opened.extend(clients)
        for client in clients:
            with contextlib.suppress(ConnectionError):  # it had to give way already
                client.sendall(beginning)
        return clients

    async def begin_in_thread(port: int, number: int, beginning: bytes) -> list[socket.socket]:
        return await asyncio.to_thread(begin, port, number, beginning)

    yield begin_in_thread
    for client in opened:
        client.close()


def ended(client: socket.socket, timeout: float) -> bool:
    client.settimeout(timeout)
    try:
        while client.recv(4096):
            pass
        return True
    except ConnectionError:
        return True
    except TimeoutError:
        return False


@pytest.mark.parametrize("beginning", [b"", b"GET / HTTP/1.1\r\nHost: loc"])
@pytest.mark.parametrize("page", [False, True])
async def test_unfinished_requests_keep_nobody_out(
    port: int, web: int, page: bool, beginning: bytes, unfinished: Opened
) -> None:
    number = web if page else port
    opened = await unfinished(number, 150, beginning)
    assert await healthy(number)
    assert await asyncio.to_thread(ended, opened[0], 3.0), "the oldest had to give way"
    assert not await asyncio.to_thread(ended, opened[-1], 0.1), "the newest may go on"


async def test_headers_have_to_come_in_time(
    settings: Settings, status: ServiceStatus, unfinished: Opened
) -> None:
    server = WebServer(dataclasses.replace(settings, handshake_timeout=0.3), status)
    await asyncio.to_thread(server.start)
    try:
        [client] = await unfinished(server.port, 1, b"GET / HTTP/1.1\r\n")
        assert await asyncio.to_thread(ended, client, 3.0)
        [client] = await unfinished(server.port, 1, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        client.settimeout(3)
        assert (await asyncio.to_thread(client.recv, 4096)).startswith(b"HTTP/1.1 200")
        client.sendall(b"GET /")  # the next one on the same connection has its time as well
        assert await asyncio.to_thread(ended, client, 3.0)
    finally:
        await asyncio.to_thread(server.stop)


def test_an_answer_has_to_be_taken_in_time(
    settings: Settings, status: ServiceStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timed_http, "REQUEST_TIMEOUT", 0.3)
    server = WebServer(dataclasses.replace(settings, handshake_timeout=0.3), status)
    server.start()
    try:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", server.port))
            request = b"GET /app.js HTTP/1.1\r\nHost: x\r\n\r\n"
            client.sendall(2000 * request)
            time.sleep(1.5)  # it takes nothing; what the system has taken for it comes after all
            client.settimeout(10)
            taken = 0
            with contextlib.suppress(ConnectionError):
                while got := client.recv(1 << 16):
                    taken += len(got)
            assert taken < 2000 * (PAGE / "app.js").stat().st_size
    finally:
        server.stop()


async def test_one_address_gets_its_share_of_the_sockets(port: int, web: int) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(connect(f"ws://127.0.0.1:{port}", proxy=None))
        for address in (f"ws://127.0.0.1:{port}", f"ws://127.0.0.1:{web}/audio"):
            with pytest.raises(InvalidStatus) as refusal:
                await connect(address, proxy=None)
            assert refusal.value.response.status_code == 429
            assert b"too many" in (refusal.value.response.body or b"")
        elsewhere = {"X-Forwarded-For": "192.0.2.9"}
        await stack.enter_async_context(
            connect(f"ws://127.0.0.1:{port}", proxy=None, additional_headers=elsewhere)
        )
    async with connect(f"ws://127.0.0.1:{web}/audio", proxy=None):
        pass  # those who left have made room


async def test_one_address_cannot_connect_again_and_again(port: int) -> None:
    answers = []
    for _ in range(10):
        try:
            async with connect(f"ws://127.0.0.1:{port}", proxy=None):
                answers.append(101)
        except InvalidStatus as refusal:
            answers.append(refusal.response.status_code)
    assert answers == [101] * 8 + [429] * 2
    assert await healthy(port)
