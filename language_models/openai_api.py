"""Any server that speaks OpenAI's chat API: trtllm-serve, vLLM, SGLang, Ollama, llama-server, …

Each request has a connection of its own. It costs a local server a millisecond, and it lets a
cancellation end the request at any moment by shutting its socket (which these servers take as the
wish to stop; llama-server notices it at its next token, so not while it reads the prompt), and a
server that was restarted is simply found again.

`prefill` does nothing: the API cannot say that a message is unfinished, and a server on a GPU
reads the few words that a person just said in some milliseconds.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx

from fusion import tasks
from fusion.errors import ConfigurationError, ModelError
from fusion.logs import without_quotes
from fusion.serving.hosts import THIS_MACHINE
from fusion.settings import Settings
from fusion.tools import Tool
from language_models.base import (
    THINKING,
    Cancellation,
    ChatMessage,
    Finish,
    GenerationRequest,
    LanguageModel,
    Stream,
)
from language_models.chat_json import CallFragments, messages_as_json
from language_models.openai_connection import AbortableConnection
from language_models.openai_dialect import Dialect
from language_models.openai_events import (
    MalformedReplyError,
    Reply,
    ServerFailedError,
    chat_model,
    deltas,
    model_names,
    quotation,
    sentence_of_body,
)
from language_models.openai_tokens import TokenCounter
from language_models.thinking import CLOSING_TAG, OPENING_TAG, without_thinking

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT = 5.0

# A server that loads a large model, or compiles it first, takes minutes until it answers.
START_TIMEOUT = 900.0
START_POLL = 2.0
START_REPORT = 15.0

# Seconds before the second and the third try. A person is waiting: then they get the error.
BACKOFF = (0.3, 1.0)
RETRIED_STATUS = frozenset({429, 500, 502, 503, 504})

# Models of a server that an error names.
MOST_NAMED = 8

# More tokens for a model that spent all of a reply's on thinking.
THINKING_TOKENS = 2048

# What the warm-up waits for a model that may think, to see how it does.
PROBE_TOKENS = 256
PROBE_SECONDS = 5.0


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
        self._dialect = Dialect()
        self._more_tokens = 0
        self._opens_thinking = False
        self._live: set[AbortableConnection] = set()
        key = settings.openai_api_key
        self._http = httpx.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(settings.reply_timeout, connect=CONNECT_TIMEOUT),
            limits=httpx.Limits(max_keepalive_connections=0),
            trust_env=not _is_here(self._url),  # a proxy would be asked for its own 127.0.0.1
        )
        self._counter = TokenCounter(self._http, self._url)
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
        """Have the server answer something short, and see what it takes and how its model thinks.

        Raises:
            ConfigurationError: the server refuses the request.
        """
        request = GenerationRequest((ChatMessage("user", "Say yes."),), max_tokens=PROBE_TOKENS)
        enough = Cancellation()
        clock = tasks.timer(PROBE_SECONDS, enough.request)
        clock.start()
        try:
            for _ in self.stream(request, enough):
                pass
        except _RefusedError as error:
            raise ConfigurationError(str(error)) from error
        finally:
            clock.cancel()

    @property
    def takes_tools(self) -> bool:
        """Whether the server has not refused tools."""
        return self._dialect.takes_tools

    def count_tokens(self, messages: Sequence[ChatMessage], tools: Sequence[Tool] = ()) -> int:
        """Length of the prompt in tokens, where the server has `/tokenize`; else an estimate."""
        return self._counter.count(self._model, messages, tools)

    def stream(self, request: GenerationRequest, cancellation: Cancellation) -> Stream:
        """Yield the reply's text as the server sends it.

        Until the first text came, a lost connection or a busy server is tried again, and so is a
        model that spent all its tokens on thinking, with more of them.

        Raises:
            ModelError: the server is away, refuses, sends nothing for `reply_timeout` seconds,
                breaks off, or sends what is no reply.
        """
        reply = Reply(may_call=bool(request.tools))
        finish = yield from self._tries(request, cancellation, reply)
        if finish is Finish.LENGTH and reply.only_thought and not cancellation.requested:
            logger.info("%s spent all tokens on thinking: it gets more from now on", self._url)
            self._more_tokens = THINKING_TOKENS
            reply = Reply(may_call=bool(request.tools))
            finish = yield from self._tries(request, cancellation, reply)
        if not self._opens_thinking and without_thinking(reply.text, complete=True).opened_before:
            logger.info("The chat template at %s opens the model's thinking", self._url)
            self._opens_thinking = True
        return finish

    def _tries(
        self, request: GenerationRequest, cancellation: Cancellation, reply: Reply
    ) -> Stream:
        stopped = threading.Event()
        cancellation.on_request(stopped.set)
        for pause in (*BACKOFF, None):
            connection = AbortableConnection()
            cancellation.on_request(connection.shut)
            try:
                finish = yield from self._attempt(request, connection, stopped, reply)
                if stopped.is_set():
                    return Finish.STOP
                return finish
            except (_BusyError, httpx.TransportError, EOFError) as error:
                if stopped.is_set():
                    return Finish.STOP
                again = not reply.begun and not isinstance(error, httpx.ReadTimeout)
                if pause is None or not again:
                    raise self._failure(error, reply.begun) from error
                logger.info("Trying %s again: %s", self._url, error)
            except (MalformedReplyError, httpx.DecodingError) as error:
                logger.warning(
                    "%s sent what is no reply: %s", self._url, without_quotes(str(error))
                )
                raise ModelError(
                    f"The language model server at {self._url} sent a reply that cannot be read: "
                    f"{_one_line(error)}."
                ) from error
            except ServerFailedError as error:
                logger.warning("The language model server at %s failed", self._url)
                raise ModelError(
                    f"The language model server at {self._url} failed while it answered"
                    f"{quotation(str(error))}."
                ) from error
            if stopped.wait(pause):
                return Finish.STOP
        raise AssertionError("the last try returns or raises")

    def prefill(
        self,
        messages: Sequence[ChatMessage],
        cancellation: Cancellation,
        tools: Sequence[Tool] = (),
    ) -> None:
        """Nothing: see the top of this file."""

    def close(self) -> None:
        """End all requests."""
        for connection in tuple(self._live):
            connection.shut()
        self._http.close()

    def _attempt(
        self,
        request: GenerationRequest,
        connection: AbortableConnection,
        stopped: threading.Event,
        reply: Reply,
    ) -> Stream:
        """One request. Raises _BusyError, EOFError and httpx.TransportError for what may pass."""
        if self._http.is_closed:
            raise ModelError("The language model has been closed.")
        url = f"{self._url}/chat/completions"
        self._live.add(connection)
        try:
            while True:
                body = {
                    "model": self._model_name(),
                    "messages": messages_as_json(request.messages),
                    "stream": True,
                    **self._dialect.fields(request, self._more_tokens),
                }
                with self._http.stream(
                    "POST", url, json=body, extensions={"trace": connection.trace}
                ) as response:
                    if response.status_code == httpx.codes.OK:
                        self._dialect.accepted()
                        return (yield from self._texts(response, stopped, reply))
                    said = sentence_of_body(response.read())
                    if response.status_code in RETRIED_STATUS:
                        raise _BusyError(f"status {response.status_code}{quotation(said)}")
                    if not self._dialect.give_way(response.status_code, said, request):
                        raise self._refusal(response.status_code, said)
        finally:
            self._live.discard(connection)

    def _texts(self, response: httpx.Response, stopped: threading.Event, reply: Reply) -> Stream:
        """The text in a response as it comes, and the reason why it ended.

        Raises ModelError for a reply without text that says why it has none.
        """
        reply.calls = CallFragments()
        if self._opens_thinking:
            yield OPENING_TAG
        for delta in deltas(response.iter_bytes()):
            if stopped.is_set():
                return Finish.STOP
            if delta.thinking:
                reply.thinking += delta.thinking
                yield THINKING
            if delta.text:
                reply.text += delta.text
                yield delta.text
            reply.refusal += delta.refusal
            reply.calls.add(delta.tool_calls)
            reply.finish = delta.finish
        calls = reply.calls.calls() if reply.may_call else []
        yield from calls
        if not reply.text.strip() and not calls:
            # Some builds of llama-server put the answer there although thinking was off.
            if reply.thinking and self._dialect.thinking_off and reply.finish == "stop":
                reply.text = reply.thinking
                yield reply.thinking
            elif reason := reply.why_empty():
                raise ModelError(f"The language model server at {self._url} {reason}.")
        if self._opens_thinking and reply.finish == "stop" and CLOSING_TAG not in reply.text:
            self._opens_thinking = False  # it answered without a thought, and all of it is said
            yield CLOSING_TAG + reply.text
        return Finish.LENGTH if reply.finish == "length" else Finish.STOP

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
        if isinstance(error, _BusyError):
            return ModelError(
                f"The language model server at {self._url} is overloaded ({error}); try again in "
                "a moment."
            )
        return ModelError(
            f"The language model server at {self._url} cannot be reached ({_one_line(error)}): "
            "start it again, then ask once more."
        )

    def _refusal(self, status: int, said: str) -> ModelError:
        logger.warning("%s answered %d", self._url, status)  # what it said may quote the prompt
        reason = f"status {status}"
        if status in (401, 403):
            reason = "it does not accept --openai_api_key"
        elif status in (400, 404):
            reason = self._unknown_model(status) or reason
        sentence = f"The language model server at {self._url} refused to answer: {reason}"
        return _RefusedError(f"{sentence}{quotation(said)}.")

    def _unknown_model(self, status: int) -> str:
        """That the server has other models, where it tells; LM Studio says so with status 400."""
        try:
            names = model_names(
                _json(self._http.get(f"{self._url}/models", timeout=CONNECT_TIMEOUT))
            )
        except httpx.HTTPError:
            names = []
        if status == 400 and (self._model in names or not names):
            return ""
        offer = f" (it has {', '.join(names[:MOST_NAMED])}: see --openai_model)" if names else ""
        return f"it does not know the model {self._model!r}{offer}"

    def _model_name(self) -> str:
        """The model's name, asked for again after a failure where the settings name none."""
        if not self._model:
            answer = self._http.get(f"{self._url}/models")
            if answer.status_code in RETRIED_STATUS:
                raise _BusyError(f"status {answer.status_code}")
            if answer.status_code != httpx.codes.OK:
                raise self._refusal(answer.status_code, sentence_of_body(answer.content))
            self._model = chat_model(model_names(_json(answer)))
        return self._model

    def _not_ready(self) -> str:
        """Why the server cannot be used yet; empty when it can be."""
        try:
            answer = self._http.get(f"{self._url}/models", timeout=CONNECT_TIMEOUT)
        except httpx.HTTPError as error:
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
        self._model = self._model or chat_model(model_names(_json(answer)))
        self.name = f"openai_api: {self._model} at {self._url}"
        return "" if self._model else "it offers no model yet"


class _BusyError(Exception):
    """The server answered, but not now."""


class _RefusedError(ModelError):
    """The server will refuse the same request again."""


def _json(answer: httpx.Response) -> Any:
    """The JSON of an answer; None if it has none."""
    try:
        return answer.json()
    except (ValueError, RecursionError):
        return None


def _is_here(url: str) -> bool:
    """Whether an address is of this machine alone."""
    return urlsplit(url).hostname in THIS_MACHINE


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
