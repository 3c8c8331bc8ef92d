"""A transformers model in this process, on PyTorch: for a GPU host without TensorRT-LLM.

One thread owns the model and its cache (`transformers_batch.py`), in which each conversation has a
slot: generations join and leave at any token. Fixed shapes also make a reply independent of who
else is served.

Between two steps one piece of one prompt is read, and only from where it differs from what the
slot holds already. A cancellation is seen between two steps or pieces.

Models whose layers all attend to the whole past; state-space and linear-attention layers are
refused. A sliding window is read as if it were unlimited, which is the same as long as the
context (prompt and reply) is shorter than the window.
"""

from __future__ import annotations

import functools
import logging
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError  # type: ignore[import-not-found, unused-ignore]
from transformers import AutoModelForCausalLM, AutoTokenizer

from fusion import cuda_graphs, tasks
from fusion.errors import ConfigurationError, ModelError
from fusion.selection import first_gpu
from fusion.settings import Settings
from fusion.watchdog import watched
from language_models.base import (
    Cancellation,
    ChatMessage,
    Finish,
    GenerationRequest,
    LanguageModel,
    Stream,
)
from language_models.detokenize import Detokenizer
from language_models.library_errors import as_model_errors
from language_models.slots import Slot, Slots, cut_prompt
from language_models.thinking import OPENING_TAG
from language_models.transformers_batch import Batch

logger = logging.getLogger(__name__)

IDLE_POLL = 1.0
CLOSE_TIMEOUT = 10.0

_PATIENCE = 60.0
"""Seconds for one token of each reply; capturing a CUDA graph anew is the longest of it."""

# torch.compile takes a minute or two the first time.
WARM_UP_TIMEOUT = 900.0


def load(settings: Settings) -> LanguageModel:
    """Load `settings.transformers_model` onto the GPU, else onto the CPU.

    Raises:
        ConfigurationError: there is no such model, it has no chat template, or this file cannot
            run its kind.
    """
    source = settings.transformers_model
    path = Path(source).expanduser()
    where: dict[str, str] = {}
    if path.suffix == ".gguf":
        source, where = str(path.parent), {"gguf_file": path.name}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and (gpu := first_gpu()):
        logger.warning(
            "no GPU for the language model (PyTorch %s cannot use the %s): it runs on the CPU",
            torch.__version__,
            gpu.name,
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **where)
        model = AutoModelForCausalLM.from_pretrained(
            source, dtype=_dtype(device), attn_implementation="sdpa", **where
        )
    except (OSError, ValueError, ImportError) as error:
        raise ConfigurationError(
            f"The language model {settings.transformers_model} cannot be loaded: "
            f"{str(error).splitlines()[0]}; check --transformers_model."
        ) from error
    if not tokenizer.chat_template:
        raise ConfigurationError(
            f"The language model {settings.transformers_model} has no chat template: give "
            "--transformers_model one that was trained for conversation."
        )
    if device == "cpu":
        torch.set_num_threads(settings.cpu_threads)
    return TransformersModel(model.to(device).eval(), tokenizer, settings)


def _dtype(device: str) -> torch.dtype:
    if device == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


