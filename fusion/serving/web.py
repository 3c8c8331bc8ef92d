"""The web page on its own port, with both sockets on the same origin.

A browser has to be asked only once to trust a certificate made here, and a firewall needs one open
port: `/transcription` and `/audio` are relayed to the two WebSocket ports of this machine. As a
proxy does, the relay names the client in X-Forwarded-For and keeps its Host and Origin.
"""

from __future__ import annotations

import logging
import mimetypes
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fusion import tasks
from fusion.child_process import child_process
from fusion.errors import ConfigurationError
from fusion.links import Links
from fusion.serving.elsewhere import addresses_elsewhere
from fusion.serving.health import Health
from fusion.serving.limits import BACKLOG, Connections
from fusion.serving.ports import LimitedListener, open_listeners
from fusion.serving.relay import Relay
from fusion.serving.timed_http import timed_http
from fusion.serving.tls import Loopback, ssl_context
from fusion.settings import Settings
from fusion.status import Phase, Service, ServiceStatus

logger = logging.getLogger(__name__)

Routes = Callable[[Connections], Sequence[BaseRoute]]
"""Makes what else the port serves; `Connections` counts who has a WebSocket."""


Beside = Callable[[Starlette], AbstractAsyncContextManager[None]]
"""What else the process does in the same event loop, while the context lasts."""


def _no_routes(connections: Connections) -> Sequence[BaseRoute]:
    return ()


_INSTALLED = Path(__file__).with_name("page")
PAGE = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).resolve().parents[2] / "web"
START_TIMEOUT = 10.0
STOP_TIMEOUT = 5.0
LARGEST_MESSAGE = 16 << 20
"""Bytes. The ports that are relayed refuse less; Realtime's clients may send 15 MiB at once."""

HEADERS = {
    # `ws:` and `wss:` let the page use a server elsewhere, as in /?ws=host.
    "Content-Security-Policy": (
        "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self'; object-src 'none'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # The files' names carry no version: a browser keeps them, but asks each time (ETag).
    "Cache-Control": "no-cache",
}


def run(
    settings: Settings,
    links: Links,
    routes: Routes = _no_routes,
    beside: Beside | None = None,
) -> None:
    """The body of the process: serve the page, and these routes, until asked to stop."""
    with child_process(Service.WEB, links) as stop:
        server = WebServer(settings, links.status, routes, beside)
        server.start()
        links.status.report(Service.WEB, Phase.READY)
        stop.wait()
        server.stop()


class WebServer:
    """Serves the page from a thread of its own, from `start` to `stop`. Its loop beats."""

    def __init__(
        self,
        settings: Settings,
        status: ServiceStatus,
        routes: Routes = _no_routes,
        beside: Beside | None = None,
    ) -> None:
        self._settings = settings
        self._routes = routes
        self._beside = beside
        self._status = status
        self._thread: threading.Thread | None = None
        self._server: uvicorn.Server | None = None
        self._port = settings.web_port
        # Each WebSocket has a second one, to its port.
        self._connections = Connections.of_port(settings, descriptors=2)

    @property
    def port(self) -> int:
        return self._port

    def start(self) -> None:
        """Listen. Raises ConfigurationError, when the port is taken for example."""
        context = ssl_context(self._settings)
        listeners = [
            LimitedListener(listener, self._connections)
            for listener in open_listeners(self._settings, "web")
        ]
        self._port = listeners[0].getsockname()[1]
        self._server = uvicorn.Server(self._configuration(context))
        self._thread = tasks.thread("web", self._server.run, listeners)
        self._thread.start()
        deadline = time.monotonic() + START_TIMEOUT
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise ConfigurationError("the web server did not start: see the log above.")
            time.sleep(0.01)

    def stop(self) -> None:
        """Close the port and every connection. Doing it twice, or before `start`, does no harm."""
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        self._thread.join(STOP_TIMEOUT)
        if self._thread.is_alive():
            logger.warning("The web server still runs %.0f s after it was stopped.", STOP_TIMEOUT)

    async def _beat(self) -> None:
        self._status.beat(Service.WEB)

    def _configuration(self, context: ssl.SSLContext | None) -> uvicorn.Config:
        return uvicorn.Config(
            application(
                self._settings, self._status, self._connections, self._routes, self._beside
            ),
            http=timed_http(self._settings.handshake_timeout),
            backlog=BACKLOG,
            log_config=None,
            access_log=False,
            log_level="warning",  # below that it logs addresses, and with them keys and tokens
            lifespan="on" if self._beside else "off",
            server_header=False,
            # The relay looks at X-Forwarded-For itself: it believes --trusted_proxies alone.
            proxy_headers=False,
            ws_max_size=max(self._settings.max_message_bytes, LARGEST_MESSAGE),
            ws_per_message_deflate=False,  # audio does not get smaller
            timeout_graceful_shutdown=2,
            callback_notify=self._beat,
            timeout_notify=1,
            ssl_context_factory=(lambda config, default: context) if context else None,
        )


def application(
    settings: Settings,
    status: ServiceStatus,
    connections: Connections,
    routes: Routes = _no_routes,
    beside: Beside | None = None,
) -> ASGIApp:
    """The ASGI application: page, health, metrics, the two relayed sockets and other routes."""
    mimetypes.add_type("text/javascript", ".js")  # some systems' tables say text/plain
    mimetypes.add_type("application/manifest+json", ".webmanifest")
    health = Health(status)

    def monitor(request: Request) -> Response:
        answer = health.answer(request.url.path)
        assert answer is not None  # the routes below are those that it answers
        return PlainTextResponse(answer.text, answer.status, answer.headers)

    def addresses(request: Request) -> Response:
        found = addresses_elsewhere(settings, request.url.hostname or "", request.url.port)
        return JSONResponse({"addresses": found})

    relay = Relay(settings, Loopback(settings), connections)
    return _WithHeaders(
        Starlette(
            routes=[
                Route("/healthz", monitor),
                Route("/metrics", monitor),
                Route("/addresses", addresses),
                WebSocketRoute("/transcription", relay.to(settings.transcription_port)),
                WebSocketRoute("/audio", relay.to(settings.speech_port)),
                *routes(connections),
                # A Route and not a Mount, which would hand StaticFiles WebSockets as well.
                Route("/{path:path}", StaticFiles(directory=PAGE, html=True)),
            ],
            lifespan=beside,
        )
    )


class _WithHeaders:
    """Adds `HEADERS` to every HTTP response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, _adding_headers(send) if scope["type"] == "http" else send)


def _adding_headers(send: Send) -> Callable[[Message], Awaitable[None]]:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return send_with_headers
