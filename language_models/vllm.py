"""vLLM in this process: any checkpoint that it can read, for many people on one NVIDIA GPU.

One thread owns the engine. It takes in what is asked, steps all requests together, and hands out
their text; vLLM admits and ends requests between two steps. Its own asynchronous engine runs in a
process of its own, which a killed parent leaves behind with the GPU's memory: here it is
`LLMEngine`, within.

Prompts that begin alike share their cache, which is kept when a request ends. So `prefill` is a
request of one token that gives way to all others, and a withdrawn reply is an aborted request.

An engine whose step fails is lost, whatever it was: everybody is told, and the process ends.
"""

from __future__ import annotations

import functools
import itertools
import logging
import os
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

# Before vllm is imported: within this process, its log through ours, and nobody told of its use.
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ.setdefault("VLLM_CONFIGURE_LOGGING", "0")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("DO_NOT_TRACK", "1")

from vllm import EngineArgs, LLMEngine, SamplingParams, TokensPrompt
from vllm.sampling_params import RequestOutputKind

from fusion import tasks
from fusion.errors import ConfigurationError, ModelError
from fusion.models.gpu_llms import best_for
from fusion.selection import first_gpu
from fusion.setting_field import AUTO
from fusion.settings import Settings
from fusion.tools import Tool
from fusion.watchdog import watched
from language_models.base import (
    Cancellation,
    ChatMessage,
    Finish,
    GenerationRequest,
    LanguageModel,
    Stream,
    patience,
)
from language_models.chat_template import ChatTemplate
from language_models.library_errors import as_model_errors
from language_models.slots import cut_prompt
from language_models.thinking import OPENING_TAG

logger = logging.getLogger(__name__)

IDLE_POLL = 1.0
CLOSE_TIMEOUT = 10.0

_LOAD_ERRORS = (
    *(OSError, ValueError, RuntimeError, ImportError),
    *(AssertionError, AttributeError),  # its checks of the memory, and models that it half knows
)

_AWAITED, _AHEAD = 0, 1
"""vLLM's priorities: the lower number goes first."""


def load(settings: Settings) -> LanguageModel:
    """Load `settings.vllm_model`, by default the best of the table that the GPU has room for.

    Raises:
        ConfigurationError: there is no such model, it has no chat template, or the GPU cannot run
            it or has no room.
    """
    name = settings.vllm_model
    if name == AUTO:
        gpu = first_gpu()
        if gpu is None:
            raise ConfigurationError("vLLM needs an NVIDIA GPU, and none was found.")
        name = best_for(gpu.memory, settings.llm_gpu_share).name
    arguments = EngineArgs(
        model=name,
        max_model_len=settings.prompt_tokens(tools=True) + settings.max_new_tokens,
        max_num_seqs=2 * settings.max_clients,  # each may have a reply and a prefill
        gpu_memory_utilization=settings.llm_gpu_share,
        enable_prefix_caching=True,
        scheduling_policy="priority",
        disable_log_stats=True,
        enforce_eager=not settings.torch_compile,
    )
    logger.info("Loading %s with vLLM, which compiles it for some minutes at a first start", name)
    try:
        engine = LLMEngine.from_engine_args(arguments)
    except _LOAD_ERRORS as error:
        raise ConfigurationError(
            f"vLLM cannot run {name} here ({_first_line(error)}): name another model with "
            "--vllm_model, or give it more or less of the GPU's memory with --llm_gpu_share."
        ) from error
    tokenizer = engine.get_tokenizer()
    if not getattr(tokenizer, "chat_template", None):
        raise ConfigurationError(
            f"The language model {name} has no chat template: give --vllm_model one that was "
            "trained for conversation."
        )
    return VLLMModel(engine, ChatTemplate(tokenizer), name, settings)


class VLLMModel:
    """An engine with its chat template. Every method may be called from any thread."""

    def __init__(
        self, engine: LLMEngine, template: ChatTemplate, name: str, settings: Settings
    ) -> None:
        self.name = f"vllm: {name.rstrip('/').rpartition('/')[2]}"
        self.max_concurrent = settings.max_clients
        self._template = template
        self._settings = settings
        self.takes_tools = template.takes_tools
        self._context = settings.prompt_tokens(tools=True) + settings.max_new_tokens
        self._count = functools.lru_cache(maxsize=256)(self._count_tokens)
        self._worker = _Worker(engine, patience(settings.reply_timeout))

    def warm_up(self) -> None:
        """Generate a few tokens, and keep the system prompt's cache."""
        system = ChatMessage("system", self._settings.system_prompt)
        request = GenerationRequest((system, ChatMessage("user", "Hello.")), max_tokens=4)
        for _ in self.stream(request, Cancellation()):
            pass

    def count_tokens(self, messages: Sequence[ChatMessage], tools: Sequence[Tool] = ()) -> int:
        """Length in tokens of the prompt that these messages become, the template's included."""
        return self._count(tuple(messages), tuple(tools))

    def stream(self, request: GenerationRequest, cancellation: Cancellation) -> Stream:
        """Yield the reply's text as it is generated.

        Raises:
            ModelError: the prompt does not fit, vLLM failed, or nothing came for `reply_timeout`
                seconds.
        """
        prompt = self._template.render(request.messages, request.tools)
        opening = self._template.call_opening if request.must_call else ""
        prompt += opening
        ids = self._template.encode(prompt)
        if len(ids) + request.max_tokens > self._context:
            raise ModelError(
                f"The conversation has {len(ids)} tokens, and the language model's context holds "
                f"{self._context} with the reply: say it in fewer words."
            )
        if prompt.rstrip().endswith(OPENING_TAG):
            yield OPENING_TAG
        if opening:
            yield opening
        job = _Job(ids, _sampling(request), _AWAITED)
        return (yield from self._read(job, cancellation))

    def prefill(
        self,
        messages: Sequence[ChatMessage],
        cancellation: Cancellation,
        tools: Sequence[Tool] = (),
    ) -> None:
        """Read the prompt up to the last whole word of the last message into the cache.

        vLLM keeps whole blocks of 16 tokens.
        """
        render = functools.partial(self._template.render, tools=tools)
        ids = self._template.encode(cut_prompt(messages, render))
        if not ids or len(ids) >= self._context:
            return
        job = _Job(ids, SamplingParams(max_tokens=1, temperature=0.0), _AHEAD)
        for _ in self._read(job, cancellation):
            pass

    def close(self) -> None:
        """Stop all requests and release the GPU."""
        self._worker.close()

    def _read(self, job: _Job, cancellation: Cancellation) -> Stream:
        """The text of a job. It is aborted when nobody reads on."""
        finish = Finish.STOP
        cancellation.on_request(job.abandon)
        try:
            self._worker.submit(job)
            while (arrival := job.next(self._settings.reply_timeout)) is not None:
                if arrival.text:
                    yield arrival.text
                finish = Finish.LENGTH if arrival.reason == "length" else finish
        finally:
            job.abandon()
        return finish

    def _count_tokens(self, messages: tuple[ChatMessage, ...], tools: tuple[Tool, ...]) -> int:
        return len(self._template.encode(self._template.render(messages, tools)))


