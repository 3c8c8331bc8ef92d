"""What both WebSocket ports ask and answer before a handshake."""

from __future__ import annotations

import http
import ipaddress
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers, MultipleValuesError
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from fusion import metrics
from fusion.serving.health import Health
from fusion.serving.limits import Connections
from fusion.serving.tokens import SUBPROTOCOL, Tokens, shown_in
from fusion.settings import Settings


@dataclass(frozen=True)
class Caller:
    """Who a client is: where from, and the name of the token that let it in."""

    address: str
    token_name: str = ""


class AccessPolicy:
    """Decides who may connect to a port, and answers `/healthz` and `/metrics` on it."""

    def __init__(self, settings: Settings, health: Health) -> None:
        self._hosts = _known_hosts(settings)
        self._web_port = settings.web_port
        self._origins = [o.strip() for o in settings.allowed_origins.split(",") if o.strip()]
        self._proxies = [
            ipaddress.ip_network(p.strip(), strict=False)
            for p in settings.trusted_proxies.split(",")
            if p.strip()
        ]
        # The page's own server relays its sockets from the same machine.
        self._proxies += [ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")]
        self.tokens = Tokens(settings)
        self._health = health
        self.connections = Connections.of_port(settings)

    def process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        """For websockets' `process_request`: a plain HTTP answer, or None to go on."""
        path = request.path.partition("?")[0]
        if answer := self._health.answer(path):
            response = connection.respond(answer.status, answer.text)
            for name, value in {"Cache-Control": "no-store", **answer.headers}.items():
                response.headers.pop(name, None)
                response.headers[name] = value
            return response
        if not self.accepts_origin(request.headers):
            metrics.REFUSALS.labels("origin").inc()
            sentence = "Pages of this origin may not connect; see --allowed_origins.\n"
            return connection.respond(http.HTTPStatus.FORBIDDEN, sentence)
        refusal = self.connections.establish(
            connection.remote_address[:2], self.client_address(connection), time.monotonic()
        )
        if refusal is not None:
            return connection.respond(refusal.status, refusal.sentence)
        return None

    def accepts_origin(self, headers: Headers) -> bool:
        """Whether the page that opens the socket, if it is a page, may do so."""
        try:
            origin, host = headers.get("Origin"), headers.get("Host", "")
        except MultipleValuesError:  # which of them is meant?
            return False
        if origin is None or "*" in self._origins or origin in self._origins:
            return True
        if self._origins:
            return False
        try:
            page, here = urlsplit(origin), urlsplit(f"//{host}")
            ports = {here.port, self._web_port or here.port}
            same = page.hostname == here.hostname and page.port in ports
        except ValueError:  # neither a host nor a port
            return False
        return same and self._is_ours(here.hostname)

    def _is_ours(self, host: str | None) -> bool:
        """Whether this machine is meant: a stranger's name may lead here as well (DNS rebinding).

        What is an address is no name that a stranger could let lead anywhere.
        """
        if host is None:
            return False
        return "*" in self._hosts or host in self._hosts or _unmapped(host) is not None

    def identify(self, connection: ServerConnection, said: object = None) -> Caller | None:
        """Who a client is; None if it shows no token and needs one.

        `said` is what it gave as its token in a message.
        """
        assert connection.request is not None
        request = connection.request
        shown = shown_in(request.headers, request.path.partition("?")[2])
        name = self.tokens.name_of([said, *shown] if isinstance(said, str) else shown)
        return None if name is None else Caller(self.client_address(connection), name)

    def client_address(self, connection: ServerConnection) -> str:
        """Where a client is: its peer address, or what a trusted proxy says it is."""
        peer = str(connection.remote_address[0]) if connection.remote_address else ""
        headers = connection.request.headers if connection.request else Headers()
        lines = headers.get_all("X-Forwarded-For")
        hops = [hop.strip() for line in lines for hop in line.split(",")]
        while hops and self._is_proxy(peer):
            peer = hops.pop()
        return _canonical(peer)

    def _is_proxy(self, address: str) -> bool:
        known = _unmapped(address)
        return known is not None and any(known in network for network in self._proxies)


def _known_hosts(settings: Settings) -> set[str]:
    """Names of this machine, and those in the settings."""
    own = socket.gethostname().lower()
    names = {"localhost", own, f"{own.partition('.')[0]}.local", settings.host.lower()}
    return names | {each.strip().lower() for each in settings.allowed_hosts.split(",")} - {""}


def _canonical(address: str) -> str:
    """One name for one machine: this one is the same over IPv4 and IPv6."""
    known = _unmapped(address)
    if known is None:
        return address
    return "localhost" if known.is_loopback else str(known)


def _unmapped(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address, of IPv4 where a socket for both says it in IPv6; None if it is none."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return None
    mapped = known.ipv4_mapped if isinstance(known, ipaddress.IPv6Address) else None
    return mapped or known


def select_subprotocol(
    connection: ServerConnection, offered: Sequence[Subprotocol]
) -> Subprotocol | None:
    """For websockets' argument of that name: a browser that offers some wants one answered."""
    return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in offered else None


def query(connection: ServerConnection, name: str) -> str | None:
    """A parameter of the address that a client connected to."""
    assert connection.request is not None
    values = parse_qs(connection.request.path.partition("?")[2]).get(name)
    return values[0].encode("utf-8", "replace").decode() if values else None
