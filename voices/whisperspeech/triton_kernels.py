"""The GPU side of `kernels.py`, in Triton's language: eight launches make a decoder's layer.

Sums are in float32. Names in capitals are known when a kernel is compiled.

On GPUs from Hopper on, a kernel starts before the one ahead of it is done (programmatic dependent
launch, with EARLY): it reads what no other kernel of the step writes, its weights or the keys of
earlier positions, then waits (`_wait`). It lets the next one start only after its own wait, so
whatever was written two kernels ago or earlier is there.
"""

from __future__ import annotations

import triton
import triton.language as tl

CAN_WAIT = hasattr(getattr(getattr(tl, "extra", None), "cuda", None), "gdc_wait")
"""Newer versions of Triton know of it."""

if CAN_WAIT:

    @triton.jit
    def _wait(EARLY: tl.constexpr):
        """Until the kernel ahead is done; then the next one may start."""
        if EARLY:
            tl.extra.cuda.gdc_wait()
            tl.extra.cuda.gdc_launch_dependents()

else:

    @triton.jit
    def _wait(EARLY: tl.constexpr):
        tl.static_assert(not EARLY)


@triton.jit
def _joined(
    x, sums, row, ks, inside, INPUTS: tl.constexpr, HEAD: tl.constexpr, PARTS: tl.constexpr
):
    """A row of attention of which each program has made a part; see `attention_kernel`."""
    heads = ks // HEAD
    each = INPUTS // HEAD * 2
    highest = tl.full(ks.shape, -1e30, tl.float32)
    for part in tl.static_range(PARTS):
        at = (row * PARTS + part) * each + heads * 2
        highest = tl.maximum(highest, tl.load(sums + at, mask=inside, other=-1e30))
    mixed = tl.zeros(ks.shape, tl.float32)
    weight_sum = tl.zeros(ks.shape, tl.float32)
    for part in tl.static_range(PARTS):
        at = (row * PARTS + part) * each + heads * 2
        shrink = tl.exp(tl.load(sums + at, mask=inside, other=-1e30) - highest)
        weight_sum += shrink * tl.load(sums + at + 1, mask=inside, other=0.0)
        mixed += shrink * tl.load(x + (row * PARTS + part) * INPUTS + ks, mask=inside, other=0.0)
    return mixed / tl.maximum(weight_sum, 1e-30)


