"""`/v1/realtime` and what belongs to it, on the web port.

A client of it is, to the pipeline, a client of ports 6006 and 8888.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from functools import partial
from typing import Any

from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed

from fusion import metrics, tasks
from fusion.errors import FusionError
from fusion.links import Links
from fusion.serving.access import AccessPolicy
from fusion.serving.health import Health
from fusion.serving.hosts import loopback_host
from fusion.serving.limits import Connections
from fusion.serving.relay import forwarded_for
from fusion.serving.tls import Loopback
from fusion.serving.tokens import shown_in
from fusion.settings import Settings
from realtime.bridge import BUFFER_LEAD, Bridge
from realtime.client_secrets import ClientSecrets
from realtime.config import SessionConfig
from realtime.events import RealtimeError
from realtime.session import RealtimeSession
from whisper_live.client.conversation import Server, ServerFullError, talk

logger = logging.getLogger(__name__)

MODEL = "whisperfusion"
"""The name of the whole pipeline. Clients may ask for any other: it is all there is."""

SUBPROTOCOL = "realtime"
_KEY_PROTOCOL = "openai-insecure-api-key."


class RealtimeEndpoint:
    """Answers Realtime clients."""

    def __init__(self, settings: Settings, links: Links) -> None:
        self._settings = settings
        self._links = links
        self._access = AccessPolicy(settings, Health(links.status))
        self._secrets = ClientSecrets()
        self._loopback = Loopback(settings)

    def routes(self, connections: Connections) -> list[BaseRoute]:
        """What the web port serves for it."""
        return [
            Route("/v1/models", self._models),
            Route("/v1/realtime/client_secrets", self._client_secrets, methods=["POST"]),
            WebSocketRoute("/v1/realtime", partial(self._realtime, connections)),
        ]

    # -- over HTTP -----------------------------------------------------------------------------

    async def _models(self, request: Request) -> Response:
        if (refusal := self._refusal(request)) is not None:
            return refusal
        choice = self._links.choice
        picks = (choice.transcription, choice.language_model, choice.voice)
        names = [MODEL, *(pick.library for pick in picks)]
        models = [{"id": n, "object": "model", "created": 0, "owned_by": MODEL} for n in names]
        return JSONResponse({"object": "list", "data": models})

    async def _client_secrets(self, request: Request) -> Response:
        if (refusal := self._refusal(request)) is not None:
            return refusal
        try:
            body = await request.json()
        except (ValueError, RecursionError):
            return _error(400, "The body is not JSON.", "invalid_json")
        try:
            config = self._config(_model_of(body))
            secret = self._secrets.make(body, config, time.time(), self._token(request) or "")
        except RealtimeError as error:
            return _error(400, str(error), error.code, error.param)
        session = {"object": "realtime.session", "id": "", **secret.config.shown()}
        answer = {"value": secret.value, "expires_at": secret.expires_at, "session": session}
        return JSONResponse(answer)

    def _refusal(self, request: HTTPConnection) -> Response | None:
        """Why whoever asks gets no answer; None if they may."""
        if not self._access.accepts_origin(Headers(request.headers)):
            metrics.REFUSALS.labels("origin").inc()
            sentence = "Pages of this origin may not connect; see --allowed_origins."
            return _error(403, sentence, "origin_not_allowed")
        if self._token(request) is None:
            sentence = "The API key is the server's --token; it is missing or wrong."
            return _error(401, sentence, "invalid_api_key")
        return None

    def _token(self, request: HTTPConnection) -> str | None:
        """The token that whoever asks shows, "" where none is needed; None if they show none."""
        tokens = self._access.tokens
        if not tokens:
            return ""
        return next((key for key in _keys(request) if tokens.name_of([key]) is not None), None)

    # -- over a WebSocket ----------------------------------------------------------------------

    async def _realtime(self, connections: Connections, client: WebSocket) -> None:
        now = time.time()
        secret = next(filter(None, (self._secrets.find(key, now) for key in _keys(client))), None)
        reason = self._links.status.not_ready()
        refusal = self._refusal(client)
        if refusal is not None and secret is not None and refusal.status_code == 401:
            refusal = None
        if refusal is None and reason is not None:
            refusal = _error(503, f"Not ready yet: {reason}.", "server_not_ready")
        if refusal is None:
            # The ports look at where the client is, which they know from X-Forwarded-For.
            peer = (client.client.host, client.client.port) if client.client else ("", 0)
            if refused := connections.establish(peer, None, time.monotonic()):
                refusal = _error(int(refused.status), refused.sentence, "too_many_connections")
        if refusal is not None:
            await client.send_denial_response(refusal)
            return
        offered = client.scope.get("subprotocols", [])
        await client.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        config = secret.config if secret else self._config(client.query_params.get("model"))
        with contextlib.suppress(WebSocketDisconnect, ConnectionClosed):
            token = self._token(client)
            if token is None and secret is not None:
                token = secret.token
            await self._serve(client, RealtimeSession(config), token or "")

    def _config(self, model: str | None) -> SessionConfig:
        return SessionConfig(model=model or MODEL)

    async def _serve(self, client: WebSocket, session: RealtimeSession, token: str) -> None:
        server = Server(
            loopback_host(self._settings.host),
            self._settings.transcription_port,
            self._settings.speech_port,
            token,
            context=self._loopback.context,
            forwarded_for=forwarded_for(client),
        )
        try:
            talking = talk(server, uid=session.id, language=None, buffer_lead=BUFFER_LEAD)
            async with talking as pipeline:
                bridge = Bridge(session, pipeline, client.send_text)
                await bridge.start()
                listening = _listen(client, bridge), bridge.follow()
                await tasks.first_of(*listening, bridge.write(), bridge.keep_time())
        except ServerFullError as error:
            await _farewell(client, session, str(error), 1013)
        except asyncio.QueueFull:
            logger.warning("%s does not read its events and is disconnected", session.id)
        except FusionError as error:
            await _farewell(client, session, str(error), 1011)
        if client.client_state is WebSocketState.CONNECTED:
            await client.close(1000)


async def _listen(client: WebSocket, bridge: Bridge) -> None:
    while True:
        message = await client.receive()
        if message["type"] == "websocket.disconnect":
            return
        text = message.get("text")
        await bridge.receive(text if text is not None else message["bytes"])


async def _farewell(client: WebSocket, session: RealtimeSession, reason: str, code: int) -> None:
    for event in session.trouble(reason):
        await client.send_text(json.dumps(event))
    await client.close(code)


def _keys(request: HTTPConnection) -> list[str]:
    """The API keys that a request shows, as a token or as OpenAI's browsers show theirs."""
    offered = request.scope.get("subprotocols", [])
    keys = [name.removeprefix(_KEY_PROTOCOL) for name in offered if name.startswith(_KEY_PROTOCOL)]
    return shown_in(Headers(request.headers), request.url.query) + keys


def _model_of(body: object) -> str | None:
    session: Any = body.get("session") if isinstance(body, dict) else None
    model = session.get("model") if isinstance(session, dict) else None
    return model if isinstance(model, str) else None


def _error(status: int, message: str, code: str, param: str | None = None) -> Response:
    error = {"type": "invalid_request_error", "code": code, "message": message, "param": param}
    return JSONResponse({"error": error}, status)
