"""vLLM: replies for many people at once, as the language model's service asks for them."""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.figures import median
from benchmarks.gpu.timing import Figures
from fusion.models import lookup
from fusion.settings import Settings
from language_models.base import Cancellation, ChatMessage, GenerationRequest

_TOKENS = 50
_EIGHTH = 8
_PEOPLE = (1, 8, 32, 64)
_TALK = "Tell me more about the bridge, the river and the people who built it. " * 6


def measure(_: argparse.Namespace) -> Figures:
    """First and eighth token and all tokens a second, at a known model's size and a large one's."""
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder, "SmolLM2-135M"), Path(folder, "Phi-3-mini-size")
        _write_models(small, large)
        for name, path, dummy in (("SmolLM2-135M", small, False), ("Phi-3 size", large, True)):
            # An engine that is gone leaves memory behind: each has a process of its own.
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                found = pool.submit(_figures, path, dummy=dummy).result()
            figures |= {f"{name}: {k}": v for k, v in found.items()}
    return figures


def _write_models(small: Path, large: Path) -> None:
    """The smallest model of the table as a folder, and a model of Phi-3-mini's size: no weights."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, Phi3Config

    gguf = lookup.fetch("smollm2-135m", Settings().cache_folder)
    where = {"gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **where)
    quantised = AutoModelForCausalLM.from_pretrained(gguf.parent, **where)
    del quantised.config.quantization_config  # its weights are no longer
    model = AutoModelForCausalLM.from_config(quantised.config, dtype=torch.bfloat16)
    model.load_state_dict(quantised.state_dict())
    model.save_pretrained(small)
    tokenizer.save_pretrained(small)
    config = Phi3Config(
        vocab_size=len(tokenizer),
        sliding_window=None,
        architectures=["Phi3ForCausalLM"],
        dtype="bfloat16",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=0,
    )
    config.save_pretrained(large)
    tokenizer.save_pretrained(large)


def _figures(path: Path, *, dummy: bool) -> Figures:
    from language_models import vllm

    if dummy:
        vllm.EngineArgs = functools.partial(vllm.EngineArgs, load_format="dummy")
    settings = Settings(vllm_model=str(path), max_clients=max(_PEOPLE), llm_gpu_share=0.4)
    began = time.perf_counter()
    model = vllm.load(settings)
    model.warm_up()
    figures = {"s to load": time.perf_counter() - began}
    for people in _PEOPLE:
        figures |= _talk(model, people, settings.system_prompt)
    model.close()
    return figures


def _talk(model: Any, people: int, system: str) -> Figures:
    """So many people, each with a conversation of their own, ask at once."""
    times: list[list[float]] = [[] for _ in range(people)]

    def ask(number: int) -> None:
        said = (ChatMessage("system", system), ChatMessage("user", f"{number}. {_TALK}"))
        began = time.perf_counter()
        for _ in model.stream(GenerationRequest(said, _TOKENS), Cancellation()):
            times[number].append(time.perf_counter() - began)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(people)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = time.perf_counter() - began
    firsts = [own[0] for own in times if own]
    eighths = [own[_EIGHTH - 1] for own in times if len(own) >= _EIGHTH]
    return {
        f"ms to the first piece, {people} at once": 1000 * (median(firsts) or 0.0),
        f"ms to the eighth, {people} at once": 1000 * (median(eighths) or 0.0),
        f"pieces/s of all, {people} at once": sum(map(len, times)) / taken,
    }