@triton.jit
def row_kernel(
    x, sums, weight, bias, gain, gains, epsilon, residual, out, columns,
    INPUTS: tl.constexpr, BLOCK_INPUTS: tl.constexpr, BLOCK_COLUMNS: tl.constexpr,
    GROUPS: tl.constexpr, PARTS: tl.constexpr, HEAD: tl.constexpr, BIAS: tl.constexpr,
    NORM: tl.constexpr, GELU: tl.constexpr, RESIDUAL: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Some columns of one row: the row in registers, the weights read in one go."""
    row = tl.program_id(1)
    group = tl.program_id(2)
    ns = tl.program_id(0) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    ks = tl.arange(0, BLOCK_INPUTS)
    inside = ks < INPUTS
    present = ns < columns
    weights = tl.load(
        weight + (group * columns + ns)[:, None] * INPUTS + ks[None, :],
        mask=present[:, None] & inside[None, :],
        other=0.0,
    )
    if BIAS:
        biases = tl.load(bias + group * columns + ns, mask=present, other=0.0).to(tl.float32)
    if NORM:
        ratio = tl.load(gain + ks, mask=inside, other=0.0).to(tl.float32)
        ratios = tl.load(gains + group * columns + ns, mask=present, other=0.0)
    _wait(EARLY)
    if PARTS > 1:
        xs = _joined(x, sums, row, ks, inside, INPUTS, HEAD, PARTS)
    else:
        at = (row * GROUPS + group) * INPUTS + ks
        xs = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    if NORM:  # the norm of the sum instead of the sum of the normed, so that all sums are one wait
        mean = tl.sum(xs, 0) / INPUTS
        scale = 1.0 / tl.sqrt(tl.sum(xs * xs, 0) / INPUTS - mean * mean + epsilon)
        total = tl.sum(weights.to(tl.float32) * (xs * ratio)[None, :], 1)
        total = (total - mean * ratios) * scale
    else:
        total = tl.sum(weights.to(tl.float32) * xs[None, :], 1)
    if BIAS:
        total += biases
    if GELU:
        total = 0.5 * total * (1.0 + tl.math.erf(total * 0.7071067811865476))
    places = (row * GROUPS + group) * columns + ns
    if RESIDUAL:
        total += tl.load(residual + places, mask=present, other=0.0).to(tl.float32)
    tl.store(out + places, total.to(out.dtype.element_ty), mask=present)


@triton.jit
def tile_kernel(
    x, weight, bias, gain, shift, epsilon, residual, out, rows, columns,
    INPUTS: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_COLUMNS: tl.constexpr,
    BLOCK_INPUTS: tl.constexpr, GROUPS: tl.constexpr, BIAS: tl.constexpr, NORM: tl.constexpr,
    GELU: tl.constexpr, RESIDUAL: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """A tile of the product on the tensor cores."""
    _wait(EARLY)
    group = tl.program_id(2)
    ms = tl.program_id(1) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    ns = tl.program_id(0) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    there = ms < rows
    present = ns < columns
    x_rows = x + ((ms * GROUPS + group) * INPUTS)[:, None]
    w_rows = weight + ((group * columns + ns) * INPUTS)[:, None]
    if NORM:
        sums = tl.zeros((BLOCK_ROWS,), tl.float32)
        squares = tl.zeros((BLOCK_ROWS,), tl.float32)
        for start in range(0, INPUTS, BLOCK_INPUTS):
            ks = start + tl.arange(0, BLOCK_INPUTS)
            wide = tl.load(x_rows + ks[None, :], mask=there[:, None], other=0.0).to(tl.float32)
            sums += tl.sum(wide, 1)
            squares += tl.sum(wide * wide, 1)
        mean = sums / INPUTS
        scale = 1.0 / tl.sqrt(squares / INPUTS - mean * mean + epsilon)
    total = tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), tl.float32)
    for start in range(0, INPUTS, BLOCK_INPUTS):
        ks = start + tl.arange(0, BLOCK_INPUTS)
        xs = tl.load(x_rows + ks[None, :], mask=there[:, None], other=0.0)
        if NORM:
            gains = tl.load(gain + ks).to(tl.float32)[None, :]
            shifts = tl.load(shift + ks).to(tl.float32)[None, :]
            normed = (xs.to(tl.float32) - mean[:, None]) * scale[:, None] * gains + shifts
            xs = normed.to(x.dtype.element_ty)
        weights = tl.load(w_rows + ks[None, :], mask=present[:, None], other=0.0)
        total += tl.dot(xs, tl.trans(weights))
    if BIAS:
        biases = tl.load(bias + group * columns + ns, mask=present, other=0.0).to(tl.float32)
        total += biases[None, :]
    if GELU:
        total = 0.5 * total * (1.0 + tl.math.erf(total * 0.7071067811865476))
    places = ((ms * GROUPS + group) * columns)[:, None] + ns[None, :]
    kept = there[:, None] & present[None, :]
    if RESIDUAL:
        total += tl.load(residual + places, mask=kept, other=0.0).to(tl.float32)
    tl.store(out + places, total.to(out.dtype.element_ty), mask=kept)


@triton.jit
def _attended(q1, q2, k1, k2, v, inside, highest, weight_sum, mixed):
    """A running softmax that has seen some more keys."""
    scores = tl.sum(k1.to(tl.float32) * q1[None, :] + k2.to(tl.float32) * q2[None, :], 1)
    scores = tl.where(inside, scores, -1e30)
    higher = tl.maximum(highest, tl.max(scores, 0))
    shrink = tl.exp(highest - higher)
    weights = tl.where(inside, tl.exp(scores - higher), 0.0)
    weight_sum = weight_sum * shrink + tl.sum(weights, 0)
    mixed = mixed * shrink + tl.sum(weights[:, None] * v.to(tl.float32), 0)
    return higher, weight_sum, mixed


@triton.jit
def attention_kernel(
    x, keys, values, positions, cosines, sines, out, sums, length,
    HEADS: tl.constexpr, WIDTH: tl.constexpr, HALF: tl.constexpr, BLOCK: tl.constexpr,
    PARTS: tl.constexpr, OWN: tl.constexpr, ROTATED: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """One head of one row over a part of its cache.

    With one part the result is in `out`. With more, each part leaves there what it has mixed, and
    in `sums` its highest score and the sum of its weights: `_joined` puts them together.
    """
    row = tl.program_id(0)
    head = tl.program_id(1)
    part = tl.program_id(2)
    position = tl.load(positions + row)
    place = tl.maximum(position, 0).to(tl.int32)
    first = tl.arange(0, HALF)
    second = first + HALF
    full = tl.arange(0, WIDTH)
    cache = (row * HEADS + head).to(tl.int64) * length * WIDTH
    if OWN:
        seen = place
    else:
        seen = tl.where(position < 0, 0, length)
    rows = part * BLOCK + tl.arange(0, BLOCK)
    inside = rows < seen
    at = cache + rows[:, None] * WIDTH
    k1 = tl.load(keys + at + first[None, :], mask=inside[:, None], other=0.0)
    k2 = tl.load(keys + at + second[None, :], mask=inside[:, None], other=0.0)
    v = tl.load(values + at + full[None, :], mask=inside[:, None], other=0.0)
    if ROTATED:
        cosine = tl.load(cosines + place * WIDTH + first).to(tl.float32)
        sine = tl.load(sines + place * WIDTH + first).to(tl.float32)
    _wait(EARLY)
    if OWN:
        queries = x + row * 3 * HEADS * WIDTH + head * WIDTH
    else:
        queries = x + row * HEADS * WIDTH + head * WIDTH
    scale = 1.0 / tl.sqrt(WIDTH * 1.0)
    q1 = tl.load(queries + first).to(tl.float32) * scale
    q2 = tl.load(queries + second).to(tl.float32) * scale
    if ROTATED:
        turned = q1 * cosine - q2 * sine
        q2 = q2 * cosine + q1 * sine
        q1 = turned
    highest = tl.sum(q1 * 0.0, 0) - 1e30
    weight_sum = tl.sum(q1 * 0.0, 0)
    mixed = full * 0.0
    if OWN:
        if part == 0:
            new1 = tl.load(queries + HEADS * WIDTH + first).to(tl.float32)
            new2 = tl.load(queries + HEADS * WIDTH + second).to(tl.float32)
            new_v = tl.load(queries + 2 * HEADS * WIDTH + full)
            if ROTATED:
                turned = new1 * cosine - new2 * sine
                new2 = new2 * cosine + new1 * sine
                new1 = turned
            own = cache + place * WIDTH
            tl.store(keys + own + first, new1.to(keys.dtype.element_ty))
            tl.store(keys + own + second, new2.to(keys.dtype.element_ty))
            tl.store(values + own + full, new_v)
            highest = tl.sum(q1 * new1 + q2 * new2, 0)
            weight_sum += 1.0
            mixed = new_v.to(tl.float32)
    highest, weight_sum, mixed = _attended(q1, q2, k1, k2, v, inside, highest, weight_sum, mixed)
    for start in range((part + PARTS) * BLOCK, seen, PARTS * BLOCK):
        rows = start + tl.arange(0, BLOCK)
        inside = rows < seen
        at = cache + rows[:, None] * WIDTH
        k1 = tl.load(keys + at + first[None, :], mask=inside[:, None], other=0.0)
        k2 = tl.load(keys + at + second[None, :], mask=inside[:, None], other=0.0)
        v = tl.load(values + at + full[None, :], mask=inside[:, None], other=0.0)
        highest, weight_sum, mixed = _attended(
            q1, q2, k1, k2, v, inside, highest, weight_sum, mixed
        )
    result = ((row * PARTS + part) * HEADS + head) * WIDTH
    if PARTS > 1:
        tl.store(out + result + full, mixed)
        at_sums = sums + ((row * PARTS + part) * HEADS + head) * 2
        tl.store(at_sums, highest)
        tl.store(at_sums + 1, weight_sum)
    else:
        mixed = mixed / tl.maximum(weight_sum, 1e-30)
        tl.store(out + result + full, mixed.to(out.dtype.element_ty))


@triton.jit
def embed_kernel(
    tokens, tables, positions, places, extra, out, codes, width,
    STREAMS: tl.constexpr, BLOCK: tl.constexpr, PLACES: tl.constexpr, EXTRA: tl.constexpr,
    EARLY: tl.constexpr,
):  # fmt: skip
    _wait(EARLY)
    row = tl.program_id(0)
    ks = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = ks < width
    total = tl.zeros((BLOCK,), tl.float32)
    for stream in range(STREAMS):
        token = tl.load(tokens + row * STREAMS + stream)
        at = tables + (stream * codes + token) * width
        total += tl.load(at + ks, mask=inside, other=0.0).to(tl.float32)
    if PLACES:
        place = tl.maximum(tl.load(positions + row), 0)
        total += tl.load(places + place * width + ks, mask=inside, other=0.0).to(tl.float32)
    if EXTRA:
        total += tl.load(extra + ks, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * width + ks, total.to(out.dtype.element_ty), mask=inside)


@triton.jit
def draw_kernel(
    logits, noise, factor, tokens, positions, record, blank, codes, length,
    STREAMS: tl.constexpr, BLOCK: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """argmax(softmax(z) / noise) is argmax(z - log(noise))."""
    _wait(EARLY)
    row = tl.program_id(0)
    position = tl.load(positions + row)
    if position >= 0:
        streams = tl.arange(0, STREAMS)
        ks = tl.arange(0, BLOCK)
        at = (row * STREAMS + streams)[:, None] * codes + ks[None, :]
        inside = (ks < codes)[None, :] & (streams >= 0)[:, None]
        z = tl.load(logits + at, mask=inside, other=0.0).to(tl.float32) * factor
        z -= tl.log(tl.load(noise + at, mask=inside, other=1.0))
        drawn = tl.argmax(tl.where(inside, z, float("-inf")), 1).to(tl.int64)
        drawn = tl.where(position + 1 > streams, drawn, blank)
        tl.store(tokens + row * STREAMS + streams, drawn)
        following = tl.minimum(position + 1, length - 1)
        tl.store(record + (row * STREAMS + streams) * length + following, drawn)
        tl.debug_barrier()  # every thread has read the position
        tl.store(positions + row, tl.minimum(position + 1, length - 2))
