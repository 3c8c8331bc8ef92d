"""Codes become sound: windows of several utterances through the library's vocoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from voices.whisperspeech.graphs import Graphs
from voices.whisperspeech.windows import LENGTHS, SAMPLES_PER_FRAME, STREAMS, Window

_LAST_CODE = 1023
"""The acoustic model may also draw 1024 and 1025, its marks, which the vocoder does not know."""

_BANDWIDTHS = {2: 0, 4: 1, 8: 2}
"""The vocoder's number of each count of streams; the library's `Vocoder.decode`."""

_MOST_WINDOWS = 16
"""Decoded at once."""


class WindowVocoder:
    """The vocoder over what the acoustic stage has recorded. Not safe for several threads."""

    def __init__(self, vocoder: Any, record: Any, graphs: Graphs) -> None:
        """Read from `record` [slots, streams, steps], where stream q is q steps late."""
        self._vocos = vocoder.vocos
        self._vocos.head.istft = InverseTransform(self._vocos.head.istft)
        self._record = record
        self._graphs = graphs
        self._most = min(_MOST_WINDOWS, len(record))
        device = record.device
        self._bandwidth = torch.tensor(_BANDWIDTHS[STREAMS], device=device)
        self._places = torch.zeros(2, self._most, dtype=torch.long, device=device)
        """Slot and first frame of each window."""
        self._frames = torch.arange(max(LENGTHS), device=device)
        self._streams = torch.arange(STREAMS, device=device)[:, None, None]
        self._sound = torch.zeros(self._most, max(LENGTHS) * SAMPLES_PER_FRAME, device=device)

    def warm_up(self) -> None:
        """Record the CUDA graphs of all lengths that an utterance can have."""
        most = self._record.shape[-1] - STREAMS
        self._places.zero_()
        for size in self._graphs.sizes(self._most):
            for length in (each for each in LENGTHS if each <= most):
                self._graphs.run(self._decode, size, length)

    def decode(self, windows: Sequence[tuple[int, Window]]) -> Any:
        """The sound [windows, samples] of windows of one of LENGTHS, each with its slot.

        There is room for no more than `most`; the sound stays until the next call.
        """
        count = len(windows)
        length = windows[0][1].last - windows[0][1].first
        size = self._graphs.size(count, self._most)
        rows = [*windows, *[windows[0]] * (size - count)]  # one of them repeated
        places = [[slot for slot, _ in rows], [window.first for _, window in rows]]
        self._places[:, :size].copy_(torch.tensor(places))
        self._graphs.run(self._decode, size, length)
        return self._sound[:count, : length * SAMPLES_PER_FRAME]

    @property
    def most(self) -> int:
        """How many windows can be decoded at once."""
        return self._most

    def _decode(self, count: int, length: int) -> None:
        slots, firsts = self._places[:, :count, None]
        # Frame 0 begins at step 1, and each stream a step later than the one before it.
        steps = firsts + self._frames[:length] + self._streams + 1
        codes = self._record[slots, self._streams, steps]
        features = self._vocos.codes_to_features(codes.clamp(max=_LAST_CODE))
        sound = self._vocos.decode(features, bandwidth_id=self._bandwidth)
        self._sound[:count, : length * SAMPLES_PER_FRAME].copy_(sound)


class InverseTransform(torch.nn.Module):  # type: ignore[misc]  # torch is not installed everywhere
    """The vocoder's inverse Fourier transform without its look at the result.

    That look, whether any sample lies under no window, waits for the GPU each time and cannot be
    part of a CUDA graph. With windows of four hops none does.
    """

    def __init__(self, library: Any) -> None:
        """Take size and window of the library's `ISTFT` with padding "same"."""
        super().__init__()
        self._size = library.n_fft
        self._hop = library.hop_length
        self._window = library.window
        self._envelopes: dict[int, Any] = {}

    def forward(self, spectrum: Any) -> Any:
        """Sound [windows, samples] of spectra [windows, frequencies, frames]."""
        frames = torch.fft.irfft(spectrum, self._size, dim=1, norm="backward")
        sound = self._overlapped(frames * self._window[None, :, None])
        length = spectrum.shape[-1]
        if length not in self._envelopes:
            squares = self._window.square()[None, :, None].expand(1, -1, length)
            self._envelopes[length] = self._overlapped(squares)
        return sound / self._envelopes[length]

    def _overlapped(self, frames: Any) -> Any:
        """Frames [n, size, frames] added up, each a hop later than the one before it."""
        padding = (self._size - self._hop) // 2
        total = (frames.shape[-1] - 1) * self._hop + self._size
        added = F.fold(frames, (1, total), kernel_size=(1, self._size), stride=(1, self._hop))
        return added[:, 0, 0, padding:-padding]
