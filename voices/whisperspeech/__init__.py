"""Speech by WhisperSpeech 0.8.9 on a GPU, streamed, many utterances in one batch.

Text becomes semantic tokens, those become acoustic tokens, and the vocoder makes them 24 kHz sound.
Models, file formats, arithmetic and draws are the library's; the loop around them is ours
(`engine.py`), as the library's own makes one utterance at a time, whole, and does 99 % of its
arithmetic again at each step.

    voice.py         the `Voice`; checkpoints.py loads the models, texts.py cuts what is too long
    engine.py        the loop: who joins, who leaves, whose step is next (schedule.py)
    stages.py        the two models as batches; decoder.py is what a step of both is
    operations.py    its arithmetic in PyTorch; kernels.py on a GPU, where kernel_check.py agrees
    graphs.py        CUDA graphs;  in_flight.py  results that the GPU still works on
    windows.py       which frames go to the vocoder when;  vocoding.py  decodes them
    utterance.py     one text, between the thread that wants it and the one that makes it

Works with torch 2.2 and later. Facts about the library: its 0.8.9 wheel.
"""

from __future__ import annotations

import importlib

from fusion.settings import Settings
from voices.base import Voice


def load(settings: Settings) -> Voice:
    """Load the models that the settings name, for as many people at once as they say.

    Imports PyTorch. Raises ConfigurationError when a package, a model or the speaker's file is
    missing or broken.
    """
    voice: Voice = importlib.import_module("voices.whisperspeech.voice").load(settings)
    return voice
