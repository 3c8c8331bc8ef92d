"""Any server that speaks OpenAI's chat API: trtllm-serve, vLLM, SGLang, Ollama, llama-server, …

Each request has a connection of its own. It costs a local server a millisecond, and it lets a
cancellation end the request at any moment by shutting its socket (which these servers take as the
wish to stop; llama-server notices it at its next token, so not while it reads the prompt), and a
server that was restarted is simply found again.

`prefill` does nothing: the API cannot say that a message is unfinished, and a server on a GPU
reads the few words that a person just said in some milliseconds.
"""

from __future__ import annotations

import functools
import json
import logging
import math
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx

from fusion.errors import ConfigurationError, ModelError
from fusion.settings import Settings
from language_models.base import Cancellation, ChatMessage, GenerationRequest, LanguageModel

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT = 5.0

# Counting comes before every long prompt, and other sessions wait for it.
COUNT_TIMEOUT = 1.0

# A server that loads a large model, or compiles it first, takes minutes until it answers.
START_TIMEOUT = 900.0
START_POLL = 2.0
START_REPORT = 15.0

# Seconds before the second and the third try. A person is waiting: then they get the error.
BACKOFF = (0.3, 1.0)
RETRIED_STATUS = frozenset({429, 500, 502, 503, 504})

# Tokens that a chat template puts around a message, about.
TEMPLATE_TOKENS = 8


def load(settings: Settings) -> LanguageModel:
    """Connect to the server at `settings.openai_url`, waiting while it is still starting.

    Raises:
        ConfigurationError: it did not answer within `START_TIMEOUT`, or refuses the address, the
            key or the model.
    """
    if not settings.openai_url.startswith(("http://", "https://")):
        raise ConfigurationError(
            "--openai_url must be the address of an OpenAI-compatible server, "
            f"as http://host:8000/v1, not {settings.openai_url!r}."
        )
    model = OpenAIServer(settings)
    try:
        model.wait_until_ready()
    except ConfigurationError:
        model.close()
        raise
    return model


