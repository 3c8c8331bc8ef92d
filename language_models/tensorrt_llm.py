"""Phi and Mistral as TensorRT-LLM 0.10.0 engines.

One `Executor` batches all sessions' replies in flight. One thread reads its responses and hands
each to the stream that waits for it, so no session waits for another's.
"""

from __future__ import annotations

import json
import logging
import queue
import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import tensorrt_llm.bindings.executor as trt
from transformers import AutoTokenizer

from fusion import tasks
from fusion.errors import ConfigurationError, ModelError
from fusion.selection import engines_present, language_engine
from fusion.settings import Settings
from fusion.tools import Tool
from fusion.watchdog import watched
from language_models.base import (
    Cancellation,
    ChatMessage,
    Finish,
    GenerationRequest,
    Stream,
    patience,
)
from language_models.detokenize import Detokenizer
from language_models.library_errors import as_model_errors
from language_models.prompts import CHATML, PHI_FORMATS, PromptFormat, StopStringFilter
from language_models.slots import cut_prompt

logger = logging.getLogger(__name__)

ENGINE_VERSION = "0.10."

READ_TIMEOUT = timedelta(milliseconds=100)
"""How long the reader waits at a time: how late it sees that it shall end."""

CANCEL_DEADLINE = 5.0
"""Seconds after which a cancelled request is forgotten, answered or not.

Whether 0.10.0 answers a cancellation lies in a closed library; both are provided for.
"""

WAKE = None
"""Put in a stream's queue so that it sees its cancellation at once."""


class Tokenizer(Protocol):
    """What is used of a Hugging Face tokenizer."""

    def encode(self, text: str) -> list[int]: ...

    def decode(
        self,
        token_ids: Sequence[int],
        *,
        skip_special_tokens: bool,
        clean_up_tokenization_spaces: bool,
    ) -> str: ...


@dataclass(frozen=True)
class Engine:
    """An engine folder and the limits that it was built with."""

    folder: Path
    max_batch_size: int
    max_input_len: int
    max_output_len: int
    keeps_prompts: bool = False
    """Whether requests share what they read of their prompts: built with paged context."""

    @classmethod
    def read(cls, folder: Path, advice: str) -> Engine:
        """Read `config.json`. Raises ConfigurationError, with `advice`, if there is no engine."""
        try:
            config = json.loads((folder / "config.json").read_text())
            version, build = str(config["version"]), config["build_config"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"There is no TensorRT-LLM engine in {folder} ({error!r}); {advice}."
            ) from error
        if not version.startswith(ENGINE_VERSION):
            raise ConfigurationError(
                f"The engine in {folder} was built by TensorRT-LLM {version}, and 0.10 runs only "
                f"its own; {advice}."
            )
        plugins = build.get("plugin_config") or {}
        return cls(
            folder,
            build["max_batch_size"],
            build["max_input_len"],
            build["max_output_len"],
            bool(plugins.get("use_paged_context_fmha")),
        )


@dataclass
class _Reply:
    """What arrives for one request. `cancelled_at` is set once nobody waits for it any more."""

    arrivals: queue.Queue[Any] = field(default_factory=queue.Queue)
    cancelled_at: float | None = None


class Replies:
    """The executor and the thread that reads from it.

    `open`, `cancel` and `close` are safe from any thread.
    """

    def __init__(self, executor: Any) -> None:
        self._executor = executor
        self._lock = threading.Lock()
        self._replies: dict[int, _Reply] = {}
        self._closing = threading.Event()
        self._failure = ""
        self._reader = tasks.thread("tensorrt_llm replies", self._read)
        self._reader.start()

    def open(self, request: Any) -> tuple[int, queue.Queue[Any]]:
        """Enqueue a request: its id and the queue that its responses come in.

        The queue holds no more than the request's own tokens. Raises ModelError.
        """
        # The first response may be read before enqueue_request returns: the lock makes it wait.
        with self._lock:
            if self._failure:
                raise ModelError(self._failure)
            with as_model_errors("TensorRT-LLM"):
                request_id = self._executor.enqueue_request(request)
            reply = self._replies[request_id] = _Reply()
        return request_id, reply.arrivals

    def cancel(self, request_id: int) -> None:
        """Stop a request if it still runs. What it answers to that is read and dropped."""
        with self._lock:
            reply = self._replies.get(request_id)
            if reply is None or reply.cancelled_at is not None:
                return
            reply.cancelled_at = time.monotonic()
            self._executor.cancel_request(request_id)

    def close(self) -> None:
        with self._lock:
            if self._closing.is_set():
                return
            self._closing.set()
        self._fail("The language model is closed.")
        self._reader.join(timeout=CANCEL_DEADLINE)
        self._executor.shutdown()

    def _read(self) -> None:
        while not self._closing.is_set():
            try:
                responses = self._executor.await_responses(timeout=READ_TIMEOUT)
            except RuntimeError as error:
                self._fail(f"TensorRT-LLM stopped answering: {error}")
                raise  # it never will again: the process ends, and is started anew
            for response in responses:
                self._deliver(response)
            self._forget_unanswered()

    def _deliver(self, response: Any) -> None:
        # A response with an error has no result: touching it would raise.
        final = response.has_error() or response.result.is_final
        with self._lock:
            reply = self._replies.get(response.request_id)
            if final:
                self._replies.pop(response.request_id, None)
        if reply is not None and reply.cancelled_at is None:
            reply.arrivals.put_nowait(response)

    def _forget_unanswered(self) -> None:
        limit = time.monotonic() - CANCEL_DEADLINE
        with self._lock:
            for request_id, reply in list(self._replies.items()):
                if reply.cancelled_at is not None and reply.cancelled_at < limit:
                    del self._replies[request_id]
                    logger.warning("request %d did not answer its cancellation", request_id)

    def _fail(self, reason: str) -> None:
        with self._lock:
            self._failure = reason
            replies, self._replies = self._replies, {}
        for reply in replies.values():
            reply.arrivals.put_nowait(ModelError(reason))


