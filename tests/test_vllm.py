"""The language model on vLLM, against the recorded interface of 0.24.0."""

from __future__ import annotations

import importlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from fusion.errors import ConfigurationError, ModelError
from fusion.models.gpu_llms import GPU_LLMS, ROOM, best_for
from fusion.selection import Gpu
from fusion.settings import Settings
from language_models.base import Cancellation, ChatMessage, Finish, GenerationRequest
from language_models.chat_template import without_system
from tests.contracts import vllm_engine
from tests.contracts.vllm_engine import STORY, World
from tests.language_model_contract import LanguageModelContract, conversation, read

SETTINGS = Settings(vllm_model="microsoft/Phi-4-mini-instruct", max_clients=2, reply_timeout=6.0)
HELLO = (ChatMessage("user", "Hello"),)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return vllm_engine.install(monkeypatch)


@pytest.fixture
def library(world: World, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module under test, imported over the stand-in."""
    for name in ("VLLM_ENABLE_V1_MULTIPROCESSING", "VLLM_NO_USAGE_STATS", "DO_NOT_TRACK"):
        monkeypatch.setenv(name, "1")
    monkeypatch.delenv("VLLM_NO_USAGE_STATS")
    monkeypatch.delitem(sys.modules, "language_models.vllm", raising=False)
    module = importlib.import_module("language_models.vllm")
    monkeypatch.setitem(sys.modules, "language_models.vllm", module)
    return module


@pytest.fixture
def model(library: ModuleType) -> Iterator[Any]:
    loaded = library.load(SETTINGS)
    yield loaded
    loaded.close()


def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


class TestContract(LanguageModelContract):
    library = "vllm"


# -- loading ---------------------------------------------------------------------------------------


def test_it_stays_in_this_process_and_tells_nobody(library: ModuleType) -> None:
    assert os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
    assert os.environ["VLLM_NO_USAGE_STATS"] == "1"


def test_the_engine_is_made_as_the_settings_say(library: ModuleType, world: World) -> None:
    settings = Settings(
        vllm_model="/models/awq", max_clients=8, llm_gpu_share=0.3, torch_compile=False
    )
    library.load(settings).close()
    assert world.arguments == {
        "model": "/models/awq",
        "max_model_len": settings.prompt_tokens(tools=True) + settings.max_new_tokens,
        "max_num_seqs": 16,
        "gpu_memory_utilization": 0.3,
        "enable_prefix_caching": True,
        "scheduling_policy": "priority",
        "disable_log_stats": True,
        "enforce_eager": True,
    }
    assert world.down


@pytest.mark.parametrize(
    "error",
    [
        OSError("nobody/nothing is not a local folder\nand is not a valid model identifier"),
        ValueError("Free memory on device (3.1/24.0 GiB) is less than desired"),
        RuntimeError("CUDA out of memory. Tried to allocate 14.00 GiB"),
        ImportError("libcudart.so.13: cannot open shared object file"),
        AssertionError("Error in memory profiling. Initial free memory 46.59 GiB"),
    ],
)
def test_what_vllm_refuses_is_one_sentence(
    library: ModuleType, world: World, error: Exception
) -> None:
    world.refusal = error
    with pytest.raises(ConfigurationError) as refused:
        library.load(SETTINGS)
    sentence = str(refused.value)
    assert str(error).split("\n", maxsplit=1)[0] in sentence
    assert "\n" not in sentence
    assert "--vllm_model" in sentence


def test_the_cause_is_told_and_not_what_came_of_it(library: ModuleType, world: World) -> None:
    try:
        raise RuntimeError("Engine core initialization failed.") from ValueError("No room.")
    except RuntimeError as error:
        world.refusal = error
    with pytest.raises(ConfigurationError, match=r"here \(No room.\): name"):
        library.load(SETTINGS)


def test_a_model_without_a_chat_template_is_refused(library: ModuleType, world: World) -> None:
    world.tokenizer.chat_template = None
    with pytest.raises(ConfigurationError, match="has no chat template"):
        library.load(SETTINGS)


def test_by_itself_it_takes_what_the_card_has_room_for(
    library: ModuleType, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "first_gpu", lambda: Gpu("RTX 4090", (8, 9), 24.0))
    loaded = library.load(Settings())
    loaded.close()
    assert world.arguments["model"] == "microsoft/Phi-4-mini-instruct"
    assert loaded.name == "vllm: Phi-4-mini-instruct"
    monkeypatch.setattr(library, "first_gpu", lambda: None)
    with pytest.raises(ConfigurationError, match="needs an NVIDIA GPU"):
        library.load(Settings())


@pytest.mark.parametrize(
    ("memory", "share", "name"),
    [
        (8, 0.5, "Qwen/Qwen2.5-0.5B-Instruct"),
        (12, 0.5, "Qwen/Qwen2.5-1.5B-Instruct"),
        (24, 0.5, "microsoft/Phi-4-mini-instruct"),
        (48, 0.5, "Qwen/Qwen2.5-7B-Instruct"),
        (80, 0.5, "Qwen/Qwen2.5-14B-Instruct"),
        (80, 0.2, "microsoft/Phi-4-mini-instruct"),
    ],
)
def test_each_card_has_its_model(memory: float, share: float, name: str) -> None:
    assert best_for(memory, share).name == name


def test_a_card_without_room_is_one_sentence() -> None:
    with pytest.raises(ConfigurationError, match=r"needs 3\.4 GiB, and --llm_gpu_share 0\.5 of"):
        best_for(6.0, 0.5)


def test_the_table_goes_from_small_to_large() -> None:
    assert [m.weights for m in GPU_LLMS] == sorted(m.weights for m in GPU_LLMS)
    assert ROOM > 0


# -- replies ---------------------------------------------------------------------------------------


def test_a_reply_is_the_text_piece_by_piece(model: Any, world: World) -> None:
    world.ends = True
    stream = model.stream(GenerationRequest(HELLO), Cancellation())
    pieces = []
    try:
        while True:
            pieces.append(next(stream))
    except StopIteration as end:
        assert end.value is Finish.STOP
    assert pieces == list(STORY)


def test_it_is_asked_for_as_the_request_says(model: Any, world: World) -> None:
    for temperature, top_p in ((0.0, 1.0), (0.7, 0.9)):
        request = GenerationRequest(HELLO, 5, temperature, 0.9)
        list(model.stream(request, Cancellation()))
        sampling = world.contract.made("SamplingParams.__init__")[-1].arguments
        assert sampling["max_tokens"] == 5
        assert (sampling["temperature"], sampling["top_p"]) == (temperature, top_p)
        assert sampling["output_kind"].name == "DELTA"


def test_the_engine_belongs_to_one_thread(model: Any, world: World) -> None:
    def ask() -> None:
        read(model, HELLO)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(world.threads) == 1


def test_many_are_answered_in_the_same_steps(model: Any, world: World) -> None:
    threads = [threading.Thread(target=read, args=(model, HELLO, 60)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert world.most_at_once > 1


def test_a_withdrawn_reply_is_aborted(model: Any, world: World) -> None:
    cancellation = Cancellation()
    stream = model.stream(GenerationRequest(HELLO, 800), cancellation)
    next(stream)
    assert world.running
    cancellation.request()
    eventually(lambda: not world.running)
    assert len(list(stream)) < 800
    assert len(world.contract.made("abort_request")) == 1


def test_reading_ahead_gives_way_and_stops_before_the_last_word(model: Any, world: World) -> None:
    model.prefill((ChatMessage("user", "How old is the Brooklyn Bri"),), Cancellation())
    added = world.contract.made("add_request")[-1].arguments
    assert bytes(added["prompt"]["prompt_token_ids"]) == b"<user>How old is the Brooklyn"
    assert added["priority"] > 0
    assert added["params"].max_tokens == 1
    read(model, HELLO)
    assert world.contract.made("add_request")[-1].arguments["priority"] == 0


def test_a_prompt_that_is_too_long_is_not_read_ahead(model: Any, world: World) -> None:
    model.prefill(conversation("word " * 6000), Cancellation())
    assert not world.contract.made("add_request")


def test_what_vllm_refuses_ends_that_turn_alone(
    model: Any, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def odd(prompt: str) -> str:
        raise ValueError("this prompt is odd")

    before = world.story
    world.story = odd
    with pytest.raises(ModelError, match="this prompt is odd"):
        read(model, HELLO)
    world.story = before
    assert read(model, HELLO)[0] == STORY[:12]


def test_a_lost_engine_is_told_to_everybody_and_ends_the_process(
    model: Any, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda a: ended.append(str(a.exc_value)))
    stream = model.stream(GenerationRequest(HELLO, 800), Cancellation())
    next(stream)
    world.death = RuntimeError("CUDA error: an illegal memory access was encountered")
    with pytest.raises(ModelError, match="has stopped"):
        list(stream)
    eventually(lambda: ended == ["CUDA error: an illegal memory access was encountered"])


def test_a_thought_that_the_template_opens_is_told(model: Any, world: World) -> None:
    world.tokenizer.opens_thought = True
    assert next(model.stream(GenerationRequest(HELLO), Cancellation())) == "<think>"


def test_a_template_without_a_place_for_the_system_prompt(
    library: ModuleType, world: World
) -> None:
    world.tokenizer.takes_system = False
    model = library.load(SETTINGS)
    seen: list[str] = []
    world.story = lambda prompt: seen.append(prompt) or STORY  # type: ignore[func-returns-value]
    read(model, (ChatMessage("system", "Be kind."), *HELLO))
    model.close()
    assert seen == ["<user>Be kind.\n\nHello<assistant>"]


def test_a_conversation_without_a_system_prompt_stays() -> None:
    assert without_system(HELLO) == HELLO
    alone = (ChatMessage("system", "Be kind."),)
    assert without_system(alone) == alone


def test_after_closing_nothing_is_taken(model: Any) -> None:
    model.close()
    with pytest.raises(ModelError, match="closed"):
        read(model, HELLO)
