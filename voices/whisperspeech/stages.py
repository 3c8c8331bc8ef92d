"""The two models of WhisperSpeech as batches that utterances join and leave at any step.

Text becomes semantic tokens (25 a second), those become the vocoder's codes (75 frames a second).
What an utterance gets does not depend on who is in the batch beside it.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from voices.whisperspeech.decoder import Decoder
from voices.whisperspeech.graphs import Graphs
from voices.whisperspeech.operations import Linear, Norm, Operations
from voices.whisperspeech.texts import CHARACTERS_PER_SECOND
from voices.whisperspeech.windows import FRAMES_PER_TOKEN, STREAMS

TEMPERATURE = 0.7
"""The library's own default for both models."""

_MOST_NEWCOMERS = 16
"""Encoded at once; more take memory, and hardly less time each."""


class Stage(ABC):
    """A batch over one of the models; its subclasses say what goes in and what comes out.

    Not safe for several threads.
    """

    def __init__(
        self,
        decoder: Decoder,
        graphs: Graphs,
        operations: Operations,
        *,
        slots: int,
        streams: int,
        codes: int,
        length: int,
        blank: int,
        scale: tuple[float, float],
        device: Any,
    ) -> None:
        """Make a batch for `slots` utterances of at most `length` positions.

        Args:
            streams: tokens drawn at each position, each of `codes` possible ones.
            blank: the token that stands before the first.
            scale: factor and divisor of the logits.
        """
        self.slots = slots
        self.tokens = torch.full((slots, streams), blank, dtype=torch.long, device=device)
        self.positions = torch.full((slots,), -1, dtype=torch.long, device=device)
        # One step may run for an utterance that is done: its result was not known yet.
        self.record = torch.full((slots, streams, length + 1), blank, device=device)
        self._noise = torch.ones(slots, streams, codes, device=device)
        self._newcomers = torch.zeros(slots, dtype=torch.long, device=device)
        self._decoder = decoder
        self._graphs = graphs
        self._operations = operations
        self._blank = blank
        self._scale = (*scale, TEMPERATURE)
        self._device = device

    def warm_up(self) -> None:
        """Record the CUDA graphs of all sizes; no utterance may be in the batch."""
        for size in self._graphs.sizes(self.slots):
            self._graphs.run(self._advance, size)
        for size in self._graphs.sizes(min(self.slots, _MOST_NEWCOMERS)):
            self._graphs.run(self._encode, size)
        self.reset()

    def step(self, slots: Iterable[tuple[int, Any]]) -> int:
        """Draw the next tokens of every utterance; returns how many rows that were.

        Args:
            slots: which slots are in use, each with the torch.Generator that draws its noise on a
                CPU, None for PyTorch's own. On a GPU one generator draws for all.
        """
        used = list(slots)
        count = self._graphs.size(1 + max(slot for slot, _ in used), self.slots)
        if self._device.type == "cpu":
            for slot, generator in used:
                self._noise[slot].exponential_(generator=generator)
        self._graphs.run(self._advance, count)
        return count

    def release(self, slot: int) -> None:
        """Take an utterance out."""
        self.positions[slot] = -1

    def reset(self) -> None:
        """Take all utterances out."""
        self.positions.fill_(-1)

    def _admit(self, slots: Sequence[int], **inputs: list[Any]) -> None:
        """Encode what new utterances say; `inputs` go to the buffers of these names."""
        for first in range(0, len(slots), _MOST_NEWCOMERS):
            part = slice(first, first + _MOST_NEWCOMERS)
            count = len(slots[part])
            size = self._graphs.size(count, min(self.slots, _MOST_NEWCOMERS))
            for buffer, values in ((self._newcomers, slots), *self._buffers(inputs)):
                rows = [*values[part], *[values[first]] * (size - count)]  # one of them repeated
                buffer[:size].copy_(torch.as_tensor(rows))
            self._graphs.run(self._encode, size)

    def _buffers(self, inputs: dict[str, list[Any]]) -> Iterable[tuple[Any, list[Any]]]:
        return ((getattr(self, name), values) for name, values in inputs.items())

    def _encode(self, count: int) -> None:
        slots = self._newcomers[:count]
        self._decoder.admit(slots, self._source(count))
        self.tokens.index_fill_(0, slots, self._blank)
        self.positions.index_fill_(0, slots, 0)

    def _advance(self, count: int) -> None:
        if self._device.type == "cuda":
            self._noise[:count].exponential_()
        positions = self.positions[:count]
        x = self._decoder.step(self._input(count), positions)
        self._operations.draw(
            self._logits(x),
            self._noise[:count],
            self._scale,
            self.tokens[:count],
            positions,
            self.record[:count],
            self._blank,
        )

    @abstractmethod
    def _source(self, count: int) -> Any:
        """The encoder's output for the newcomers, [count, source length, width]."""

    @abstractmethod
    def _input(self, count: int) -> Any:
        """The decoder's input, [count, width]."""

    @abstractmethod
    def _logits(self, x: Any) -> Any:
        """Logits [count, streams * codes] of the decoder's output."""


