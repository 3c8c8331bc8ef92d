"""Whisper's TensorRT-LLM 0.10.0 engines: the folder that holds them, and sessions on the GPU.

The encoder always takes whole windows of 30 s, so the windows of several clients go through it
together. The decoder writes one batch at a time; it is prompted with `<|startoftranscript|>` alone,
and language, task and the absence of timestamps are forced upon its first steps row by row. So
requests of different languages share a batch, an unknown language is detected on the way, and the
same step gives the probability that nobody speaks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensorrt_llm import Mapping
from tensorrt_llm._utils import str_dtype_to_torch, str_dtype_to_trt, trt_dtype_to_torch
from tensorrt_llm.runtime import GenerationSession, ModelConfig, SamplingConfig
from tensorrt_llm.runtime.session import Session, TensorInfo
from whisper.audio import N_SAMPLES, log_mel_spectrogram

from fusion.errors import ConfigurationError, ModelError


@dataclass(frozen=True)
class Engines:
    """The engine folder that `examples/whisper/build.py` writes, and its limits."""

    folder: Path
    encoder: dict[str, Any]
    decoder: dict[str, Any]
    plugins: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Engines:
        """Raises ConfigurationError when the folder is not such a one."""
        advice = (
            "build it with docker/scripts/build-whisper.sh "
            "or name its folder with --whisper_tensorrt_path"
        )
        if (folder / "encoder").is_dir():
            raise ConfigurationError(
                f"The Whisper engines in {folder} were built by TensorRT-LLM 0.11 or newer, "
                f"and 0.10 runs only its own; {advice}."
            )
        try:
            encoder = json.loads((folder / "encoder_config.json").read_text())
            decoder = json.loads((folder / "decoder_config.json").read_text())
            return cls(
                folder,
                encoder["builder_config"],
                decoder["builder_config"],
                decoder["plugin_config"],
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"There are no Whisper TensorRT-LLM engines in {folder} ({error!r}); {advice}."
            ) from error

    def load(self, part: str) -> bytes:
        """The serialised engine of "encoder" or "decoder"."""
        name = f"whisper_{part}_{self.encoder['precision']}_tp1_rank0.engine"
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            raise ConfigurationError(
                f"The Whisper engine {self.folder / name} cannot be read ({error}); "
                "build it with docker/scripts/build-whisper.sh."
            ) from error

    @property
    def max_batch(self) -> int:
        return min(int(self.encoder["max_batch_size"]), int(self.decoder["max_batch_size"]))


@dataclass(frozen=True)
class Row:
    """One request as the decoder sees it. `header` is forced upon it; None is to be detected."""

    header: tuple[int | None, ...]
    limit: int


class WhisperLogitsProcessor:
    """Says at each step what every row of a batch may write, and remembers how sure it was.

    A `LogitsProcessor`. It changes the logits in place: the runtime has given the address of its
    own buffer to the next step already. The rules are those of Whisper's decoding.py
    (SuppressBlank, SuppressTokens, detect_language).
    """

    def __init__(self, tokenizer: Any, rows: Sequence[Row], device: str) -> None:
        self._tokenizer = tokenizer
        self._rows = rows
        self._header_steps = len(rows[0].header)
        self._index = torch.arange(len(rows), device=device)
        self._limits = torch.tensor([row.limit for row in rows], device=device)
        self._languages = torch.tensor(sorted(tokenizer.all_language_tokens), device=device)
        self._blank = torch.tensor([*tokenizer.encode(" "), tokenizer.eot], device=device)
        self._not_speech = torch.tensor(tokenizer.non_speech_tokens, device=device)
        self._no_speech = torch.zeros(len(rows), device=device)
        self._log_probabilities: list[torch.Tensor] = []

    def __call__(self, step: int, input_ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        scores = logits.view(len(self._rows), -1)
        if step == 0:
            self._no_speech = scores.float().softmax(-1)[:, self._tokenizer.no_speech]
        if step < self._header_steps:
            self._allow_only(scores, self._header_tokens(scores, step))
        else:
            self._allow_speech(scores, step - self._header_steps)
            # Greedy: the token written is the most probable one.
            certain = scores.float()
            self._log_probabilities.append(certain.amax(-1) - certain.logsumexp(-1))
        return logits

    def no_speech(self) -> list[float]:
        """For each row the probability that nobody speaks."""
        found: list[float] = self._no_speech.tolist()
        return found

    def log_probabilities(self) -> list[list[float]]:
        """For each row the log probability of each token after the header."""
        if not self._log_probabilities:
            return [[] for _ in self._rows]
        found: list[list[float]] = torch.stack(self._log_probabilities, -1).tolist()
        return found

    def _header_tokens(self, scores: torch.Tensor, step: int) -> torch.Tensor:
        likeliest = self._languages[scores[:, self._languages].argmax(-1)]
        given = [row.header[step] for row in self._rows]
        tokens = torch.tensor([-1 if t is None else t for t in given], device=scores.device)
        return torch.where(tokens < 0, likeliest, tokens)

    def _allow_speech(self, scores: torch.Tensor, position: int) -> None:
        lowest = torch.finfo(scores.dtype).min
        end = self._tokenizer.eot
        scores[:, end + 1 :] = lowest
        scores[:, self._not_speech] = lowest
        if position == 0:
            scores[:, self._blank] = lowest
        finished = (self._limits <= position).unsqueeze(1)
        scores.masked_fill_(finished, lowest)
        scores[:, end].masked_fill_(finished.squeeze(1), 0.0)

    def _allow_only(self, scores: torch.Tensor, tokens: torch.Tensor) -> None:
        scores.fill_(torch.finfo(scores.dtype).min)
        scores[self._index, tokens] = 0.0


class Sessions:
    """Encoder and decoder on the GPU. Used by the thread that made it."""

    def __init__(self, engines: Engines, device: str) -> None:
        self._device = device
        self._precision = engines.encoder["precision"]
        self._n_mels = int(engines.encoder["n_mels"])
        try:
            self._encoder = Session.from_serialized_engine(engines.load("encoder"))
            self._decoder = GenerationSession(
                _model_config(engines), engines.load("decoder"), Mapping(world_size=1, rank=0)
            )
        except (RuntimeError, AttributeError, AssertionError) as error:
            raise ConfigurationError(
                f"The Whisper engines in {engines.folder} do not open on this GPU; "
                f"build them again on this machine ({error})."
            ) from error

    def encode(self, windows: Sequence[np.ndarray[Any, Any]]) -> torch.Tensor:
        """Audio of up to 30 s each to encoder states [batch, 1500, width]."""
        mel = torch.stack([self._mel(audio) for audio in windows])
        lengths = torch.full((len(windows),), mel.shape[2] // 2, device=self._device).int()
        shapes = self._encoder.infer_shapes(
            [
                TensorInfo("x", str_dtype_to_trt(self._precision), mel.shape),
                TensorInfo("input_lengths", str_dtype_to_trt("int32"), lengths.shape),
            ]
        )
        outputs = {
            info.name: torch.empty(
                tuple(info.shape), dtype=trt_dtype_to_torch(info.dtype), device=self._device
            )
            for info in shapes
        }
        stream = torch.cuda.current_stream()
        if not self._encoder.run({"x": mel, "input_lengths": lengths}, outputs, stream.cuda_stream):
            raise ModelError("The Whisper encoder engine refused to run.")
        return outputs["output"]

    def decode(
        self,
        encoded: torch.Tensor,
        prompt: torch.Tensor,
        logits_processor: WhisperLogitsProcessor,
        max_new_tokens: int,
        end_id: int,
        cancelled: Callable[[], bool],
    ) -> list[list[int]]:
        """Token ids after the prompts. `prompt` is int32 [batch, length], all of one length."""
        batch, positions = encoded.shape[:2]
        length = prompt.shape[1]
        self._decoder.setup(
            batch, length, max_new_tokens, beam_width=1, encoder_max_input_length=positions
        )
        ids = self._decoder.decode(
            prompt,
            torch.full((batch,), length, device=self._device).int(),
            # Without it every token pays for copies that only a beam search needs.
            SamplingConfig(end_id=end_id, pad_id=end_id, num_beams=1, use_beam_hyps=False),
            encoder_output=encoded,
            encoder_input_lengths=torch.full((batch,), positions, device=self._device).int(),
            stopping_criteria=lambda step, input_ids, scores: cancelled(),
            logits_processor=logits_processor,
            cross_attention_mask=torch.ones((batch, 1, positions), device=self._device).int(),
        )
        written: list[list[int]] = ids[:, 0, length:].tolist()
        return written

    def _mel(self, audio: np.ndarray[Any, Any]) -> torch.Tensor:
        """Log-mel [n_mels, 3000]. One by one: it is scaled by the loudest sound of its window."""
        samples = torch.tensor(audio, dtype=torch.float32)[:N_SAMPLES]
        mel: torch.Tensor = log_mel_spectrogram(
            samples, self._n_mels, padding=N_SAMPLES - len(samples), device=self._device
        )
        return mel.to(str_dtype_to_torch(self._precision))


def _model_config(engines: Engines) -> Any:
    decoder, plugins = engines.decoder, engines.plugins
    return ModelConfig(
        max_batch_size=decoder["max_batch_size"],
        max_beam_width=decoder["max_beam_width"],
        vocab_size=decoder["vocab_size"],
        num_layers=decoder["num_layers"],
        num_heads=decoder["num_heads"],
        num_kv_heads=decoder["num_heads"],
        hidden_size=decoder["hidden_size"],
        gpt_attention_plugin=plugins["gpt_attention_plugin"],
        remove_input_padding=plugins["remove_input_padding"],
        cross_attention=decoder["cross_attention"],
        has_position_embedding=decoder["has_position_embedding"],
        has_token_type_embedding=decoder["has_token_type_embedding"],
    )
