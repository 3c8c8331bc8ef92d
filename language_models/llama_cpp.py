"""llama.cpp in this process, through `xllamacpp`: any GGUF model, on CPU or GPU.

The library runs llama.cpp's server: one thread of its own owns the model and decodes all running
requests together, in *slots*. Each slot keeps the tokens of its last prompt, so that a prompt that
goes on from there is read only from the first difference. `Slots` gives each conversation its own.

Two ways lead in. Generation is a blocking call with a callback, which this file turns into an
iterator. Chat templates and token counts are offered over HTTP only, on a random port of
127.0.0.1 that a random key protects.

What a cancellation can do: the callback runs after each token, and, as `return_progress` is set,
after each batch of the prompt. The batch that is being computed is finished first, and a next
one may have begun by then. `BATCH_TOKENS` is small for that reason.
"""

from __future__ import annotations

import functools
import logging
import queue
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import xllamacpp

from fusion import tasks
from fusion.errors import ConfigurationError, ModelError
from fusion.models import lookup
from fusion.models.llms import LLMS
from fusion.models.sources import LLM
from fusion.setting_field import AUTO
from fusion.settings import Settings
from fusion.tools import Tool
from fusion.watchdog import watched
from language_models.base import (
    THINKING,
    Cancellation,
    ChatMessage,
    Finish,
    GenerationRequest,
    LanguageModel,
    Stream,
    Thinking,
    patience,
)
from language_models.chat_json import CallFragments, call_schema, messages_as_json, tools_as_json
from language_models.library_errors import as_model_errors
from language_models.pacing import Pacing
from language_models.slots import Slots, cut_prompt
from language_models.told_history import tell_history

logger = logging.getLogger(__name__)

# Tokens of a prompt that are computed between two looks at a cancellation, and between two tokens
# of the other people's replies. Reading is about a tenth slower than with llama.cpp's own 512.
BATCH_TOKENS = 32

HTTP_TIMEOUT = 10.0
CLOSE_TIMEOUT = 5.0

# What a call begins with that has to be made: llama.cpp's own `tool_choice` of "required" lets a
# model write whatever it likes before the call.
_CALL_OPENING = "<tool_call>\n"

_DONE = object()


def load(settings: Settings) -> LanguageModel:
    """Load the GGUF file that `settings.llm` names, the smallest of the table for "auto".

    Raises:
        ConfigurationError: there is no such file, or llama.cpp cannot read it.
    """
    name = LLMS[0].name if settings.llm == AUTO else settings.llm
    known = next((llm for llm in LLMS if llm.name == name), None)
    path = lookup.resolve(name, LLM, settings.cache_folder)
    if known is None:
        return LlamaCpp(path, settings)
    calls, tells = known.calls_tools, known.tells_history
    return LlamaCpp(path, settings, calls_tools=calls, tells_history=tells)


