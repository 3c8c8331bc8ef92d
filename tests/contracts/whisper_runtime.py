"""`tensorrt_llm.runtime` of 0.10.0 as Whisper uses it, on a CPU and playing scripts.

The encoder stand-in marks each window with the mel band that is loudest in it, so that a test can
tell by a tone which window is which. The decoder stand-in runs the loop of decode_regular with
made-up logits: the logits processor, greedy choice, the end of rows, the stopping criteria.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from tests.contracts.contract import Contract
from tests.contracts.executor import FILE

RUNTIME = "tensorrt_llm.runtime"
POSITIONS, WIDTH = 1500, 8
TORCH_TYPES = {"float16": torch.float16, "int32": torch.int32}
STREAM = 4711


@dataclass(frozen=True)
class Speech:
    """What the decoder hears in the window of one tone.

    `sure` is the probability of each token. With `loops` it repeats itself for ever, and with
    `loops_after_context` only where it was given a context.
    """

    tokens: list[int]
    language: int = 0
    no_speech: float = 0.01
    sure: float = 0.99
    loops: bool = False
    loops_after_context: bool = False


@dataclass
class Player:
    """The state of the stand-in, and what the engines were built with."""

    tokenizer: Any
    max_batch: int = 4
    n_mels: int = 80
    speeches: dict[int, Speech] = field(default_factory=dict)
    refusal: str = ""
    refuses: type[Exception] = RuntimeError
    lost: str = ""
    encoder_runs: bool = True
    on_step: Callable[[int], None] = lambda step: None
    steps: int = 0

    def __post_init__(self) -> None:
        self.contract = Contract(FILE)
        self._setup: dict[str, Any] = {}

    # -- the encoder ---------------------------------------------------------------------------

    def infer_shapes(self, inputs: list[Any]) -> list[Any]:
        shapes = {info.name: (info.dtype, tuple(info.shape)) for info in inputs}
        if set(shapes) != {"x", "input_lengths"}:
            raise ValueError(f"the engine has no such inputs: {sorted(shapes)}")
        (x_type, x_shape), (l_type, l_shape) = shapes["x"], shapes["input_lengths"]
        if (x_type, l_type) != ("float16", "int32"):
            raise ValueError(f"wrong types: {x_type}, {l_type}")
        batch = x_shape[0]
        if not 1 <= batch <= self.max_batch or x_shape[1:] != (self.n_mels, 2 * POSITIONS):
            raise RuntimeError(f"{x_shape} is outside the engine's profile")
        if l_shape != (batch,):
            raise RuntimeError(f"{l_shape} is outside the engine's profile")
        info = SimpleNamespace(name="output", dtype="float16", shape=(batch, POSITIONS, WIDTH))
        return [info]

    def synchronize(self) -> None:
        if self.lost:
            raise RuntimeError(self.lost)

    def encode(self, inputs: dict[str, Any], outputs: dict[str, Any], stream: int) -> bool:
        self.synchronize()
        assert stream == STREAM
        assert inputs["x"].dtype == torch.float16
        assert inputs["input_lengths"].tolist() == [POSITIONS] * len(inputs["x"])
        for window, states in zip(inputs["x"], outputs["output"], strict=True):
            states.fill_(loudest_band(window))
        return self.encoder_runs

    # -- the decoder ---------------------------------------------------------------------------

    def open(self, **_: Any) -> None:
        if self.refusal:
            raise self.refuses(self.refusal)

    def setup(self, **sizes: Any) -> None:
        self._setup = sizes

    def decode(
        self,
        input_ids: torch.Tensor,
        context_lengths: torch.Tensor,
        sampling_config: Any,
        encoder_output: torch.Tensor,
        encoder_input_lengths: torch.Tensor,
        cross_attention_mask: torch.Tensor,
        stopping_criteria: Any = None,
        logits_processor: Any = None,
    ) -> torch.Tensor:
        batch, length = input_ids.shape
        self._check_sizes(
            batch,
            length,
            context_lengths,
            encoder_output,
            encoder_input_lengths,
            cross_attention_mask,
        )
        longest, end = self._setup["max_new_tokens"], sampling_config.end_id
        ids = torch.full((batch, 1, length + longest), sampling_config.pad_id, dtype=torch.int32)
        ids[:, 0, :length] = input_ids
        logits = torch.empty(batch, self.tokenizer.encoding.n_vocab + 7, dtype=torch.float16)
        finished = torch.zeros(batch, dtype=torch.bool)
        for step in range(longest):
            self.steps = step + 1
            self.on_step(step)
            for row in range(batch):
                speech = self.speeches[int(encoder_output[row, 0, 0])]
                logits[row] = self._logits(speech, ids[row, 0, : length + step], length)
            if logits_processor is not None:
                processed = logits_processor(step, ids[:, 0], logits)
                # The next step writes to the buffer whose address it was given: another is stale.
                assert processed.data_ptr() == logits.data_ptr()
            token = torch.where(finished, end, logits.argmax(-1))
            ids[:, 0, length + step] = token.int()
            finished |= token == end
            if finished.all():
                break
            if stopping_criteria is not None and stopping_criteria(step, ids[:, 0], logits):
                break
        return ids

    def _check_sizes(
        self,
        batch: int,
        length: int,
        context_lengths: torch.Tensor,
        encoder_output: torch.Tensor,
        encoder_input_lengths: torch.Tensor,
        mask: torch.Tensor,
    ) -> None:
        assert self._setup["batch_size"] == batch
        assert self._setup["max_context_length"] == length
        assert self._setup["beam_width"] == 1
        assert self._setup["encoder_max_input_length"] == POSITIONS
        assert context_lengths.tolist() == [length] * batch
        assert encoder_output.shape == (batch, POSITIONS, WIDTH)
        assert encoder_input_lengths.tolist() == [POSITIONS] * batch
        assert mask.shape == (batch, 1, POSITIONS)
        for tensor in (context_lengths, encoder_input_lengths, mask):
            assert tensor.dtype == torch.int32

    def _logits(self, speech: Speech, ids: torch.Tensor, prompt: int) -> torch.Tensor:
        """What a Whisper that heard `speech` would think of the next token."""
        tokenizer = self.tokenizer
        scores = torch.full((tokenizer.encoding.n_vocab + 7,), -40.0)
        written = ids[prompt:].tolist()
        if not written:
            scores[speech.language] = 5.0
            scores[tokenizer.no_speech] = 5.0 + math.log(speech.no_speech / (1 - speech.no_speech))
            return scores
        if tokenizer.eot in written:
            return scores  # no opinion: the row is over
        spoken = sum(token <= tokenizer.eot for token in written)
        loops = speech.loops or (speech.loops_after_context and prompt > 1)
        if spoken < len(speech.tokens) or loops:
            wanted = speech.tokens[spoken % len(speech.tokens)]
        else:
            wanted = tokenizer.eot
        scores[wanted] = 10.0
        # Other tokens that may be said, and what may not: a blank at the start, a time, a note,
        # and what only pads the vocabulary.
        scores[1000:1020] = 10.0 + math.log((1 - speech.sure) / speech.sure / 20)
        if spoken == 0:
            scores[tokenizer.encode(" ")[0]] = 14.0
        scores[tokenizer.timestamp_begin] = 15.0
        scores[tokenizer.non_speech_tokens[0]] = 16.0
        scores[-1] = 17.0
        return scores


def loudest_band(mel: torch.Tensor) -> int:
    return int(mel.float().mean(-1).argmax())


def install(monkeypatch: pytest.MonkeyPatch, player: Player) -> None:
    """Put the stand-in where the transcriber imports tensorrt_llm from."""
    contract = player.contract
    package, utils = ModuleType("tensorrt_llm"), ModuleType("tensorrt_llm._utils")
    runtime, session = ModuleType(RUNTIME), ModuleType(f"{RUNTIME}.session")
    package.Mapping = contract.value_class("tensorrt_llm.Mapping")  # type: ignore[attr-defined]
    for name, behaviour in (
        ("str_dtype_to_torch", lambda dtype: TORCH_TYPES[dtype]),
        ("str_dtype_to_trt", lambda dtype: dtype),
        ("trt_dtype_to_torch", lambda dtype: TORCH_TYPES[dtype]),
    ):
        setattr(utils, name, contract.function(f"tensorrt_llm._utils.{name}", behaviour))
    runtime.ModelConfig = contract.value_class(f"{RUNTIME}.ModelConfig")  # type: ignore[attr-defined]
    runtime.SamplingConfig = contract.value_class(f"{RUNTIME}.SamplingConfig")  # type: ignore[attr-defined]
    runtime.GenerationSession = _class(  # type: ignore[attr-defined]
        contract,
        f"{RUNTIME}.GenerationSession",
        {"__init__": player.open, "setup": player.setup, "decode": player.decode},
    )
    session.TensorInfo = contract.value_class(f"{RUNTIME}.session.TensorInfo")  # type: ignore[attr-defined]
    session.Session = _class(  # type: ignore[attr-defined]
        contract,
        f"{RUNTIME}.session.Session",
        {"infer_shapes": player.infer_shapes, "run": player.encode},
    )
    session.Session.from_serialized_engine = staticmethod(
        contract.function(
            f"{RUNTIME}.session.Session.from_serialized_engine",
            lambda engine: session.Session(),
        )
    )
    package._utils, package.runtime, runtime.session = utils, runtime, session  # type: ignore[attr-defined]
    for part in (package, utils, runtime, session):
        monkeypatch.setitem(sys.modules, part.__name__, part)
    stream = SimpleNamespace(cuda_stream=STREAM)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "synchronize", player.synchronize)


def _class(contract: Contract, name: str, methods: dict[str, Callable[..., Any]]) -> Any:
    def method(entry: str, behaviour: Callable[..., Any]) -> Any:
        function = contract.function(f"{name}.{entry}", behaviour)
        return lambda self, *args, **kwargs: function(*args, **kwargs)

    body = {entry: method(entry, behaviour) for entry, behaviour in methods.items()}
    return type(name.rpartition(".")[2], (), body)
