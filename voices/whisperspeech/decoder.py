"""A decoder of WhisperSpeech, one new position of several utterances at a time.

The library computes keys and values of the whole source anew at each step, 99 % of its arithmetic.
Here they are computed once an utterance, and each utterance of the batch is at a position of its
own. The weights are the library's modules', after its own `convert_for_eval`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from voices.whisperspeech.operations import Linear, Operations


@dataclass(frozen=True)
class _Layer:
    own_in: Linear
    own_out: Linear
    source_in: Linear
    source_out: Linear
    feed_in: Linear
    feed_out: Linear

    @classmethod
    def of(cls, module: Any) -> _Layer:
        return cls(
            own_in=Linear.of(module.attn.qkv, module.attn_ln),
            own_out=Linear.of(module.attn.out),
            source_in=Linear.of(module.cross_attn.q, module.cross_attn_ln),
            source_out=Linear.of(module.cross_attn.out),
            feed_in=Linear.of(module.mlp[0], module.mlp_ln),
            feed_out=Linear.of(module.mlp[2]),
        )


class Decoder:
    """The library's `BaseDecoder` over caches for `slots` utterances.

    Not safe for several threads.
    """

    def __init__(
        self,
        module: Any,
        *,
        slots: int,
        length: int,
        source_length: int,
        dtype: Any,
        operations: Operations,
    ) -> None:
        """Take the layers of `module`, with room for `length` positions an utterance."""
        self._modules = module.layers
        self._layers = [_Layer.of(each) for each in module.layers]
        self._operations = operations
        attention = module.layers[0].attn
        head_width = attention.n_state // attention.n_head
        device = attention.out.weight.device

        def cache(positions: int) -> Any:
            shape = (len(self._layers), slots, attention.n_head, positions, head_width)
            return torch.zeros(shape, dtype=dtype, device=device)

        self._keys, self._values = cache(length), cache(length)
        self._source_keys, self._source_values = cache(source_length), cache(source_length)
        self._source_positions = torch.arange(source_length, device=device)
        self._rotation = _rotation(attention, dtype, device)

    def admit(self, slots: Any, source: Any) -> None:
        """Take new utterances in.

        Args:
            slots: [m], where.
            source: [m, source length, width], the encoder's output.
        """
        for number, layer in enumerate(self._modules):
            attention = layer.cross_attn
            keys, values = attention.kv(source).chunk(2, -1)
            keys = attention.split_heads(
                keys,
                self._source_positions,
                rope=attention.rotary,
                subsampling=attention.key_subsampling,
            )
            values = attention.split_heads(values, self._source_positions)
            self._source_keys[number].index_copy_(0, slots, keys)
            self._source_values[number].index_copy_(0, slots, values)

    def step(self, x: Any, positions: Any) -> Any:
        """Rows [n, width] through all layers, each at its own position; not yet normed."""
        do = self._operations
        for number, layer in enumerate(self._layers):
            qkv = do.linear(x, layer.own_in)
            mixed = do.attend_own(
                qkv, self._keys[number], self._values[number], positions, self._rotation
            )
            x = do.linear(mixed, layer.own_out, residual=x)
            queries = do.linear(x, layer.source_in)
            mixed = do.attend_source(
                queries,
                self._source_keys[number],
                self._source_values[number],
                positions,
                self._rotation,
            )
            x = do.linear(mixed, layer.source_out, residual=x)
            hidden = do.linear(x, layer.feed_in, gelu=True)
            x = do.linear(hidden, layer.feed_out, residual=x)
        return x


def _rotation(attention: Any, dtype: Any, device: Any) -> Any:
    """The library's own tables of its rotary embedding, which it makes at first use, or None."""
    if attention.rotary is None:
        return None
    probe = torch.zeros(1, 1, 1, 1, dtype=dtype, device=device)
    cosines, sines = attention.rotary(probe)
    return tuple(table[0, :, 0].to(dtype).contiguous() for table in (cosines, sines))