class LlamaCpp:
    """A GGUF model. Every method may be called from any thread."""

    def __init__(
        self,
        path: Path,
        settings: Settings,
        *,
        calls_tools: bool = True,
        tells_history: bool = False,
    ) -> None:
        self.name = f"llama_cpp: {path.name}"
        self.max_concurrent = settings.max_clients
        self._settings = settings
        self._tells_history = tells_history
        self._slots = Slots(settings.max_clients)
        self._pacing = Pacing()
        self._workers: set[threading.Thread] = set()
        self._closed = threading.Event()
        key = secrets.token_urlsafe(32)
        self._server: Any = _start_server(path, settings, key)
        self._http = httpx.Client(
            base_url=self._server.listening_address,
            headers={"Authorization": f"Bearer {key}"},
            timeout=HTTP_TIMEOUT,
            trust_env=False,
        )
        self._count = functools.lru_cache(maxsize=256)(self._count_tokens)
        has_place = "tools" in str(self._properties().get("chat_template"))
        self.takes_tools = calls_tools and has_place

    def warm_up(self) -> None:
        """Read the system prompt into every slot and generate a few tokens."""
        system = ChatMessage("system", self._settings.system_prompt)
        request = GenerationRequest((system, ChatMessage("user", "Hello.")), max_tokens=4)
        prefix = cut_prompt((system, ChatMessage("user", "")), self._render)
        for slot in self._slots.all:
            self._read(prefix, slot.number, Cancellation())
        for _ in self.stream(request, Cancellation()):
            pass

    def count_tokens(self, messages: Sequence[ChatMessage], tools: Sequence[Tool] = ()) -> int:
        """Length in tokens of the prompt that these messages become, the template's included."""
        return self._count(tuple(messages), tuple(tools))

    def stream(self, request: GenerationRequest, cancellation: Cancellation) -> Stream:
        """Yield the reply's text as it is generated.

        Raises:
            ModelError: the prompt does not fit, or nothing came for `reply_timeout` seconds.
        """
        events: queue.SimpleQueue[Any] = queue.SimpleQueue()  # bounded by the request's own length
        abandoned = Cancellation()

        def generate(slot: int) -> None:
            try:
                with as_model_errors(self.name):
                    self._generate(request, slot, abandoned, events.put)
            except ModelError as error:
                events.put(error)
            finally:
                events.put(_DONE)

        # The caller is released at once; the call returns at its next look at `abandoned`.
        cancellation.on_request(abandoned.request)
        cancellation.on_request(lambda: events.put(_DONE))
        abandoned.on_request(self._pacing.wake)
        self._start_worker(request.messages, abandoned, generate)
        finish, fragments = Finish.STOP, CallFragments()
        try:
            while (event := self._next(events)) is not _DONE and not cancellation.requested:
                yield from _pieces(event)
                finish = _finish(event) or finish
                for choice in event["choices"]:
                    fragments.add((choice.get("delta") or {}).get("tool_calls"))
            if not cancellation.requested:
                yield from fragments.calls()
        finally:
            abandoned.request()
        return finish

    def _generate(
        self,
        request: GenerationRequest,
        slot: int,
        abandoned: Cancellation,
        put: Callable[[Mapping[str, Any]], None],
    ) -> None:
        """Make a reply in a slot. It pauses while others wait for their first clause.

        llama.cpp cannot pause a request: it is ended, and goes on as the completion of what there
        is. The slot's cache holds that, so going on costs no more than the next token. Only a chat
        can call tools, so one that may is not ended.
        """
        text, made = "", 0
        paused = thinks = False
        key = object()

        def receive(chunk: Mapping[str, Any]) -> bool:
            nonlocal text, made, paused, thinks
            put(chunk)
            for piece in [] if "error" in chunk else _pieces(chunk):
                if isinstance(piece, Thinking):
                    thinks = True
                    continue
                text += piece
                made += 1
                left = made < request.max_tokens and not any(
                    choice.get("finish_reason") for choice in chunk["choices"]
                )
                may_pause = left and not thinks and not request.tools
                paused = self._pacing.advance(key) and may_pause
            return abandoned.requested or paused

        self._pacing.enter(key)
        try:
            if request.must_call:
                prompt = self._render(request.messages, request.tools) + _CALL_OPENING
                call = {"prompt": prompt, **_sampling(request, slot)}
                call["json_schema"] = call_schema(request.tools)
                put({"choices": [{"text": _CALL_OPENING}]})
                self._call(self._server.handle_completions, call, receive)
                return
            chat = self._conversation(request.messages, request.tools) | _sampling(request, slot)
            self._call(self._server.handle_chat_completions, chat, receive)
            while paused and not abandoned.requested:
                self._pacing.pause(key, lambda: abandoned.requested)
                paused = False
                if not abandoned.requested:
                    prompt = self._render(request.messages) + text
                    rest = replace(request, max_tokens=request.max_tokens - made)
                    completion = {"prompt": prompt, **_sampling(rest, slot)}
                    self._call(self._server.handle_completions, completion, receive)
        finally:
            self._pacing.leave(key)

    def prefill(
        self,
        messages: Sequence[ChatMessage],
        cancellation: Cancellation,
        tools: Sequence[Tool] = (),
    ) -> None:
        """Read the prompt up to the last whole word of the last message into a slot's cache.

        Returns when it is read or, within two batches, cancelled.
        """
        self._require_open()
        prefix = cut_prompt(messages, functools.partial(self._render, tools=tools))
        with self._slots.taken(tuple(messages), cancellation) as slot:
            self._read(prefix, slot.number, cancellation)

    def close(self) -> None:
        """Stop all generations and release the model."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._slots.cancel_all()
        for worker in tuple(self._workers):
            worker.join(CLOSE_TIMEOUT)
        self._http.close()
        self._server = None  # the last reference: llama.cpp's threads end with it

    def _start_worker(
        self,
        messages: tuple[ChatMessage, ...],
        cancellation: Cancellation,
        generate: Callable[[int], None],
    ) -> None:
        """Run `generate` in a thread of its own, with a slot that is held until it returns."""

        def work() -> None:
            try:
                with self._slots.taken(messages, cancellation) as slot:
                    generate(slot.number)
            finally:
                self._workers.discard(threading.current_thread())

        self._require_open()
        worker = tasks.thread("llama_cpp request", work)
        self._workers.add(worker)
        worker.start()

    def _require_open(self) -> None:
        if self._closed.is_set():
            raise ModelError("The language model has been closed.")

    def _next(self, events: queue.SimpleQueue[Any]) -> Any:
        try:
            return events.get(timeout=self._settings.reply_timeout)
        except queue.Empty:
            raise ModelError(
                f"The language model made no progress for {self._settings.reply_timeout:g} "
                "seconds; the machine may be overloaded."
            ) from None

    def _read(self, prompt: str, slot: int, cancellation: Cancellation) -> None:
        """Read a prompt into a slot. llama.cpp samples one token at its end, which is dropped."""
        failure: list[ModelError] = []

        def receive(chunk: Mapping[str, Any]) -> bool:
            if "error" in chunk:
                failure.append(_failure(chunk["error"]))
            return cancellation.requested

        request = {
            "prompt": prompt,
            "max_tokens": 1,
            "stream": True,
            "return_progress": True,
            "cache_prompt": True,
            "id_slot": slot,
        }
        self._call(self._server.handle_completions, request, receive)
        if failure:
            raise failure[0]

    def _call(
        self,
        handle: Callable[[dict[str, Any], Callable[[Mapping[str, Any]], bool]], None],
        request: dict[str, Any],
        receive: Callable[[Mapping[str, Any]], bool],
    ) -> None:
        """Let llama.cpp work; each batch of a prompt, and each token, is progress."""
        with watched("the language model", patience(self._settings.reply_timeout)) as call:

            def progress(chunk: Mapping[str, Any]) -> bool:
                call.progress()
                return receive(chunk)

            handle(request, progress)

    def _render(self, messages: Sequence[ChatMessage], tools: Sequence[Tool] = ()) -> str:
        answer = self._post("/apply-template", self._conversation(messages, tools))
        return str(answer["prompt"])

    def _count_tokens(self, messages: tuple[ChatMessage, ...], tools: tuple[Tool, ...]) -> int:
        prompt = self._render(messages, tools)
        answer = self._post(
            "/tokenize", {"content": prompt, "add_special": True, "parse_special": True}
        )
        return len(answer["tokens"])

    def _conversation(
        self, messages: Sequence[ChatMessage], tools: Sequence[Tool]
    ) -> dict[str, Any]:
        if not tools:
            return {"messages": messages_as_json(messages)}
        told = tell_history(messages) if self._tells_history else messages
        return {"messages": messages_as_json(told), "tools": tools_as_json(tools)}

    def _properties(self) -> dict[str, Any]:
        """What llama.cpp says of the model. Raises ConfigurationError."""
        try:
            properties: dict[str, Any] = self._http.get("/props").raise_for_status().json()
        except (httpx.HTTPError, ValueError) as error:
            raise ConfigurationError(f"llama.cpp does not describe {self.name}: {error}") from error
        return properties

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        try:
            return self._http.post(path, json=body).raise_for_status().json()
        except httpx.HTTPError as error:
            logger.warning("llama.cpp's %s failed: %s", path, error)
            raise ModelError(
                "The language model could not turn the conversation into a prompt."
            ) from error


def _start_server(path: Path, settings: Settings, key: str) -> Any:
    """Load the model and start llama.cpp's threads."""
    _require_gguf(path)
    slots = settings.max_clients
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.n_parallel = slots
    parameters.n_ctx = slots * _context_length(settings)
    # A batch has room for one token of each, or llama.cpp aborts the process.
    parameters.n_batch = parameters.n_ubatch = max(BATCH_TOKENS, slots)
    parameters.cpuparams.n_threads = settings.language_model_threads
    parameters.cpuparams_batch.n_threads = settings.language_model_threads
    parameters.enable_reasoning = 0  # a model that thinks first would keep the person waiting
    parameters.cache_ram_mib = 0  # the slots hold what can be of use again
    parameters.cache_idle_slots = False
    parameters.verbosity = -1
    parameters.api_keys = [key]
    parameters.port = 0
    parameters.n_threads_http = settings.max_clients
    parameters.ui = False
    try:
        return xllamacpp.Server(parameters)
    except RuntimeError as error:
        raise ConfigurationError(
            f"llama.cpp cannot load {path}: the file is damaged or incomplete, its architecture is "
            f"unknown to xllamacpp {xllamacpp.__version__}, or the memory does not suffice."
        ) from error