class TransformersModel:
    """A causal language model with its tokenizer. Every method may be called from any thread."""

    def __init__(self, model: Any, tokenizer: Any, settings: Settings) -> None:
        self.name = f"transformers: {Path(settings.transformers_model).name} on {model.device.type}"
        self.max_concurrent = settings.max_clients
        self._settings = settings
        self._tokenizer = tokenizer
        self._takes_system = _takes_system(tokenizer)
        self._context = settings.max_prompt_tokens + settings.max_new_tokens
        self._count = functools.lru_cache(maxsize=256)(self._count_tokens)
        self._compiled = settings.torch_compile and model.device.type == "cuda"
        batch = Batch(model, settings.max_clients, self._context, self._compiled)
        self._worker = _Worker(batch, _stop_ids(model, tokenizer))

    def warm_up(self) -> None:
        """Compile, and generate a few tokens.

        Raises:
            ConfigurationError: PyTorch cannot run or compile the model on this machine.
        """
        system = ChatMessage("system", self._settings.system_prompt)
        request = GenerationRequest((system, ChatMessage("user", "Hello.")), max_tokens=8)
        if self._compiled:
            logger.info("Compiling the language model, which takes a minute or two")
        try:
            ids = self._encode(self._render(request.messages))
            for _ in self._pieces(_Job(request, ids, Cancellation()), WARM_UP_TIMEOUT):
                pass
        except ModelError as error:
            hint = "; try --no-torch_compile" if self._compiled else ""
            raise ConfigurationError(f"{self.name} does not run{hint}: {error}") from error

    def count_tokens(self, messages: Sequence[ChatMessage]) -> int:
        """Length in tokens of the prompt that these messages become, the template's included."""
        return self._count(tuple(messages))

    def stream(self, request: GenerationRequest, cancellation: Cancellation) -> Stream:
        """Yield the reply's text as it is generated.

        Raises:
            ModelError: the prompt does not fit, PyTorch failed, or nothing came for
                `reply_timeout` seconds.
        """
        prompt = self._render(request.messages)
        if prompt.rstrip().endswith(OPENING_TAG):
            yield OPENING_TAG
        job = _Job(request, self._encode(prompt), cancellation)
        return (yield from self._pieces(job, self._settings.reply_timeout))

    def prefill(self, messages: Sequence[ChatMessage], cancellation: Cancellation) -> None:
        """Read the prompt up to the last whole word of the last message into a slot's cache."""
        ids = self._encode(cut_prompt(messages, self._render))
        request = GenerationRequest(tuple(messages), max_tokens=0)
        for _ in self._pieces(_Job(request, ids, cancellation), self._settings.reply_timeout):
            pass

    def close(self) -> None:
        """Stop all generations and the thread."""
        self._worker.close()

    def _pieces(self, job: _Job, timeout: float) -> Stream:
        """The text of a job. It is stopped when nobody reads on."""
        if len(job.ids) + job.request.max_tokens > self._context:
            raise ModelError(
                f"The conversation has {len(job.ids)} tokens, and the language model's context "
                f"holds {self._context} with the reply: say it in fewer words."
            )
        text = Detokenizer(self._decode)
        job.cancellation.on_request(lambda: job.arrivals.put(None))
        self._worker.submit(job)
        try:
            while (ids := job.next(timeout)) is not None and not job.stopped:
                if piece := text.push(ids):
                    yield piece
            if not job.stopped and (piece := text.finish()):
                yield piece
        finally:
            job.abandoned = True
        return Finish.LENGTH if len(job.made) >= job.request.max_tokens else Finish.STOP

    def _render(self, messages: Sequence[ChatMessage]) -> str:
        if not self._takes_system:
            messages = _without_system(messages)
        return _apply_template(self._tokenizer, messages)

    def _encode(self, prompt: str) -> list[int]:
        return list(self._tokenizer.encode(prompt, add_special_tokens=False))

    def _decode(self, ids: Sequence[int]) -> str:
        # Tidying spaces would rewrite text that was already sent.
        return str(
            self._tokenizer.decode(
                ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )

    def _count_tokens(self, messages: tuple[ChatMessage, ...]) -> int:
        return len(self._encode(self._render(messages)))


@dataclass(eq=False)
class _Job:
    """One prompt to read and, for `max_tokens` above 0, to answer.

    `arrivals` carries the ids of new tokens, an empty list for mere progress, an error, or None at
    the end. It holds no more than the job has steps.
    """

    request: GenerationRequest
    ids: list[int]
    cancellation: Cancellation
    arrivals: queue.SimpleQueue[list[int] | ModelError | None] = field(
        default_factory=queue.SimpleQueue
    )
    abandoned: bool = False
    slot: Slot | None = None
    made: list[int] = field(default_factory=list)

    @property
    def stopped(self) -> bool:
        return self.abandoned or self.cancellation.requested

    @property
    def is_prefill(self) -> bool:
        return self.request.max_tokens == 0

    def next(self, timeout: float) -> list[int] | None:
        try:
            arrival = self.arrivals.get(timeout=timeout)
        except queue.Empty:
            raise ModelError(
                f"The language model made no progress for {timeout:g} seconds; the machine may be "
                "overloaded."
            ) from None
        if isinstance(arrival, ModelError):
            raise arrival
        return arrival


class _Worker:
    """The thread that owns the model: reads prompts piece by piece, and steps all replies."""

    def __init__(self, batch: Batch, stop_ids: frozenset[int]) -> None:
        self._batch = batch
        self._stop_ids = stop_ids
        self._slots = Slots(batch.slots)
        self._inbox: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._waiting: list[_Job] = []
        self._running: list[_Job] = []
        self._closed = threading.Event()
        self._thread = tasks.thread("transformers", self._run)
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
        if self._batch.compiled:
            cuda_graphs.allow_in_this_thread()
        while not self._closed.is_set():
            self._admit()
            try:
                with as_model_errors("PyTorch"), watched("the language model", _PATIENCE):
                    self._read_one_piece()
                    self._step()
            except ModelError as error:
                self._fail(error)
                self._batch.check_device()
        self._fail(ModelError("The language model has been closed."))

    def _admit(self) -> None:
        """Take in new jobs, drop those that were stopped, and give free slots to the next ones."""
        self._receive(wait=not self._running and not self._waiting)
        for job in [job for job in self._running if job.stopped]:
            self._end(job)
        self._waiting = [job for job in self._waiting if not job.stopped]
        self._waiting.sort(key=lambda job: job.is_prefill)
        while self._waiting and len(self._running) < self._batch.slots:
            job = self._waiting.pop(0)
            job.slot = self._slots.take(job.request.messages, job.cancellation)
            # Its user may have been cancelled a moment ago, and must not write to it any more.
            for other in [other for other in self._running if other.slot is job.slot]:
                self._end(other)
            self._batch.keep_common(job.slot.number, job.ids, whole=job.is_prefill)
            self._running.append(job)

    def _receive(self, wait: bool) -> None:
        try:
            while True:
                if (job := self._inbox.get(wait, IDLE_POLL)) is not None:
                    self._waiting.append(job)
                wait = False
        except queue.Empty:
            return

    def _read_one_piece(self) -> None:
        """Read on in the prompt that has waited longest; one that is a prefill comes last."""
        for job in sorted(self._running, key=lambda job: job.is_prefill):
            if job.made:
                continue
            number = _number(job)
            logits = self._batch.read(number, job.ids)
            job.arrivals.put([])
            if self._batch.length(number) < len(job.ids):
                return
            if job.is_prefill:
                self._end(job)
            elif logits is not None:
                self._accept(job, _pick(logits[None], [job.request])[0])
            return

    def _step(self) -> None:
        """One more token for each reply that has begun."""
        jobs = [job for job in self._running if job.made]
        if not jobs:
            return
        logits = self._batch.step({_number(job): job.made[-1] for job in jobs})
        rows = logits[[_number(job) for job in jobs]]
        for job, token in zip(jobs, _pick(rows, [job.request for job in jobs]), strict=True):
            self._accept(job, token)

    def _accept(self, job: _Job, token: int) -> None:
        if token in self._stop_ids:
            self._end(job)
            return
        job.made.append(token)
        job.arrivals.put([token])
        if len(job.made) == job.request.max_tokens:
            self._end(job)

    def _end(self, job: _Job) -> None:
        job.arrivals.put(None)
        self._running.remove(job)
        if job.slot is not None:
            self._slots.release(job.slot, job.cancellation)

    def _fail(self, error: ModelError) -> None:
        """Tell everyone, and trust no cache any more."""
        self._batch.forget()
        self._receive(wait=False)
        for job in self._waiting:
            job.arrivals.put(error)
        self._waiting.clear()
        for job in tuple(self._running):
            job.arrivals.put(error)
            self._end(job)


def _pick(logits: torch.Tensor, requests: Sequence[GenerationRequest]) -> list[int]:
    """The next token of each row of logits [rows, vocabulary]."""
    best: list[int] = logits.argmax(-1).tolist()
    return [
        token if request.temperature <= 0 else _sample(row, request)
        for token, row, request in zip(best, logits, requests, strict=True)
    ]


def _sample(logits: torch.Tensor, request: GenerationRequest) -> int:
    """Nucleus sampling (Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration")."""
    probabilities, tokens = (logits / request.temperature).softmax(-1).sort(descending=True)
    before = probabilities.cumsum(-1) - probabilities
    nucleus = probabilities.where(before < request.top_p, 0.0)
    return int(tokens[torch.multinomial(nucleus, 1)].item())


def _number(job: _Job) -> int:
    """The slot of a running job."""
    if job.slot is None:
        raise ModelError("A job without a slot was run.")
    return job.slot.number


def _apply_template(tokenizer: Any, messages: Sequence[ChatMessage]) -> str:
    """The prompt. A model that can think first is told not to: a person is waiting."""
    plain = [{"role": message.role, "content": message.content} for message in messages]
    return str(
        tokenizer.apply_chat_template(
            plain, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
    )


def _takes_system(tokenizer: Any) -> bool:
    """Whether the chat template has a place for a system prompt; some refuse it or drop it."""
    try:
        prompt = _apply_template(
            tokenizer, [ChatMessage("system", "Be kind."), ChatMessage("user", "Hello.")]
        )
    except TemplateError:
        return False
    return "Be kind." in prompt


def _without_system(messages: Sequence[ChatMessage]) -> tuple[ChatMessage, ...]:
    """The same conversation with the system prompt at the beginning of the first question."""
    system, *others = messages
    if system.role != "system" or not others:
        return tuple(messages)
    first = replace(others[0], content=f"{system.content}\n\n{others[0].content}")
    return (first, *others[1:])


def _stop_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end a reply: the generation configuration's, and the tokenizer's own."""
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    return frozenset(end for end in (*ends, tokenizer.eos_token_id) if end is not None)
