"""Decides whether the GPU kernels serve: they must run here, and compute what PyTorch does."""

from __future__ import annotations

import importlib
import logging
import subprocess
from collections.abc import Iterator
from typing import Any

import torch

from voices.whisperspeech import operations
from voices.whisperspeech.operations import Linear, Norm, Operations

logger = logging.getLogger(__name__)

_TOLERANCE = 0.02
"""Largest difference of a value, as a share of the largest value. Half precision gives 0.002."""
_HEADS, _HEAD_WIDTH, _LENGTH = 2, 64, 700
_WIDTH = _HEADS * _HEAD_WIDTH


def fastest_operations(device: Any) -> Operations:
    """Our kernels, or plain PyTorch with a warning that says why."""
    plain: Operations = operations
    try:
        kernels = importlib.import_module("voices.whisperspeech.kernels")
    except ImportError as error:
        reason = str(error)
    else:
        try:
            reason = wrong_kernel(kernels, device)
        except (RuntimeError, TypeError, AttributeError, ValueError, OSError) as error:
            reason = str(error)
        except (subprocess.SubprocessError, *kernels.FAILURES) as error:
            reason = str(error)
        if not reason:
            return kernels
    logger.warning(
        "the voice's own GPU kernels do not run here, PyTorch's do instead, which are slower (%s)",
        (reason.splitlines() or ["no reason was given"])[0],
    )
    return plain


def wrong_kernel(kernels: Operations, device: Any, dtype: Any = torch.float16) -> str:
    """The first function of `kernels` that differs from PyTorch, in words; empty when none does."""
    generator = torch.Generator(device).manual_seed(1)

    def some(*shape: int) -> Any:
        return torch.randn(shape, device=device, generator=generator).to(dtype)

    with torch.no_grad():
        for rows in (1, 3, 20):
            for name, expected, got in _compared(kernels, rows, some):
                scale = expected.abs().max().clamp(min=1e-3)
                if not ((expected - got).abs().max() / scale < _TOLERANCE):
                    return f"{name} is wrong for {rows} rows"
    return ""


def _compared(kernels: Operations, rows: int, some: Any) -> Iterator[tuple[str, Any, Any]]:
    """Each function's name with what PyTorch and what `kernels` make of the same input."""
    x, wide = some(rows, _WIDTH), some(rows, 4 * _WIDTH)
    norm = Norm(some(_WIDTH).float(), some(_WIDTH).float(), 1e-5)
    weight, bias = some(1, 200, _WIDTH) / 8, some(1, 200)
    plain, normed = Linear.make(weight, bias), Linear.make(weight, bias, norm)
    calls: list[tuple[str, Linear, Any, dict[str, Any]]] = [
        ("linear after a norm", normed, x + 0.5, {}),
        ("linear between norm and GELU", normed, x, {"gelu": True}),
        ("linear beside a residual", plain, x, {"residual": some(rows, 200)}),
        ("linear in groups", Linear.make(some(4, 100, _WIDTH) / 8), wide, {}),
    ]
    for name, layer, inputs, options in calls:
        yield (
            name,
            operations.linear(inputs, layer, **options),
            kernels.linear(inputs, layer, **options),
        )
    yield from _compared_attention(kernels, rows, some)
    yield from _compared_tokens(kernels, rows, some)


def _compared_attention(
    kernels: Operations, rows: int, some: Any
) -> Iterator[tuple[str, Any, Any]]:
    qkv = some(rows, 3 * _WIDTH)
    positions = (torch.arange(rows, device=qkv.device) * 41 + 600) % _LENGTH
    layer = Linear.make(some(1, _WIDTH, _WIDTH) / 8)
    angles = some(_LENGTH, _HEAD_WIDTH // 2).repeat(1, 2)
    for rotation in (None, (angles.cos(), angles.sin())):
        keys, values = (some(rows, _HEADS, _LENGTH, _HEAD_WIDTH) for _ in "kv")
        own_keys, own_values = keys.clone(), values.clone()
        yield (
            "attend_own",
            operations.linear(operations.attend_own(qkv, keys, values, positions, rotation), layer),
            kernels.linear(
                kernels.attend_own(qkv, own_keys, own_values, positions, rotation), layer
            ),
        )
        yield "the cache of keys", keys, own_keys
        yield "the cache of values", values, own_values
        queries = qkv[:, :_WIDTH].contiguous()
        yield (
            "attend_source",
            operations.linear(
                operations.attend_source(queries, keys, values, positions, rotation), layer
            ),
            kernels.linear(
                kernels.attend_source(queries, own_keys, own_values, positions, rotation), layer
            ),
        )


def _compared_tokens(kernels: Operations, rows: int, some: Any) -> Iterator[tuple[str, Any, Any]]:
    tables, places, extra = some(4, 50, _WIDTH), some(_LENGTH, _WIDTH), some(_WIDTH)
    device = tables.device
    tokens = (torch.arange(rows * 4, device=device) % 50).view(rows, 4)
    positions = torch.arange(-1, rows - 1, device=device)
    yield (
        "embed",
        operations.embed(tokens, tables, positions, places, extra),
        kernels.embed(tokens, tables, positions, places, extra),
    )
    logits = torch.arange(rows * 200, device=device).view(rows, 200) % 37 / 4.0
    noise = (torch.arange(rows * 200, device=device) % 23 + 1.0).view(rows, 4, 50) / 7
    record = torch.zeros(rows, 4, 12, dtype=torch.long, device=device)
    results = []
    for functions in (operations, kernels):
        state = [each.clone() for each in (tokens, positions, record)]
        functions.draw(logits, noise, (1.0, 2.0, 0.7), state[0], state[1], state[2], 49)
        results.append(state)
    for expected, got in zip(*results, strict=True):
        yield "draw", expected.float(), got.float()
