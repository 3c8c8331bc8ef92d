"""A transformers model over one static key-value cache for several conversations.

Each has a row (*slot*) of the cache with a length of its own. A step computes one token for every
row, always in the same shapes; rows without work compute one that nobody reads. On a GPU the step
is a CUDA graph (`torch.compile`, "reduce-overhead").
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, StaticLayer

from fusion.errors import ConfigurationError

# Prompt tokens read between two steps of the other generations: about as long as some steps.
READ_TOKENS = {"cuda": 512, "cpu": 32}


class Batch:
    """The model and the cache of its slots. For one thread.

    `context` is how many tokens a slot holds. Each layer's cache has the shape
    [slots, heads, context + 1, head size]; the last position takes what rows without work write.
    """

    def __init__(self, model: Any, slots: int, context: int, compiled: bool) -> None:
        self.slots = slots
        self.compiled = compiled
        self._model = model
        self._nowhere = context
        self._held: list[list[int]] = [[] for _ in range(slots)]
        self._place = _Place()
        self._columns = torch.arange(context + 1, device=model.device)
        self._ids = torch.zeros((slots, 1), dtype=torch.long, device=model.device)
        self._positions = torch.zeros((slots, 1), dtype=torch.long, device=model.device)
        self._rows, self._whole = self._caches(context + 1)
        self._forward_whole = (
            torch.compile(self._forward_step, mode="reduce-overhead")
            if compiled
            else self._forward_step
        )

    def length(self, slot: int) -> int:
        """How many tokens the slot holds."""
        return len(self._held[slot])

    def keep_common(self, slot: int, ids: Sequence[int], whole: bool) -> None:
        """Forget what a slot holds from the first token on that differs from `ids`.

        The last token is read again if it must be answered, except for a prompt that is only read
        (`whole`).
        """
        pairs = zip(self._held[slot], ids, strict=False)
        common = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
        del self._held[slot][common if whole else min(common, len(ids) - 1) :]

    def forget(self) -> None:
        """Forget what every slot holds."""
        for held in self._held:
            held.clear()

    def check_device(self) -> None:
        """After some failures CUDA is lost to this process. It says so here, with an error that
        nobody catches: the process ends and is started anew."""
        if self._model.device.type == "cuda":
            torch.cuda.synchronize()

    def read(self, slot: int, ids: Sequence[int]) -> torch.Tensor | None:
        """Read the next piece of `ids`. Returns the last token's logits [vocabulary], float32.

        Returns None if there was nothing to read.
        """
        start = len(self._held[slot])
        piece = list(ids[start : start + READ_TOKENS[self._model.device.type]])
        if not piece:
            return None
        device = self._model.device
        positions = torch.arange(start, start + len(piece), device=device)[None]
        logits = self._forward(
            torch.tensor([piece], device=device), positions, self._rows[slot], logits_to_keep=1
        )
        self._held[slot].extend(piece)
        return logits[0, -1].float()

    def step(self, tokens: dict[int, int]) -> torch.Tensor:
        """Add one token to each of these slots. Returns logits [slots, vocabulary], float32."""
        ids = [[tokens.get(slot, 0)] for slot in range(self.slots)]
        positions = [
            [len(self._held[slot]) if slot in tokens else self._nowhere]
            for slot in range(self.slots)
        ]
        self._ids.copy_(torch.tensor(ids))
        self._positions.copy_(torch.tensor(positions))
        torch.compiler.cudagraph_mark_step_begin()
        logits = self._forward_whole(self._ids, self._positions)
        for slot, token in tokens.items():
            self._held[slot].append(token)
        return logits.float()

    def _forward_step(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        return self._forward(ids, positions, self._whole)[:, -1]

    def _forward(
        self, ids: torch.Tensor, positions: torch.Tensor, cache: Cache, **options: Any
    ) -> torch.Tensor:
        """Logits [rows, tokens, vocabulary] of ids [rows, tokens] at these positions."""
        self._place.positions = positions
        past = self._columns <= positions[:, :, None]
        with torch.no_grad():
            logits: torch.Tensor = self._model(
                input_ids=ids,
                position_ids=positions,
                attention_mask=past[:, None],
                past_key_values=cache,
                use_cache=True,
                **options,
            ).logits
        return logits

    def _caches(self, length: int) -> tuple[list[Cache], Cache]:
        """A cache for each slot, and one for all of them, over the same memory."""
        trial = DynamicCache()
        with torch.no_grad():
            self._model(input_ids=self._ids[:1], past_key_values=trial, use_cache=True)
        if any(type(layer) is not DynamicLayer for layer in trial.layers):
            raise ConfigurationError(
                "The language model has layers without a plain attention cache, which "
                "--llm_backend transformers cannot serve; serve it with vLLM and --openai_url."
            )
        memory = [
            tuple(_reserve(states, self.slots, length) for states in (layer.keys, layer.values))
            for layer in trial.layers
        ]

        def over(rows: slice) -> Cache:
            return Cache(
                layers=[
                    _SlotLayer(keys[rows], values[rows], self._place) for keys, values in memory
                ]
            )

        # Not over(slice(None)): a view has lost the mark that `_reserve` sets.
        whole = Cache(layers=[_SlotLayer(keys, values, self._place) for keys, values in memory])
        return [over(slice(slot, slot + 1)) for slot in range(self.slots)], whole


class _Place:
    """Where all layers write now: positions [rows, tokens]."""

    positions: torch.Tensor


class _SlotLayer(StaticLayer):  # type: ignore[misc]
    """One layer's cache for some slots. Unlike its base, each row is written at its own place."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, place: _Place) -> None:
        super().__init__(max_cache_len=keys.shape[2])
        self.keys, self.values, self._place = keys, values, place
        self.dtype, self.device = keys.dtype, keys.device
        self.batch_size, self.num_heads = keys.shape[:2]
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the states [rows, heads, tokens, head size]; return all that the rows hold."""
        index = self._place.positions[:, None, :, None]
        self.keys.scatter_(2, index.expand_as(key_states), key_states)
        self.values.scatter_(2, index.expand_as(value_states), value_states)
        return self.keys, self.values


def _reserve(states: torch.Tensor, slots: int, length: int) -> torch.Tensor:
    """Memory like these states [1, heads, tokens, head size], at an address that stays."""
    memory = states.new_zeros((slots, states.shape[1], length, states.shape[3]))
    # Without the mark, torch.compile makes no CUDA graph of a function that writes to it.
    torch._dynamo.mark_static_address(memory)
    return memory
