"""What a step of WhisperSpeech's models is made of, in plain PyTorch.

The library's own arithmetic for one new position of several utterances: what comes out is what its
`generate` computes, to the last bit where the batch is one utterance. `kernels.py` has the same
functions for NVIDIA GPUs; a step is written once (`decoder.py`) and given one of the two modules.

Rows of utterances that are not in the batch have position -1: nothing of theirs changes, and what
is computed for them means nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812


@dataclass(frozen=True)
class Norm:
    """A layer norm, which is computed in float32."""

    gain: Any
    shift: Any
    epsilon: float

    @classmethod
    def of(cls, module: Any) -> Norm:
        return cls(module.weight, module.bias, module.eps)


@dataclass(frozen=True)
class Linear:
    """One linear layer with the norm before it, or several layers side by side.

    Attributes:
        weight: [groups, outputs, inputs]; group g reads its own part of the input row.
        bias: [groups, outputs], or None.
        norm: of the input, or None. With a norm also, in float32, what spares a kernel the normed
            input, as it can norm its own sum instead:
        gains: [groups, outputs], the sums of each output's weights times their gains;
        offsets: [groups, outputs], what the layer makes of the shift, plus the bias.
    """

    weight: Any
    bias: Any
    norm: Norm | None
    gains: Any = None
    offsets: Any = None

    @classmethod
    def make(cls, weight: Any, bias: Any = None, norm: Norm | None = None) -> Linear:
        """Fill in the rest."""
        if norm is None:
            return cls(weight, bias, None)
        wide = weight.float()
        offsets = wide @ norm.shift.float()
        if bias is not None:
            offsets = offsets + bias.float()
        return cls(weight, bias, norm, wide @ norm.gain.float(), offsets)

    @classmethod
    def of(cls, module: Any, norm: Any = None) -> Linear:
        """The library's modules: a linear layer, and the layer norm before it."""
        bias = None if module.bias is None else module.bias[None].contiguous()
        weight = module.weight[None].contiguous()
        return cls.make(weight, bias, None if norm is None else Norm.of(norm))


class Operations(Protocol):
    """This module or `kernels`; see the functions here."""

    def embed(self, tokens: Any, tables: Any, positions: Any, places: Any, extra: Any) -> Any: ...

    def linear(self, x: Any, layer: Linear, *, gelu: bool = False, residual: Any = None) -> Any: ...

    def attend_own(
        self, qkv: Any, keys: Any, values: Any, positions: Any, rotation: Any
    ) -> Any: ...

    def attend_source(
        self, queries: Any, keys: Any, values: Any, positions: Any, rotation: Any
    ) -> Any: ...

    def draw(
        self,
        logits: Any,
        noise: Any,
        scale: tuple[float, float, float],
        tokens: Any,
        positions: Any,
        record: Any,
        blank: int,
    ) -> None: ...


def embed(tokens: Any, tables: Any, positions: Any, places: Any, extra: Any) -> Any:
    """The decoder's input [n, width].

    Args:
        tokens: [n, streams], the last of each row.
        tables: [streams, codes, width].
        positions: [n].
        places: embeddings of the positions, [positions, width], or None.
        extra: what is added to each row, [width], or None.
    """
    x = F.embedding(tokens[:, 0], tables[0])
    for stream in range(1, tokens.shape[1]):
        x = x + F.embedding(tokens[:, stream], tables[stream])
    if places is not None:
        x = x + places[positions.clamp(min=0)]
    return x if extra is None else x + extra


def linear(x: Any, layer: Linear, *, gelu: bool = False, residual: Any = None) -> Any:
    """A linear layer on rows [n, groups * inputs], with what goes before and after it."""
    if layer.norm is not None:
        norm = layer.norm
        normed = F.layer_norm(x.float(), x.shape[-1:], norm.gain, norm.shift, norm.epsilon)
        x = normed.type(x.dtype)
    groups = len(layer.weight)
    biases = [None] * groups if layer.bias is None else layer.bias
    parts = [
        F.linear(part, weight, bias)
        for part, weight, bias in zip(x.chunk(groups, -1), layer.weight, biases, strict=True)
    ]
    out = parts[0] if groups == 1 else torch.cat(parts, -1)
    if gelu:
        out = F.gelu(out)
    return out if residual is None else residual + out


