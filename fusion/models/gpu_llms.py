"""The language models for a GPU, from small to large, and which one a card has room for. Pure.

`weights` is what the files on the hub hold, in GiB at 16 bits, as their pages say. A model takes
that, its cache and what vLLM captures for its steps: `ROOM` beside the weights is enough for eight
conversations of a thousand tokens of the largest.
"""

from __future__ import annotations

from dataclasses import dataclass

from fusion.errors import ConfigurationError

ROOM = 2.5
"""GiB beside the weights."""


@dataclass(frozen=True)
class GpuLlm:
    """A model of the Hugging Face hub. `weights` in GiB."""

    name: str
    licence: str
    weights: float


GPU_LLMS = (
    GpuLlm("Qwen/Qwen2.5-0.5B-Instruct", "Apache-2.0", 0.9),
    GpuLlm("Qwen/Qwen2.5-1.5B-Instruct", "Apache-2.0", 2.9),
    GpuLlm("microsoft/Phi-4-mini-instruct", "MIT", 7.2),
    GpuLlm("Qwen/Qwen2.5-7B-Instruct", "Apache-2.0", 14.2),
    GpuLlm("Qwen/Qwen2.5-14B-Instruct", "Apache-2.0", 27.5),
)


def best_for(memory: float, share: float) -> GpuLlm:
    """Return the largest model that fits a share of a card's memory, in GiB.

    Raises ConfigurationError where not even the smallest does.
    """
    fitting = [model for model in GPU_LLMS if model.weights + ROOM <= share * memory]
    if not fitting:
        needed = GPU_LLMS[0].weights + ROOM
        raise ConfigurationError(
            f"The language model needs {needed:.1f} GiB, and --llm_gpu_share {share:g} of the "
            f"GPU's {memory:.0f} GiB is {share * memory:.1f}: give it a larger share, or take "
            "--llm_backend llama_cpp."
        )
    return fitting[-1]
