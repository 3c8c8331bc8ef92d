"""How fast the models of a GPU host are, each alone, two ways in one run.

    python -m benchmarks.gpu [transformers] [whisperspeech] [faster_whisper] [--json FILE]

transformers: a model of Phi-3-mini's size with random weights, with CUDA graphs and without.
WhisperSpeech: models of the published sizes with random weights, with torch.compile and without.
faster-whisper: `--whisper_model` (fetched) on the recordings of `--audio`, in batches and one by
one. Random weights take as long as real ones; what they say means nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from fusion.audio import SAMPLE_RATE
from fusion.settings import Settings
from tests.recordings import FOLDER
from whisper_live.client.sound_files import read_wav
from whisper_live.transcribers.base import (
    WINDOW_SECONDS,
    TranscriptionRequest,
)

Figures = dict[str, float]

_REPEATS = 5
_PROMPT = 200
_TOKENS = 50
_TEXTS = ("It was opened in 1883.", "The capital of France is Paris, and it lies on the Seine.")


def seconds(work: Callable[[], object], repeats: int = _REPEATS) -> float:
    """Median time of some runs, the GPU's work included."""
    times = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def measure_transformers() -> Figures:
    """Tokens a second for one person and for four, and the time to read a prompt."""
    from transformers import AutoModelForCausalLM, Phi3Config

    from language_models.transformers_batch import Batch

    config = Phi3Config(sliding_window=None, pad_token_id=0)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(
            config, dtype=torch.bfloat16, attn_implementation="sdpa"
        ).eval()
    figures: Figures = {}
    for compiled in (False, True):
        batch = Batch(model, 4, 1024, compiled)
        name = "with CUDA graphs" if compiled else "without"
        prompt = list(range(100, 100 + _PROMPT))
        for slot in range(4):
            batch.read(slot, prompt)
        for _ in range(3):  # compiles and records
            batch.step(dict.fromkeys(range(4), 7))
        for people in (1, 4):

            def answer(people: int = people, batch: Batch = batch) -> None:
                for token in range(_TOKENS):
                    batch.step(dict.fromkeys(range(people), token))

            rate = people * _TOKENS / seconds(answer, repeats=3)
            figures[f"tokens/s {name}, {people} at once"] = rate

        def read(batch: Batch = batch, prompt: list[int] = prompt) -> None:
            batch.forget()
            batch.read(0, prompt)

        figures[f"s to read {_PROMPT} tokens {name}"] = seconds(read)
    return figures


def measure_whisperspeech() -> Figures:
    """Seconds of work for a second of sound, and how long the compilation takes."""
    from tests.whisperspeech_files import PUBLISHED, go_offline, save_models
    from voices import whisperspeech

    figures: Figures = {}
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        go_offline(folder, patch)
        save_models(folder, PUBLISHED)
        for compiled in (False, True):
            way = "compiled" if compiled else "not compiled"
            voice = whisperspeech.load(
                Settings(
                    whisperspeech_t2s=str(folder / "t2s.model"),
                    whisperspeech_s2a=str(folder / "s2a.model"),
                    torch_compile=compiled,
                )
            )
            if compiled:
                figures["s to compile"] = seconds(voice.warm_up, repeats=1)
            factors = []
            for text in _TEXTS:
                began = time.perf_counter()
                sound = sum(len(part) for part in voice.synthesize(text)) / voice.sample_rate
                factors.append((time.perf_counter() - began) / max(sound, 0.04))
            figures[f"real-time factor {way}"] = statistics.mean(factors)
            voice.close()
    return figures


def measure_faster_whisper(model: str, audio: Path) -> Figures:
    """Seconds for eight people's recordings, together and one by one, and whether they agree."""
    from whisper_live.transcribers import faster_whisper

    recogniser = faster_whisper.load(Settings(whisper_model=model))
    recogniser.warm_up()
    clips = [read_wav(file, SAMPLE_RATE) for file in sorted(audio.glob("*.wav"))]
    short = [clip for clip in clips if len(clip) <= WINDOW_SECONDS * SAMPLE_RATE]
    requests = [TranscriptionRequest(clip) for clip in short[: recogniser.max_batch]]
    alone = [recogniser.transcribe([request])[0].text for request in requests]
    together = [each.text for each in recogniser.transcribe(requests)]
    for one, other in zip(alone, together, strict=True):
        print(f"  {one!r}" if one == other else f"  {one!r} alone, {other!r} together")
    return {
        "most at once": recogniser.max_batch,
        "texts that differ": sum(a != b for a, b in zip(alone, together, strict=True)),
        "s for one": seconds(lambda: recogniser.transcribe(requests[:1])),
        f"s for {len(requests)} one by one": seconds(
            lambda: [recogniser.transcribe([request]) for request in requests]
        ),
        f"s for {len(requests)} together": seconds(lambda: recogniser.transcribe(requests)),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Speed of each model on this GPU.")
    names = ("transformers", "whisperspeech", "faster_whisper")
    parser.add_argument("parts", nargs="*", default=names, help=f"of {', '.join(names)}")
    parser.add_argument("--whisper_model", default=Settings().whisper_model)
    parser.add_argument("--audio", type=Path, default=FOLDER, help="folder of WAV files")
    parser.add_argument("--json", type=Path, help="file for the result")
    options = parser.parse_args(arguments)
    measures: dict[str, Callable[[], Figures]] = {
        "transformers": measure_transformers,
        "whisperspeech": measure_whisperspeech,
        "faster_whisper": lambda: measure_faster_whisper(options.whisper_model, options.audio),
    }
    if unknown := set(options.parts) - set(measures):
        parser.error(f"there is no {unknown.pop()} among {', '.join(measures)}")
    if not torch.cuda.is_available():
        parser.error("PyTorch finds no GPU here")
    result: dict[str, object] = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
    }
    print(*result.values())
    for part in options.parts:
        print(part)
        figures = measures[part]()
        result[part] = figures
        for name, value in figures.items():
            print(f"  {value:8.4g} {name}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
