"""The real nginx with this project's configuration, in front of a scripted server."""

from __future__ import annotations

import asyncio
import datetime
import gzip
import http
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import InvalidStatus
from websockets.http11 import Request, Response

from tests.nginx import Nginx, free_port

pytestmark = pytest.mark.nginx

PATHS = ("/transcription", "/audio")
PAGE_TEXT = "<!doctype html><title>WhisperFusion</title>"
SCRIPT = "// a module of the page\n" * 200
MAX_SIZE = 32 << 20


class ScriptedServer:
    """Both ports of the server: answers /healthz, notes each handshake, echoes each message."""

    def __init__(self) -> None:
        self.ports = (free_port(), free_port())
        self.handshakes: list[tuple[int, Request]] = []
        self.reason = ""
        self._servers: list[Server] = []

    async def start(self) -> None:
        for port in self.ports:
            self._servers.append(
                await serve(
                    self._echo,
                    "127.0.0.1",
                    port,
                    process_request=self._answer,
                    max_size=MAX_SIZE,
                )
            )

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
            await asyncio.wait_for(server.wait_closed(), 10)
        self._servers.clear()

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        port = connection.local_address[1]
        self.handshakes.append((port, request))
        if request.path != "/healthz":
            return None
        if self.reason:
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, self.reason)
        return connection.respond(http.HTTPStatus.OK, "ok")

    async def _echo(self, connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    scripted = ScriptedServer()
    await scripted.start()
    yield scripted
    await scripted.stop()


@pytest.fixture
def page(tmp_path: Path) -> Path:
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "index.html").write_text(PAGE_TEXT)
    (folder / "app.js").write_text(SCRIPT)
    return folder


@pytest.fixture
def front(tmp_path: Path, page: Path, server: ScriptedServer) -> Iterator[Nginx]:
    nginx = Nginx(
        tmp_path / "nginx",
        page,
        transcription_port=server.ports[0],
        speech_port=server.ports[1],
    )
    nginx.start()
    yield nginx
    nginx.stop()