class SemanticStage(Stage):
    """From text to semantic tokens."""

    def __init__(self, model: Any, slots: int, graphs: Graphs, operations: Operations) -> None:
        self._model = model
        model.ensure_tokenizer()
        embedding = model.embeddings.embedding
        self.end = model.stoks_codes + model.tunables.padding_token_offset
        """The token that starts and ends an utterance."""
        self.longest = model.stoks_len - 1
        decoder = Decoder(
            model.decoder,
            slots=slots,
            length=model.stoks_len,
            source_length=model.ttoks_len,
            dtype=model.dtype,
            operations=operations,
        )
        super().__init__(
            decoder,
            graphs,
            operations,
            slots=slots,
            streams=1,
            codes=len(embedding.merged_out),
            length=model.stoks_len,
            blank=self.end,
            scale=(model.tunables.output_mult, model.width / model.base_width),
            device=model.device,
        )
        self._texts = torch.zeros(slots, model.ttoks_len, dtype=torch.long, device=model.device)
        self._languages = torch.zeros(slots, dtype=torch.long, device=model.device)
        self._text_positions = torch.arange(model.ttoks_len, device=model.device)
        self._tables = embedding.merged_in.weight[None]
        speed = model._embed_cps(torch.tensor([CHARACTERS_PER_SECOND], device=model.device))
        self._speed = None if speed is None else speed[0, 0]
        bias = embedding.bias_out
        self._unembedding = Linear.make(
            embedding.merged_out[None],
            None if bias is None else bias[None],
            Norm.of(model.decoder.ln_post),
        )

    def admit(self, newcomers: Sequence[tuple[int, str, str]]) -> None:
        """Take new utterances in: slot, text within the limits, language code."""
        slots, texts, languages = map(list, zip(*newcomers, strict=True))
        self._admit(
            slots,
            _texts=[self._padded(text) for text in texts],
            _languages=[language_id(language) for language in languages],
        )

    def _padded(self, text: str) -> list[int]:
        tokenizer = self._model.tokenizer
        tokens = tokenizer.encode(text.replace("\n", " "))
        after = self._model.ttoks_len - len(tokens) - 1
        return [tokenizer.eot, *tokens, *[tokenizer.eot] * after]

    def _source(self, count: int) -> Any:
        languages = self._model.lang_embeddings(self._languages[:count])
        return self._model.encoder(
            self._texts[:count], self._text_positions, lang_emb=languages[:, None]
        )

    def _input(self, count: int) -> Any:
        places = self._model.embeddings.positional_embedding
        return self._operations.embed(
            self.tokens[:count], self._tables, self.positions[:count], places, self._speed
        )

    def _logits(self, x: Any) -> Any:
        return self._operations.linear(x, self._unembedding)