@dataclass(frozen=True)
class _Arrival:
    """New text, and at its end vLLM's word for why it ended."""

    text: str
    reason: str


@dataclass(eq=False)
class _Job:
    """One request. `arrivals` carries its text, an error, or None at the end.

    It holds no more than the request has tokens.
    """

    ids: list[int]
    sampling: SamplingParams
    priority: int
    arrivals: queue.SimpleQueue[_Arrival | ModelError | None] = field(
        default_factory=queue.SimpleQueue
    )
    abandoned: bool = False

    def abandon(self) -> None:
        """Let nobody wait for it any more. Safe from any thread."""
        self.abandoned = True
        self.arrivals.put(None)

    def next(self, timeout: float) -> _Arrival | None:
        if self.abandoned:
            return None
        try:
            arrival = self.arrivals.get(timeout=timeout)
        except queue.Empty:
            raise ModelError(
                f"The language model made no progress for {timeout:g} seconds; the GPU may be "
                "overloaded."
            ) from None
        if isinstance(arrival, ModelError):
            raise arrival
        return arrival


class _Worker:
    """The thread that owns the engine."""

    def __init__(self, engine: LLMEngine, patience: float) -> None:
        self._engine = engine
        self._patience = patience
        self._inbox: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._running: dict[str, _Job] = {}
        self._names = map(str, itertools.count())
        self._closed = threading.Event()
        self._thread = tasks.thread("vllm", self._run)
        self._thread.start()

    def submit(self, job: _Job) -> None:
        if self._closed.is_set():
            raise ModelError("The language model has been closed.")
        self._inbox.put(job)

    def close(self) -> None:
        self._closed.set()
        self._inbox.put(None)
        self._thread.join(CLOSE_TIMEOUT)

    def _run(self) -> None:
        try:
            while not self._closed.is_set():
                self._admit()
                self._drop_abandoned()
                if self._running:
                    self._step()
        finally:
            self._tell_all(ModelError("The language model has stopped."))
        self._engine.engine_core.shutdown()

    def _admit(self) -> None:
        """Hand what was asked to the engine; wait for it where there is nothing else to do."""
        wait = not self._running
        while True:
            try:
                job = self._inbox.get(wait, IDLE_POLL)
            except queue.Empty:
                return
            if job is None:
                return
            wait = False
            if not job.abandoned:
                self._add(job)

    def _add(self, job: _Job) -> None:
        name = next(self._names)
        prompt = TokensPrompt(prompt_token_ids=job.ids)
        try:
            with as_model_errors("vLLM"):
                self._engine.add_request(name, prompt, job.sampling, priority=job.priority)
        except ModelError as error:
            job.arrivals.put(error)
        else:
            self._running[name] = job

    def _drop_abandoned(self) -> None:
        dropped = [name for name, job in self._running.items() if job.abandoned]
        if dropped:
            self._engine.abort_request(dropped)
        for name in dropped:
            del self._running[name]

    def _step(self) -> None:
        with watched("the language model", self._patience):
            outputs = self._engine.step()
        for output in outputs:
            job = self._running.get(output.request_id)
            if job is None:
                continue  # aborted a moment ago
            [completion] = output.outputs
            job.arrivals.put(_Arrival(completion.text, completion.finish_reason or ""))
            if output.finished:
                del self._running[output.request_id]
                job.arrivals.put(None)

    def _tell_all(self, error: ModelError) -> None:
        waiting = list(self._running.values())
        while not self._inbox.empty():
            if (job := self._inbox.get()) is not None:
                waiting.append(job)
        for job in waiting:
            job.arrivals.put(error)


def _sampling(request: GenerationRequest) -> SamplingParams:
    return SamplingParams(
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        top_p=request.top_p if request.temperature > 0 else 1.0,
        output_kind=RequestOutputKind.DELTA,
    )


def _first_line(error: BaseException) -> str:
    """Why, in one line: vLLM's own sentence is at times the cause of what it raises."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