class OpenAIServer:
    """A model behind an OpenAI-compatible server. Every method may be called from any thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._url = settings.openai_url.rstrip("/")
        self._model = settings.openai_model
        self._counts_tokens = True
        self._live: set[_Connection] = set()
        key = settings.openai_api_key
        self._http = httpx.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(settings.reply_timeout, connect=CONNECT_TIMEOUT),
            limits=httpx.Limits(max_keepalive_connections=0),
        )
        self._count = functools.lru_cache(maxsize=256)(self._count_tokens)
        self.name = f"openai_api: {self._model or 'the first model'} at {self._url}"
        self.max_concurrent = settings.max_clients

    def wait_until_ready(self) -> None:
        """Wait for the server's list of models, and take its first model if none was named."""
        started = reported = time.monotonic()
        while True:
            reason = self._not_ready()
            if not reason:
                return
            now = time.monotonic()
            if now - started > START_TIMEOUT:
                raise ConfigurationError(
                    f"The language model server at {self._url} was not ready after "
                    f"{START_TIMEOUT:g} seconds ({reason}): start it or correct --openai_url."
                )
            if now - reported > START_REPORT or reported == started:
                logger.info("Waiting for %s: %s (%.0f s)", self._url, reason, now - started)
                reported = now
            time.sleep(START_POLL)

    def warm_up(self) -> None:
        """Have the server generate a few tokens."""
        request = GenerationRequest((ChatMessage("user", "Hello."),), max_tokens=4)
        for _ in self.stream(request, Cancellation()):
            pass

    def count_tokens(self, messages: Sequence[ChatMessage]) -> int:
        """Length of the prompt in tokens, where the server has `/tokenize`; else an estimate.

        vLLM counts exactly; for llama-server the template's part is estimated. The estimate takes
        three bytes of UTF-8 for a token, which is too many tokens for most text, never far too few.
        """
        return self._count(tuple(messages))

    def stream(self, request: GenerationRequest, cancellation: Cancellation) -> Iterator[str]:
        """Yield the reply's text as the server sends it.

        Until the first text came, a lost connection or a busy server is tried again.

        Raises:
            ModelError: the server is away, refuses, sends nothing for `reply_timeout` seconds or
                breaks off.
        """
        stopped = threading.Event()
        cancellation.on_request(stopped.set)
        for pause in (*BACKOFF, None):
            connection = _Connection()
            cancellation.on_request(connection.shut)
            begun = False
            try:
                for text in self._attempt(request, connection):
                    if stopped.is_set():
                        return
                    begun = True
                    yield text
                return
            except (_BusyError, httpx.TransportError) as error:
                if stopped.is_set():
                    return
                again = not begun and not isinstance(error, httpx.ReadTimeout)
                if pause is None or not again:
                    raise self._failure(error, begun) from error
                logger.info("Trying %s again: %s", self._url, error)
            if stopped.wait(pause):
                return

    def prefill(self, messages: Sequence[ChatMessage], cancellation: Cancellation) -> None:
        """Nothing: see the top of this file."""

    def close(self) -> None:
        """End all requests."""
        for connection in tuple(self._live):
            connection.shut()
        self._http.close()

    def _attempt(self, request: GenerationRequest, connection: _Connection) -> Iterator[str]:
        """One request. Raises _BusyError and httpx.TransportError for what may pass."""
        if self._http.is_closed:
            raise ModelError("The language model has been closed.")
        body = {
            "model": self._model_name(),
            "messages": [{"role": m.role, "content": m.content} for m in request.messages],
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "stream": True,
        }
        url = f"{self._url}/chat/completions"
        self._live.add(connection)
        try:
            with self._http.stream(
                "POST", url, json=body, extensions={"trace": connection.trace}
            ) as response:
                if response.status_code in RETRIED_STATUS:
                    raise _BusyError(f"status {response.status_code}")
                if response.status_code != httpx.codes.OK:
                    raise self._refusal(response.status_code, response.read())
                yield from _texts(response.iter_lines())
        finally:
            self._live.discard(connection)

    def _failure(self, error: Exception, begun: bool) -> ModelError:
        if not self._settings.openai_model:
            self._model = ""  # another one may be served when it is back
        if isinstance(error, httpx.ReadTimeout):
            return ModelError(
                f"The language model server at {self._url} sent nothing for "
                f"{self._settings.reply_timeout:g} seconds."
            )
        if begun:
            return ModelError(f"The language model server at {self._url} broke off the reply.")
        return ModelError(
            f"The language model server at {self._url} cannot be reached or is overloaded "
            f"({error}); try again in a moment."
        )

    def _refusal(self, status: int, body: bytes) -> ModelError:
        logger.warning("%s answered %d: %s", self._url, status, body[:500].decode(errors="replace"))
        reasons = {
            401: "it does not accept --openai_api_key",
            403: "it does not accept --openai_api_key",
            404: f"it does not know the model {self._model!r}",
        }
        reason = reasons.get(status, f"status {status}")
        return ModelError(f"The language model server at {self._url} refused to answer: {reason}.")

    def _model_name(self) -> str:
        """The model's name, asked for again after a failure where the settings name none."""
        if not self._model:
            answer = self._http.get(f"{self._url}/models")
            if answer.status_code in RETRIED_STATUS:
                raise _BusyError(f"status {answer.status_code}")
            if answer.status_code != httpx.codes.OK:
                raise self._refusal(answer.status_code, answer.content)
            self._model = _first_model(answer)
        return self._model

    def _not_ready(self) -> str:
        """Why the server cannot be used yet; empty when it can be."""
        try:
            answer = self._http.get(f"{self._url}/models", timeout=CONNECT_TIMEOUT)
        except httpx.TransportError as error:
            return str(error) or type(error).__name__
        if answer.status_code in RETRIED_STATUS:
            return f"status {answer.status_code}"
        if answer.status_code in (401, 403):
            raise ConfigurationError(
                f"The language model server at {self._url} refuses the key: set --openai_api_key."
            )
        if answer.status_code != httpx.codes.OK:
            raise ConfigurationError(
                f"{self._url}/models answers with status {answer.status_code}: --openai_url must "
                "be the address of an OpenAI-compatible server, as http://host:8000/v1."
            )
        self._model = self._model or _first_model(answer)
        self.name = f"openai_api: {self._model} at {self._url}"
        return "" if self._model else "it offers no model yet"

    def _count_tokens(self, messages: tuple[ChatMessage, ...]) -> int:
        if self._counts_tokens and (count := self._ask_count(messages)):
            return count
        size = sum(len(message.content.encode()) for message in messages)
        return math.ceil(size / 3) + TEMPLATE_TOKENS * len(messages)

    def _ask_count(self, messages: tuple[ChatMessage, ...]) -> int:
        """Ask `/tokenize`, which stands beside `/v1`. 0 where there is no answer, or none in time.

        vLLM reads `messages` and answers `count`; llama-server reads `content`.
        """
        body = {
            "model": self._model,
            "messages": [{"role": m.role, "content": m.content} for m in messages],
            "content": "\n".join(m.content for m in messages),
        }
        url = f"{self._url.removesuffix('/v1')}/tokenize"
        try:
            answer = self._http.post(url, json=body, timeout=COUNT_TIMEOUT)
            content = answer.json() if answer.status_code == httpx.codes.OK else None
        except httpx.TransportError:
            return 0  # away for now; the request itself will say so
        except ValueError:
            content = None
        if answer.status_code in RETRIED_STATUS:
            return 0
        if isinstance(content, dict) and isinstance(content.get("count"), int):
            return int(content["count"])
        if isinstance(content, dict) and isinstance(content.get("tokens"), list):
            return len(content["tokens"]) + TEMPLATE_TOKENS * len(messages)
        self._counts_tokens = False
        logger.info("%s has no /tokenize: prompt lengths are estimated", self._url)
        return 0