def attend_own(qkv: Any, keys: Any, values: Any, positions: Any, rotation: Any) -> Any:
    """Put each row's new key and value into its cache, and attend to what is in there.

    Args:
        qkv: [n, 3 * width].
        keys, values: the caches, [n or more, heads, length, head width]; changed in place.
        positions: [n], where the new key and value go.
        rotation: (cosines, sines) of the rotary embedding, [positions, head width], or None.

    Returns:
        [n, width].
    """
    count, heads, length = len(qkv), keys.shape[1], keys.shape[2]
    places = positions.clamp(min=0)
    q, k, v = (part.view(count, heads, -1) for part in qkv.chunk(3, -1))
    rows = torch.arange(count, device=qkv.device)
    keys[rows, :, places] = _rotated(k, places, rotation)
    values[rows, :, places] = v
    seen = torch.arange(length, device=qkv.device) <= places[:, None]
    mask = torch.zeros(seen.shape, dtype=qkv.dtype, device=qkv.device)
    mask = mask.masked_fill(~seen, -torch.inf)[:, None, None]
    return _attend(_rotated(q, places, rotation), keys[:count], values[:count], mask)


def attend_source(queries: Any, keys: Any, values: Any, positions: Any, rotation: Any) -> Any:
    """Attend to the whole source of each row; arguments as for `attend_own`."""
    count, heads = len(queries), keys.shape[1]
    q = _rotated(queries.view(count, heads, -1), positions.clamp(min=0), rotation)
    return _attend(q, keys[:count], values[:count], None)


def draw(
    logits: Any,
    noise: Any,
    scale: tuple[float, float, float],
    tokens: Any,
    positions: Any,
    record: Any,
    blank: int,
) -> None:
    """Draw the next token of each stream, as the library's `inference.sample` does.

    Args:
        logits: [n, streams * codes].
        noise: [n, streams, codes], exponentially distributed.
        scale: factor, divisor and temperature of the logits.
        tokens: [n, streams]; becomes what was drawn.
        positions: [n]; go on by one, up to the end of the record.
        record: [n, streams, length]; what was drawn goes to the next position.
        blank: the token of stream q where the next position is not beyond q.
    """
    count, streams, length = record.shape
    factor, divisor, temperature = scale
    logits = logits.view(noise.shape) * factor / divisor / temperature
    drawn = torch.argmax(torch.softmax(logits, dim=-1) / noise, dim=-1)
    following = positions[:, None] + 1
    stream = torch.arange(streams, device=tokens.device)
    drawn = torch.where(following > stream, drawn, blank)
    running = positions[:, None] >= 0
    tokens.copy_(torch.where(running, drawn, tokens))
    rows = torch.arange(count, device=tokens.device)[:, None]
    places = following.clamp(max=length - 1).expand(-1, streams)
    record[rows, stream, places] = torch.where(running, drawn, record[rows, stream, places])
    positions.copy_(torch.where(positions >= 0, (positions + 1).clamp(max=length - 2), -1))


def _rotated(x: Any, positions: Any, rotation: Any) -> Any:
    """Rows [n, heads, head width] turned by their positions' angles."""
    if rotation is None:
        return x
    cosines, sines = (table[positions, None] for table in rotation)
    first, second = x.chunk(2, -1)
    return x * cosines + torch.cat((-second, first), -1) * sines


def _attend(queries: Any, keys: Any, values: Any, mask: Any) -> Any:
    mixed = F.scaled_dot_product_attention(queries[:, :, None], keys, values, attn_mask=mask)
    return mixed[:, :, 0].flatten(1)