async def get(front: Nginx, path: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
        return await client.get(f"http://127.0.0.1:{front.port}{path}", headers=headers)


def socket_at(front: Nginx, path: str, **options: object) -> connect:
    options = {"max_size": MAX_SIZE, "open_timeout": 10, "proxy": None, **options}
    return connect(f"ws://127.0.0.1:{front.port}{path}", **options)  # type: ignore[arg-type]


def test_the_configuration_is_valid(front: Nginx) -> None:
    result = subprocess.run(
        [*front.command, "-t"], capture_output=True, text=True, timeout=20, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "warn" not in result.stderr


@pytest.mark.parametrize(("path", "port"), [(PATHS[0], 0), (PATHS[1], 1), ("/audio/", 1)])
async def test_both_paths_reach_their_port(
    front: Nginx, server: ScriptedServer, path: str, port: int
) -> None:
    async with socket_at(front, f"{path}?key=a%2Bb&token=c") as connection:
        await connection.send("hello")
        assert await asyncio.wait_for(connection.recv(), 10) == "hello"
    ((reached, request),) = server.handshakes
    assert reached == server.ports[port]
    assert request.path == "/?key=a%2Bb&token=c"
    assert request.headers["Host"] == f"127.0.0.1:{front.port}"


async def test_the_client_s_address_cannot_be_forged(front: Nginx, server: ScriptedServer) -> None:
    forged = {"X-Forwarded-For": "203.0.113.9"}
    async with socket_at(front, "/audio", additional_headers=forged):
        pass
    headers = server.handshakes[0][1].headers
    assert headers.get_all("X-Forwarded-For") == ["127.0.0.1"]
    assert headers["X-Forwarded-Proto"] == "http"


async def test_the_page_s_origin_reaches_the_server(front: Nginx, server: ScriptedServer) -> None:
    async with socket_at(front, "/transcription", origin="https://talk.example"):
        pass
    assert server.handshakes[0][1].headers["Origin"] == "https://talk.example"


@pytest.mark.parametrize("path", PATHS)
async def test_large_binary_messages_pass_whole(front: Nginx, path: str) -> None:
    message = bytes(range(256)) * (8 << 12)
    async with socket_at(front, path) as connection:
        await connection.send(message)
        assert await asyncio.wait_for(connection.recv(), 20) == message


@pytest.mark.parametrize("path", PATHS)
async def test_small_messages_are_not_held_back(front: Nginx, path: str) -> None:
    """Each is sent only once the one before it came back: a buffer that waits would stop this."""
    async with socket_at(front, path) as connection:
        for number in range(50):
            await connection.send(bytes([number]) * 16)
            assert await asyncio.wait_for(connection.recv(), 5) == bytes([number]) * 16


async def test_health_is_the_server_s_own_word(front: Nginx, server: ScriptedServer) -> None:
    answer = await get(front, "/healthz")
    assert (answer.status_code, answer.text) == (200, "ok")
    server.reason = "loading the voice"
    answer = await get(front, "/healthz")
    assert (answer.status_code, answer.text) == (503, "loading the voice")


async def test_until_the_server_is_up_there_is_a_page_and_a_reason(
    front: Nginx, server: ScriptedServer
) -> None:
    await server.stop()
    assert (await get(front, "/")).text == PAGE_TEXT
    answer = await get(front, "/healthz")
    assert answer.status_code == 503
    assert answer.text.startswith("the server is not up yet")
    assert answer.headers["Retry-After"] == "5"
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert "Content-Security-Policy" in answer.headers
    for path in PATHS:
        with pytest.raises(InvalidStatus) as refusal:
            async with socket_at(front, path):
                pass
        assert refusal.value.response.status_code == 503
        assert refusal.value.response.body.startswith(b"the server is not up yet")

    await server.start()
    assert (await get(front, "/healthz")).status_code == 200
    for path in PATHS:
        async with socket_at(front, path) as connection:
            await connection.send("back")
            assert await asyncio.wait_for(connection.recv(), 10) == "back"


async def test_a_server_whose_name_is_not_known_yet(tmp_path: Path, page: Path) -> None:
    """As in Docker before the server's container has started. With no name server it takes 3 s."""
    nginx = Nginx(
        tmp_path / "nginx",
        page,
        transcription_port=free_port(),
        speech_port=free_port(),
        server="whisperfusion.invalid",
    )
    nginx.start()
    try:
        assert (await get(nginx, "/")).text == PAGE_TEXT
        answer = await get(nginx, "/healthz")
        assert answer.status_code == 503
        assert answer.text.startswith("the server is not up yet")
    finally:
        nginx.stop()


async def test_the_page_comes_with_its_headers(front: Nginx) -> None:
    answer = await get(front, "/")
    assert answer.text == PAGE_TEXT
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Server"] == "nginx"
    policy = dict(
        part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";")
    )
    host = f"127.0.0.1:{front.port}"
    assert policy == {
        "default-src": "'self'",
        "connect-src": f"'self' ws://{host} wss://{host}",
        "object-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert answer.headers["Permissions-Policy"].startswith("microphone=(self)")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"


async def test_scripts_are_compressed_and_asked_for_again(front: Nginx, page: Path) -> None:
    answer = await get(front, "/app.js", **{"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.text == SCRIPT
    assert int(answer.headers.get("Content-Length", 0)) <= len(gzip.compress(SCRIPT.encode())) * 2
    assert answer.headers["Content-Type"].split(";")[0] in (
        "application/javascript",
        "text/javascript",
    )
    assert answer.headers["Cache-Control"] == "no-cache"
    again = await get(front, "/app.js", **{"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304
    (page / "app.js").write_text("// another version")
    assert (await get(front, "/app.js")).text == "// another version"


async def test_the_page_learns_where_the_sockets_are(front: Nginx) -> None:
    answer = await get(front, "/config.json")
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.json() == {"transcription": "/transcription", "audio": "/audio"}


async def test_nothing_else_is_served(front: Nginx, page: Path) -> None:
    (page.parent / "secret").write_text("not for the web")
    (page / "folder").mkdir()
    for path in ("/metrics", "/no-such-file", "/..%2fsecret", "/folder/"):
        answer = await get(front, path)
        assert answer.status_code in (400, 403, 404), path
        assert "Content-Security-Policy" in answer.headers or answer.status_code == 400


async def test_a_body_is_refused(front: Nginx) -> None:
    async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
        answer = await client.post(f"http://127.0.0.1:{front.port}/healthz", content=b"x" * 4096)
    assert answer.status_code == 413


async def test_one_address_gets_no_more_than_32_sockets(front: Nginx) -> None:
    opened = [await socket_at(front, "/transcription") for _ in range(32)]
    with pytest.raises(InvalidStatus) as refusal:
        await socket_at(front, "/audio")
    assert refusal.value.response.status_code == 429
    for connection in opened:
        await connection.close()


async def test_tokens_and_keys_stay_out_of_the_log(front: Nginx) -> None:
    async with socket_at(front, "/audio?key=SECRET&token=SECRET"):
        pass
    await get(front, "/?token=SECRET")
    front.stop()
    log = front.access_log.read_text()
    assert '"GET /audio" 101' in log and '"GET /index.html" 200' in log
    assert "SECRET" not in log


async def test_tls_beside_plain_http(tmp_path: Path, page: Path, server: ScriptedServer) -> None:
    certificate, key = make_certificate(tmp_path)
    nginx = Nginx(
        tmp_path / "nginx", page, transcription_port=server.ports[0], speech_port=server.ports[1]
    )
    nginx.add_tls(certificate, key)
    nginx.start()
    try:
        context = ssl.create_default_context(cafile=str(certificate))
        uri = f"wss://localhost:{nginx.tls_port}/transcription"
        async with connect(uri, ssl=context, open_timeout=10, proxy=None) as connection:
            await connection.send("hello")
            assert await asyncio.wait_for(connection.recv(), 10) == "hello"
        assert server.handshakes[0][1].headers["X-Forwarded-Proto"] == "https"
        async with httpx.AsyncClient(timeout=10, verify=context, trust_env=False) as client:
            answer = await client.get(f"https://localhost:{nginx.tls_port}/")
        assert answer.text == PAGE_TEXT
        assert (await get(nginx, "/")).text == PAGE_TEXT
    finally:
        nginx.stop()


def make_certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "fullchain.pem", folder / "privkey.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate_file, key_file