class _BusyError(Exception):
    """The server answered, but not now."""


class _Connection:
    """The socket of one request, which another thread may shut.

    Closing a socket does not wake a thread that reads from it; shutting it does. httpx tells of
    the socket through its `trace` extension. Until it is connected there is none, so a
    cancellation can last as long as the connecting does (at most `CONNECT_TIMEOUT`).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._shut = False

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """httpx calls this at each step of a request."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            with self._lock:
                self._socket = info["return_value"].get_extra_info("socket")
                if self._shut:
                    self._shut_socket()

    def shut(self) -> None:
        with self._lock:
            self._shut = True
            self._shut_socket()

    def _shut_socket(self) -> None:
        if self._socket is None:
            return
        try:
            # The plain socket's method also for TLS, whose own would wait for the other side.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        except OSError:
            logger.debug("The connection was closed already")


def _texts(lines: Iterator[str]) -> Iterator[str]:
    """The pieces of text in a stream of server-sent events; what is not understood is passed over.

    Raises ModelError when the server tells of an error, and httpx.ReadError when the stream ends
    before the reply does.
    """
    for line in lines:
        if not line.startswith("data:"):
            continue
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            return
        try:
            chunk = json.loads(data)
        except ValueError:
            logger.debug("Not JSON: %.200s", data)
            continue
        if not isinstance(chunk, dict):
            continue
        if chunk.get("error"):
            logger.warning("The language model server: %s", chunk["error"])
            raise ModelError("The language model server failed while it answered.")
        choice: Mapping[str, Any] = next(iter(chunk.get("choices") or ()), {})
        if text := (choice.get("delta") or {}).get("content"):
            yield text
        if choice.get("finish_reason"):
            return
    raise httpx.ReadError("the stream ended before the reply did")


def _first_model(answer: httpx.Response) -> str:
    """The first name in an answer of `/models`; empty if there is none."""
    try:
        models = answer.json()["data"]
        return str(models[0]["id"]) if models else ""
    except (ValueError, KeyError, TypeError, IndexError):
        return ""
