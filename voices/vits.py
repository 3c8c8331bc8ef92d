"""A Piper voice as two models, so that its sound comes while it is made.

VITS (Kim et al. 2021) makes latent frames from phonemes and sound from the frames. The second half,
a HiFi-GAN vocoder (Kong et al. 2020), takes two thirds of the time and looks only a few frames
around those that it turns into sound, so it can work piece by piece.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx.utils

CONTEXT = 16
"""Latent frames before and after a piece that its sound depends on.

The convolutions of Piper's largest voices reach 13 frames far, those of the medium ones 11. With 12
the pieces of en_US-joe-medium were the whole to -120 dB.
"""

FIRST_PIECE = 24
NEXT_PIECES = 120
"""Latent frames of a piece, each 256 samples: about 0.3 s, then 1.4 s."""

# What PyTorch's exporter calls the nodes of the vocoder.
_VOCODER = "/dec/"


@dataclass(frozen=True)
class SplitModel:
    """The two models, serialised. `latent` names the frames, float32 [1, channels, frames].

    `shared` names what else the vocoder takes from the first half, such as the speaker.
    """

    acoustic: bytes
    vocoder: bytes
    latent: str
    shared: tuple[str, ...]


def split(path: Path) -> SplitModel | None:
    """Cut a voice before its vocoder; None for a model in which there is none to be seen.

    Raises what `onnx.load` raises for a file that is no model.
    """
    model = onnx.load(str(path))
    nodes = [node for node in model.graph.node if node.name.startswith(_VOCODER)]
    if not nodes:
        return None
    latent = nodes[0].input[0]
    made = {name for node in nodes for name in node.output}
    weights = {weight.name for weight in model.graph.initializer}
    given = {name for node in nodes for name in node.input} - made - weights - {""}
    outside = [entry.name for entry in model.graph.input]
    shared = tuple(sorted(given - {latent} - set(outside)))
    extractor = onnx.utils.Extractor(model)
    acoustic = extractor.extract_model(outside, [latent, *shared])
    vocoder = extractor.extract_model(
        [latent, *sorted(given - {latent})], [entry.name for entry in model.graph.output]
    )
    return SplitModel(acoustic.SerializeToString(), vocoder.SerializeToString(), latent, shared)


def pieces(frames: int) -> Iterator[tuple[slice, int, int]]:
    """How to go through so many latent frames: (what to run, frames to drop, frames to keep)."""
    start = 0
    while start < frames:
        stop = min(frames, start + (FIRST_PIECE if start == 0 else NEXT_PIECES))
        first = max(0, start - CONTEXT)
        yield slice(first, min(frames, stop + CONTEXT)), start - first, stop - start
        start = stop
