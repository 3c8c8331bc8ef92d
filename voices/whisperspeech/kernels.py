"""The functions of `operations.py` for NVIDIA GPUs, over the kernels of `triton_kernels.py`.

A step for one utterance is made of products so small that PyTorch spends its time between them:
there are about 25 kernels a layer, here 8. Weights are read once for the whole batch, and only the
part of a cache that is in use.

Written for Triton 2.2 (PyTorch 2.2) and later; `kernel_check.py` compares each with plain PyTorch.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
import triton

from voices.whisperspeech import triton_kernels
from voices.whisperspeech.operations import Linear

_FEW_ROWS = 4
"""Up to so many rows a product is made without the tensor cores, whose tiles have sixteen."""
_WEIGHTS = 8192
"""Weights that a program of such a product holds in registers."""
_TILE_ROWS = 64
_TILE_COLUMNS = 16
_KEYS = 256
"""Keys that a program looks at together."""
_KEYS_OF_FEW = 128
"""With few rows: the keys of a row are then shared out among programs."""
_OWN_PARTS = 4
"""Programs for a row's own keys with few rows; more positions than they hold are seen in turns."""

FAILURES: tuple[type[Exception], ...] = (
    triton.CompilationError,
    triton.OutOfResources,
    AssertionError,  # Triton 2.2, where it finds no CUDA
)
"""What Triton raises where it cannot make a kernel."""


@dataclass(frozen=True)
class _Parts:
    """What `triton_kernels.attention_kernel` makes in parts; `linear` takes it as its input."""

    mixed: Any
    """[rows, parts, width], float32."""
    sums: Any
    """[rows, parts, heads, 2]."""

    def __len__(self) -> int:
        return len(self.mixed)


@functools.cache
def _launch(device: Any) -> dict[str, Any]:
    """How kernels are launched on a GPU: early where GPU and Triton know how."""
    hopper = torch.cuda.is_available() and torch.cuda.get_device_capability(device)[0] >= 9
    return (
        {"EARLY": True, "launch_pdl": True}
        if hopper and triton_kernels.CAN_WAIT
        else {"EARLY": False}
    )


def embed(tokens: Any, tables: Any, positions: Any, places: Any, extra: Any) -> Any:
    """See `operations.embed`."""
    count, streams = tokens.shape
    _, codes, width = tables.shape
    out = torch.empty((count, width), dtype=tables.dtype, device=tables.device)
    triton_kernels.embed_kernel[(count, triton.cdiv(width, 256))](
        tokens,
        tables,
        positions,
        tables if places is None else places,
        tables if extra is None else extra,
        out,
        codes,
        width,
        STREAMS=streams,
        BLOCK=256,
        PLACES=places is not None,
        EXTRA=extra is not None,
        **_launch(tables.device),
    )
    return out


def linear(x: Any, layer: Linear, *, gelu: bool = False, residual: Any = None) -> Any:
    """See `operations.linear`."""
    weight, norm = layer.weight, layer.norm
    groups, columns, inputs = weight.shape
    rows = len(x)
    few = rows <= _FEW_ROWS
    out = torch.empty((rows, groups * columns), dtype=weight.dtype, device=weight.device)
    bias = layer.offsets if few and norm is not None else layer.bias
    arguments = (
        weight,
        weight if bias is None else bias,
        weight if norm is None else norm.gain,
        weight if norm is None else layer.gains if few else norm.shift,
        0.0 if norm is None else norm.epsilon,
        weight if residual is None else residual,
        out,
    )
    options = {
        "INPUTS": inputs,
        "GROUPS": groups,
        "BIAS": bias is not None,
        "NORM": norm is not None,
        "GELU": gelu,
        "RESIDUAL": residual is not None,
        **_launch(weight.device),
    }
    if few:
        parts = isinstance(x, _Parts)
        block = triton.next_power_of_2(inputs)
        per_program = max(2, min(16, _WEIGHTS // block))
        triton_kernels.row_kernel[(triton.cdiv(columns, per_program), rows, groups)](
            x.mixed if parts else x,
            x.sums if parts else x,
            *arguments,
            columns,
            PARTS=x.mixed.shape[1] if parts else 1,
            HEAD=inputs // x.sums.shape[2] if parts else 1,
            BLOCK_INPUTS=block,
            BLOCK_COLUMNS=per_program,
            **options,
        )
    else:
        tile = max(16, min(_TILE_ROWS, triton.next_power_of_2(rows)))
        triton_kernels.tile_kernel[
            (triton.cdiv(columns, _TILE_COLUMNS), triton.cdiv(rows, tile), groups)
        ](
            x,
            *arguments,
            rows,
            columns,
            BLOCK_ROWS=tile,
            BLOCK_COLUMNS=_TILE_COLUMNS,
            BLOCK_INPUTS=min(128, inputs & -inputs),
            num_stages=4,
            **options,
        )
    return out


def attend_own(qkv: Any, keys: Any, values: Any, positions: Any, rotation: Any) -> Any:
    """See `operations.attend_own`; the result is for `linear` alone."""
    return _attend(qkv, keys, values, positions, rotation, own=True)


def attend_source(queries: Any, keys: Any, values: Any, positions: Any, rotation: Any) -> Any:
    """See `operations.attend_source`; the result is for `linear` alone."""
    return _attend(queries, keys, values, positions, rotation, own=False)


def _attend(x: Any, keys: Any, values: Any, positions: Any, rotation: Any, *, own: bool) -> Any:
    _, heads, length, width = keys.shape
    rows = len(x)
    few = rows <= _FEW_ROWS
    block = _KEYS_OF_FEW if few else _KEYS
    parts = min(_OWN_PARTS if own else length, triton.cdiv(length, block)) if few else 1
    if parts > 1:
        out = torch.empty((rows, parts, heads * width), dtype=torch.float32, device=x.device)
        sums = torch.empty((rows, parts, heads, 2), dtype=torch.float32, device=x.device)
    else:
        out = torch.empty((rows, heads * width), dtype=x.dtype, device=x.device)
        sums = out
    cosines, sines = (x, x) if rotation is None else rotation
    triton_kernels.attention_kernel[(rows, heads, parts)](
        x,
        keys,
        values,
        positions,
        cosines,
        sines,
        out,
        sums,
        length,
        HEADS=heads,
        WIDTH=width,
        HALF=width // 2,
        BLOCK=block,
        PARTS=parts,
        OWN=own,
        ROTATED=rotation is not None,
        num_warps=4 if few else 8,
        **_launch(x.device),
    )
    return _Parts(out, sums) if parts > 1 else out


def draw(
    logits: Any,
    noise: Any,
    scale: tuple[float, float, float],
    tokens: Any,
    positions: Any,
    record: Any,
    blank: int,
) -> None:
    """See `operations.draw`."""
    count, streams, codes = noise.shape
    factor, divisor, temperature = scale
    triton_kernels.draw_kernel[(count,)](
        logits,
        noise,
        factor / divisor / temperature,
        tokens,
        positions,
        record,
        blank,
        codes,
        record.shape[-1],
        STREAMS=streams,
        BLOCK=triton.next_power_of_2(codes),
        num_warps=8,
        **_launch(logits.device),
    )