class AcousticStage(Stage):
    """From semantic tokens to the vocoder's codes, in the voice of one speaker."""

    def __init__(
        self, model: Any, speaker: Any, slots: int, graphs: Graphs, operations: Operations
    ) -> None:
        self._model = model
        self._speaker = conditioning(model, speaker)
        embeddings = model.embds.embeddings
        self.longest = min(model.stoks_len - 1, (model.ctx_n - 1) // FRAMES_PER_TOKEN)
        """Semantic tokens; the library would cut what goes beyond."""
        probe = torch.zeros(1, model.stoks_len, dtype=torch.long, device=model.device)
        self._source_positions = torch.arange(
            model.embed_stoks(probe).shape[1], device=model.device
        )
        decoder = Decoder(
            model.decoder,
            slots=slots,
            length=model.ctx_n,
            source_length=len(self._source_positions),
            dtype=model.dtype,
            operations=operations,
        )
        super().__init__(
            decoder,
            graphs,
            operations,
            slots=slots,
            streams=STREAMS,
            codes=len(embeddings[0].merged_out),
            length=model.ctx_n,
            blank=model.codes + 1,
            scale=(model.tunables.output_mult / (model.width / model.base_width), 1.0),
            device=model.device,
        )
        self._sources = torch.zeros(slots, model.stoks_len, dtype=torch.long, device=model.device)
        self._tables = torch.stack([each.merged_in.weight for each in embeddings])
        self._splitter = Linear.of(model.head.splitter[0], model.decoder.ln_post)
        self._unembedding = Linear.make(
            torch.stack([each.merged_out for each in embeddings]),
            None
            if embeddings[0].bias_out is None
            else torch.stack([each.bias_out for each in embeddings]),
        )

    def admit(self, newcomers: Sequence[tuple[int, Sequence[int]]]) -> None:
        """Take new utterances in: slot and semantic tokens.

        A token too high for this model becomes its last: an index out of bounds would end the
        process's use of the GPU, not only the utterance.
        """
        slots, tokens = map(list, zip(*newcomers, strict=True))
        self._admit(slots, _sources=[self._padded(each) for each in tokens])

    def _padded(self, tokens: Sequence[int]) -> list[int]:
        last = self._model.stoks_codes - 1
        known = [min(token, last) for token in tokens[: self.longest]]
        return [last, *known, *[last] * (self._model.stoks_len - len(known) - 1)]

    def _source(self, count: int) -> Any:
        model = self._model
        x = model.embed_stoks(self._sources[:count])
        if model.positional_embeddings is not None:
            x = x + model.positional_embeddings
        return model._encoder(x, self._source_positions) + self._speaker

    def _input(self, count: int) -> Any:
        return self._operations.embed(
            self.tokens[:count], self._tables, self.positions[:count], None, None
        )

    def _logits(self, x: Any) -> Any:
        split = self._operations.linear(x, self._splitter, gelu=True)
        return self._operations.linear(split, self._unembedding)


def language_id(code: str) -> int:
    """The library's number of a language such as "pl-PL"; English for one that it does not know."""
    languages = importlib.import_module("whisperspeech.languages")
    short = code.partition("-")[0].lower()
    number: int = languages.to_id(short if short in languages.LANGUAGES else "en")
    return number


def conditioning(model: Any, speaker: Any) -> Any:
    """What the acoustic model adds to its encoder's output, [width], as in its `run_encoder`."""
    speaker = speaker.to(device=model.device, dtype=model.dtype)
    if not hasattr(model, "cond_embeddings"):
        embedded = F.normalize(speaker[None], dim=-1)
        return (model.spk_to_hidden(embedded) if model.spk_factor else embedded)[0]
    # Values that the library gives its conditioned models: a clean recording of this speaker.
    values = {"snr": torch.tensor([60.0]), "c50": torch.tensor([60.0]), "speaker": speaker[None]}
    total = torch.zeros(model.width, dtype=model.dtype, device=model.device)
    for name, embedding in model.cond_embeddings.items():
        value = values[name] if name in values else torch.tensor([embedding.default])
        total = total + embedding(value.to(model.device))[0]
    return total
