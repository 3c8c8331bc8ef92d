"""How fast the models of a GPU host are, each alone, with what it is compared to in the same run.

    python -m benchmarks.gpu [vllm] [whisperspeech] [faster_whisper] [--json FILE]

vLLM: SmolLM2-135M with its real weights, and a model of Phi-3-mini's size with random ones.
WhisperSpeech: models of the published sizes with random weights, many at once, and the library's
own compiled `generate`. Random weights take as long as real ones; what they say means nothing.
faster-whisper: `--whisper_model` (fetched) on the recordings of `--audio`, in batches and one by
one.
"""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.gpu.timing import Figures
from fusion.settings import Settings
from tests.recordings import FOLDER


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Speed of each model on this GPU.")
    names = ("vllm", "whisperspeech", "faster_whisper")
    parser.add_argument("parts", nargs="*", default=names, help=f"of {', '.join(names)}")
    parser.add_argument("--whisper_model", default=Settings().whisper_model)
    parser.add_argument("--audio", type=Path, default=FOLDER, help="folder of WAV files")
    parser.add_argument("--json", type=Path, help="file for the result")
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(names):
        parser.error(f"there is no {unknown.pop()} among {', '.join(names)}")
    if not torch.cuda.is_available():
        parser.error("PyTorch finds no GPU here")
    result: dict[str, object] = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
    }
    print(*result.values())
    for part in options.parts:
        print(part)
        figures: Figures = importlib.import_module(f"benchmarks.gpu.{part}").measure(options)
        result[part] = figures
        for name, value in figures.items():
            print(f"  {value:8.4g} {name}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