def _context_length(settings: Settings) -> int:
    """Tokens a slot must hold: prompt and reply, rounded up as llama.cpp does, to 256."""
    longest = settings.prompt_tokens(tools=True) + settings.max_new_tokens
    return -(-longest // 256) * 256


def _require_gguf(path: Path) -> None:
    """llama.cpp says only that it failed: find the plain reasons first."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise ConfigurationError(
            f"The language model {path} cannot be read ({error.strerror}): check --llm."
        ) from error
    if magic != b"GGUF":
        raise ConfigurationError(
            f"{path} is no GGUF file: give --llm one, or delete it to have it fetched again."
        )


def _sampling(request: GenerationRequest, slot: int) -> dict[str, Any]:
    return {
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": 0,  # off: the two above are what can be set
        "min_p": 0.0,
        "stream": True,
        "return_progress": True,
        "cache_prompt": True,
        "id_slot": slot,
    }


def _pieces(event: Any) -> list[str | Thinking]:
    """What a chunk brings. Raises ModelError for one that tells of a failure."""
    if isinstance(event, ModelError):
        raise event
    if "error" in event:
        raise _failure(event["error"])
    pieces: list[str | Thinking] = []
    for choice in event["choices"]:
        delta = choice.get("delta") or {"content": choice.get("text")}
        if text := delta.get("content"):
            pieces.append(text)
        elif delta.get("reasoning_content"):
            pieces.append(THINKING)
    return pieces


def _finish(event: Mapping[str, Any]) -> Finish | None:
    reasons = [choice.get("finish_reason") for choice in event["choices"]]
    return Finish.LENGTH if "length" in reasons else None


def _failure(error: Mapping[str, Any]) -> ModelError:
    logger.warning("llama.cpp: %s", error.get("message"))
    if error.get("type") == "exceed_context_size_error":
        return ModelError(
            f"The conversation has {error['n_prompt_tokens']} tokens, and the language model's "
            f"context holds {error['n_ctx']}: say it in fewer words."
        )
    return ModelError("The language model failed to answer.")
