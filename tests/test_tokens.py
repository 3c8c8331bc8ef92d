"""The secrets that let clients in: their file, where a client shows one, and who looks at it."""

from __future__ import annotations

import asyncio
import hmac
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from fusion.errors import ConfigurationError
from fusion.serving.access import AccessPolicy, Caller
from fusion.serving.health import Health
from fusion.serving.ports import open_port
from fusion.serving.tokens import SUBPROTOCOL, TOKEN_PROTOCOL, Tokens, shown_in
from fusion.serving.web import WebServer
from fusion.settings import Settings
from fusion.status import ServiceStatus
from tests.running import free_ports

TOKENS = """
# who may come
anna  7Yf-first
bob@home 7Yf-second

anna 7Yf-next
unnamed
"""


def written(path: Path, text: str, at: int = 1) -> str:
    """A file with a text, changed at a time that no other test file has."""
    path.write_text(text)
    os.utime(path, ns=(at, at))
    return str(path)


def test_a_file_holds_tokens_with_names(tmp_path: Path) -> None:
    tokens = Tokens(Settings(token="own one", token_file=written(tmp_path / "t", TOKENS)))
    assert tokens
    for token, name in {
        "7Yf-first": "anna",
        "7Yf-next": "anna",
        "7Yf-second": "bob@home",
        "unnamed": "",
        "own one": "",
    }.items():
        assert tokens.name_of([token]) == name
        assert tokens.name_of(["wrong", token]) == name
    for wrong in ("", "7Yf", "anna", "7Yf-first ", "own", "\ud800", "anna 7Yf-first"):
        assert tokens.name_of([wrong]) is None
    assert tokens.name_of([]) is None
    assert tokens.any() == "own one"


def test_without_tokens_everybody_may_come() -> None:
    tokens = Tokens(Settings())
    assert not tokens
    assert tokens.name_of([]) == tokens.name_of(["any"]) == tokens.any() == ""


def test_a_token_is_given_out_and_taken_back_without_a_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "t"
    tokens = Tokens(Settings(token_file=written(path, "anna first")))
    written(path, "bob second\nanna third", at=2)
    assert tokens.name_of(["first"]) is None
    assert tokens.name_of(["second"]) == "bob"
    written(path, "# nobody", at=3)
    assert tokens.name_of(["second"]) == "bob"
    assert "holds no token" in caplog.text
    path.unlink()
    assert tokens.name_of(["second"]) == "bob"
    written(path, "bob fourth", at=4)
    assert tokens.name_of(["second"]) is None
    assert "second" not in caplog.text


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "holds no token"),
        ("# a remark\n\n", "holds no token"),
        ("anna a secret", "line 1 is no token"),
        ("anna one\nbob one", "line 2 is no token"),
        ("an\u00eena one", "line 1 is no token"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, content: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence) as refusal:
        Tokens(Settings(token_file=written(tmp_path / "t", content)))
    assert "secret" not in str(refusal.value)


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Tokens(Settings(token_file=str(tmp_path / "none")))
    (tmp_path / "t").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="no UTF-8"):
        Tokens(Settings(token_file=str(tmp_path / "t")))


def test_every_token_is_compared_in_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = Tokens(Settings(token_file=written(tmp_path / "t", TOKENS)))
    compared: list[tuple[int, int]] = []
    real = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    for shown in ("7Yf-first", "unnamed", "x", "x" * 1000):
        compared.clear()
        tokens.name_of([shown])
        assert compared == [(32, 32)] * 4


SECRET = "a (b) & c/€ü,~"


def test_a_token_is_found_wherever_a_client_can_show_it() -> None:
    encoded = quote(SECRET, safe="")
    assert shown_in(Headers({"Authorization": "bearer  s3 "}), "") == ["s3"]
    assert shown_in(Headers({"Authorization": "Basic s3"}), "a=b") == []
    offered = Headers({"Sec-WebSocket-Protocol": f"{SUBPROTOCOL}, {TOKEN_PROTOCOL}{encoded}"})
    assert shown_in(offered, "") == [SECRET]
    assert shown_in(Headers(), f"x=1&token={encoded}&token=other") == [SECRET, "other"]


# -- over real sockets ---------------------------------------------------------------------------


@dataclass
class Ports:
    """A port, and the page's server before it; `callers` are those whom the port let in."""

    speech: int
    web: int
    callers: list[Caller | None] = field(default_factory=list)


@pytest.fixture
async def ports(tmp_path: Path) -> AsyncIterator[Ports]:
    speech, web_port = free_ports(2)
    settings = Settings(
        speech_port=speech,
        transcription_port=speech,
        web_port=web_port,
        token=SECRET,
        token_file=written(tmp_path / "t", "anna s3"),
    )
    access = AccessPolicy(settings, Health(ServiceStatus()))
    found = Ports(speech, web_port)

    async def serve(connection: ServerConnection, policy: AccessPolicy) -> None:
        caller = policy.identify(connection)
        found.callers.append(caller)
        await connection.send(json.dumps(caller.token_name if caller else None))
        await connection.wait_closed()

    web = WebServer(settings, ServiceStatus())
    web.start()
    async with open_port(settings, "speech", access=access, max_size=1000) as handler:
        handler.set_result(serve)
        yield found
    await asyncio.to_thread(web.stop)


@pytest.mark.parametrize("way", ["port", "page"])
@pytest.mark.parametrize(
    ("header", "protocols", "address", "name"),
    [
        ("Bearer s3", [], "", "anna"),
        ("", [SUBPROTOCOL, f"{TOKEN_PROTOCOL}s3"], "", "anna"),
        ("", [SUBPROTOCOL, TOKEN_PROTOCOL + quote(SECRET, safe="")], "", ""),
        ("", [], "?token=s3", "anna"),
        ("", [], f"?token={quote(SECRET)}", ""),
        ("Bearer wrong", [SUBPROTOCOL, f"{TOKEN_PROTOCOL}x"], "?token=y", None),
        ("", [], "", None),
        ("", ["chat", SUBPROTOCOL], "?token=s3", "anna"),
    ],
)
async def test_a_token_lets_in_by_header_subprotocol_or_address(
    ports: Ports, way: str, header: str, protocols: list[str], address: str, name: str | None
) -> None:
    port, path = (ports.speech, "/") if way == "port" else (ports.web, "/audio")
    async with connect(
        f"ws://127.0.0.1:{port}{path}{address}",
        additional_headers={"Authorization": header} if header else None,
        subprotocols=[Subprotocol(each) for each in protocols] or None,
        proxy=None,
    ) as socket:
        assert json.loads(await asyncio.wait_for(socket.recv(), 5)) == name
        assert socket.subprotocol == (SUBPROTOCOL if protocols else None)
    assert ports.callers == [None if name is None else Caller("localhost", name)]


async def test_a_client_that_offers_nothing_of_ours_is_answered_nothing(ports: Ports) -> None:
    for port, path in ((ports.speech, "/"), (ports.web, "/audio")):
        try:
            async with connect(
                f"ws://127.0.0.1:{port}{path}", subprotocols=[Subprotocol("chat")], proxy=None
            ) as socket:
                assert socket.subprotocol is None
        except ConnectionClosed:
            pytest.fail("an old client is refused")
