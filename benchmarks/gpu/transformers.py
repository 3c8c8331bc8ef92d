"""transformers: a model of Phi-3-mini's size with random weights, with CUDA graphs and without."""

from __future__ import annotations

import argparse

import torch

from benchmarks.gpu.timing import Figures, seconds

_PROMPT = 200
_TOKENS = 50


def measure(_: argparse.Namespace) -> Figures:
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