class TensorRTLanguageModel:
    """A `LanguageModel` over one engine."""

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        prompt_format: PromptFormat,
        replies: Replies,
        settings: Settings,
    ) -> None:
        self.name = f"tensorrt_llm: {engine.folder.name}"
        self.max_concurrent = engine.max_batch_size
        self._engine = engine
        self._tokenizer = tokenizer
        self._format = prompt_format
        self._replies = replies
        self._reply_timeout = settings.reply_timeout
        longest = settings.prompt_tokens(tools=True)
        self.takes_tools = prompt_format.takes_tools and longest <= engine.max_input_len
        if prompt_format.takes_tools and not self.takes_tools:
            logger.info(
                "no tools: the engine takes prompts of %d tokens, and they need %d "
                "(--max_prompt_tokens and --max_tool_tokens)",
                engine.max_input_len,
                longest,
            )

    def warm_up(self) -> None:
        greeting = GenerationRequest((ChatMessage("user", "Hello"),), max_tokens=4)
        for _ in self.stream(greeting, Cancellation()):
            pass

    def count_tokens(self, messages: Sequence[ChatMessage], tools: Sequence[Tool] = ()) -> int:
        return len(self._tokenizer.encode(self._format.render(messages, tools)))

    def stream(self, request: GenerationRequest, cancellation: Cancellation) -> Stream:
        most = min(request.max_tokens, self._engine.max_output_len)
        opening = "<tool_call>\n" if request.must_call else ""
        ids = self._prompt(request, opening)
        request_id, arrivals = self._replies.open(self._request(ids, most, _sampling(request)))
        cancellation.on_request(lambda: arrivals.put_nowait(WAKE))
        text = Detokenizer(self._decode)
        made = 0
        cut = StopStringFilter(self._format.stop_strings)
        try:
            if opening:
                yield opening
            with watched("the language model", patience(self._reply_timeout)) as call:
                for new in self._tokens(arrivals, cancellation):
                    call.progress()
                    made += len(new)
                    if piece := cut.push(text.push(new)):
                        yield piece
                    if cut.complete:
                        return Finish.STOP
            if not cancellation.requested and (
                piece := cut.push(text.finish()) + ("" if cut.complete else cut.finish())
            ):
                yield piece
        finally:
            self._replies.cancel(request_id)
        return Finish.LENGTH if made >= most else Finish.STOP

    def prefill(
        self,
        messages: Sequence[ChatMessage],
        cancellation: Cancellation,
        tools: Sequence[Tool] = (),
    ) -> None:
        """Read the prompt up to the last whole word of the last message, as a request of one token.

        Only engines that were built for it keep what they read; for others this does nothing.
        """
        if not self._engine.keeps_prompts:
            return
        render = partial(self._format.render, tools=tools)
        ids = self._tokenizer.encode(cut_prompt(messages, render))
        if not ids or len(ids) > self._engine.max_input_len:
            return
        request_id, arrivals = self._replies.open(self._request(ids, 1, _greedy()))
        cancellation.on_request(lambda: arrivals.put_nowait(WAKE))
        try:
            for _ in self._tokens(arrivals, cancellation):
                pass
        finally:
            self._replies.cancel(request_id)

    def close(self) -> None:
        self._replies.close()

    def _prompt(self, request: GenerationRequest, opening: str) -> list[int]:
        prompt = self._format.render(request.messages, request.tools)
        ids = self._tokenizer.encode(prompt + opening)
        if len(ids) > self._engine.max_input_len:
            raise ModelError(
                f"The conversation is {len(ids)} tokens long and the engine takes "
                f"{self._engine.max_input_len}; lower --max_prompt_tokens."
            )
        return ids

    def _request(self, ids: list[int], max_new_tokens: int, sampling: Any) -> Any:
        end_id, *other_ends = self._format.stop_ids
        return trt.Request(
            input_token_ids=ids,
            max_new_tokens=max_new_tokens,
            streaming=True,
            sampling_config=sampling,
            output_config=trt.OutputConfig(exclude_input_from_output=True),
            end_id=end_id,
            pad_id=end_id,
            stop_words=[[token] for token in other_ends] or None,
        )

    def _tokens(
        self, arrivals: queue.Queue[Any], cancellation: Cancellation
    ) -> Iterator[list[int]]:
        """The new token ids of each response, until the final one or the cancellation."""
        while True:
            try:
                arrival = arrivals.get(timeout=self._reply_timeout)
            except queue.Empty:
                raise ModelError(
                    f"TensorRT-LLM made no progress for {self._reply_timeout:g} s."
                ) from None
            if cancellation.requested:
                return
            if isinstance(arrival, ModelError):
                raise arrival
            if arrival.has_error():
                raise ModelError(f"TensorRT-LLM could not answer: {arrival.error_msg}")
            new = arrival.result.output_token_ids[0]
            yield [token for token in new if token not in self._format.stop_ids]
            if arrival.result.is_final:
                return

    def _decode(self, ids: Sequence[int]) -> str:
        # Tidying spaces would rewrite text that was already sent.
        return self._tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )


def load(settings: Settings) -> TensorRTLanguageModel:
    """Load the engine that `--phi` or `--mistral` names, else the one that is there.

    Raises ConfigurationError for a path that is missing or an engine that does not open.
    """
    kind = language_engine(settings, engines_present(settings))
    if kind == "mistral":
        prompt_format = CHATML
        engine_path, tokenizer_path = (
            settings.mistral_tensorrt_path,
            settings.mistral_tokenizer_path,
        )
    else:
        prompt_format = PHI_FORMATS[settings.phi_model_type]
        engine_path, tokenizer_path = settings.phi_tensorrt_path, settings.phi_tokenizer_path
    engine = Engine.read(
        Path(engine_path),
        f"build it with docker/scripts/build-{kind}.sh "
        f"or name its folder with --{kind}_tensorrt_path",
    )
    if settings.max_prompt_tokens > engine.max_input_len:
        raise ConfigurationError(
            f"The engine in {engine.folder} takes prompts of {engine.max_input_len} tokens: give "
            f"--max_prompt_tokens {engine.max_input_len} or less, or build it again."
        )
    tokenizer = _tokenizer(tokenizer_path, f"--{kind}_tokenizer_path")
    replies = Replies(_executor(engine, settings.kv_cache_fraction))
    logger.info("Loaded LLM TensorRT Engine")
    return TensorRTLanguageModel(engine, tokenizer, prompt_format, replies, settings)


def _executor(engine: Engine, kv_cache_fraction: float) -> Any:
    # Left alone, the cache takes 0.9 of what is free, and the other two models share the card.
    cache = trt.KvCacheConfig(
        enable_block_reuse=engine.keeps_prompts, free_gpu_memory_fraction=kv_cache_fraction
    )
    try:
        return trt.Executor(
            engine.folder,
            trt.ModelType.DECODER_ONLY,
            trt.ExecutorConfig(max_beam_width=1, kv_cache_config=cache),
        )
    except (RuntimeError, AttributeError, AssertionError) as error:
        raise ConfigurationError(
            f"The engine in {engine.folder} does not open on this GPU; build it again on this "
            f"machine, or lower --kv_cache_fraction if memory is short ({error})."
        ) from error


def _tokenizer(path: str, flag: str) -> Tokenizer:
    if Path(path).is_absolute() and not Path(path).is_dir():
        raise ConfigurationError(f"There is no tokenizer folder {path}; name it with {flag}.")
    try:
        tokenizer: Tokenizer = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"The tokenizer {path} cannot be loaded ({error}); name another with {flag}."
        ) from error
    return tokenizer


def _greedy() -> Any:
    return trt.SamplingConfig(beam_width=1, top_k=1)


def _sampling(request: GenerationRequest) -> Any:
    if request.temperature <= 0:
        return _greedy()
    return trt.SamplingConfig(
        beam_width=1,
        top_p=request.top_p,
        temperature=request.temperature,
        # The default seed is fixed: every reply to the same words would be the same.
        random_seed=random.getrandbits(63),
    )
