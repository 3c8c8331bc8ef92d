"""The language model on TensorRT-LLM: its replies, together and apart."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import json
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from fusion.errors import ModelError
from fusion.settings import Settings
from language_models.base import Cancellation, ChatMessage, GenerationRequest
from tests.contracts.executor import Player, Script
from tests.language_model_contract import LanguageModelContract
from tests.tensorrt_language_model.conftest import (
    HELLO,
    PHI_3_END,
    answer,
    eventually,
    tokens,
    write_engine,
)

# -- one reply ------------------------------------------------------------------------------------


def test_a_request_is_what_the_executor_takes(model: Any, player: Player) -> None:
    player.scripts.append(Script(tokens("Hi")))
    answer(model, max_tokens=40)
    (call,) = player.contract.made("Executor.enqueue_request")
    request = call.arguments["request"]
    assert bytes(request.input_token_ids).decode() == "<|user|>\nHello<|end|>\n<|assistant|>"
    assert request.max_new_tokens == 40
    assert request.streaming is True
    assert request.end_id == PHI_3_END
    assert request.stop_words == [[32000], [32001], [32010]]
    assert request.output_config.exclude_input_from_output is True
    assert vars(request.sampling_config) == {"beam_width": 1, "top_k": 1}


def test_sampling_is_asked_for_with_a_seed_of_its_own(model: Any, player: Player) -> None:
    player.scripts.extend([Script(tokens("Hi")), Script(tokens("Hi"))])
    answer(model, temperature=0.7, top_p=0.9)
    answer(model, temperature=0.7, top_p=0.9)
    one, other = (
        call.arguments["request"].sampling_config
        for call in player.contract.made("Executor.enqueue_request")
    )
    assert (one.temperature, one.top_p) == (0.7, 0.9)
    assert one.random_seed != other.random_seed


def test_no_reply_is_longer_than_the_engine_allows(model: Any, player: Player) -> None:
    player.scripts.append(Script(tokens("Hi")))
    answer(model, max_tokens=4000)
    (call,) = player.contract.made("Executor.enqueue_request")
    assert call.arguments["request"].max_new_tokens == 200


def test_a_prompt_that_does_not_fit_is_a_model_error(model: Any, player: Player) -> None:
    long = GenerationRequest((ChatMessage("user", "word " * 300),))
    with pytest.raises(ModelError, match="engine takes 1024"):
        next(model.stream(long, Cancellation()))
    assert not player.contract.made("Executor.enqueue_request")


def test_text_comes_in_whole_characters_without_the_end_token(model: Any, player: Player) -> None:
    player.scripts.append(Script([*tokens("Süß 👋🏽!"), [PHI_3_END]]))
    pieces = answer(model)
    assert "".join(pieces) == "Süß 👋🏽!"
    assert len(pieces) == len("Süß 👋🏽!")


def test_a_character_that_was_cut_off_is_not_sent(model: Any, player: Player) -> None:
    player.scripts.append(Script([*tokens("Hi"), [0xF0], [0x9F]]))
    assert "".join(answer(model)) == "Hi"


def test_phi_2_ends_where_it_begins_another_instruction(
    library: ModuleType, settings: Settings, player: Player
) -> None:
    model = library.load(dataclasses.replace(settings, phi_model_type="phi-2"))
    written = " Fine.\nInstruct: And you?\nOutput: Well."
    player.scripts.append(Script(tokens(written), held_from=len(" Fine.\nInstruct:")))
    assert "".join(answer(model)) == " Fine."
    assert [c.arguments["id"] for c in player.contract.made("Executor.cancel_request")] == [1]
    model.close()


def test_a_colon_that_never_comes_leaves_the_text_whole(
    library: ModuleType, settings: Settings, player: Player
) -> None:
    model = library.load(dataclasses.replace(settings, phi_model_type="phi-2"))
    player.scripts.append(Script(tokens("I can Instruct")))
    assert "".join(answer(model)) == "I can Instruct"
    model.close()


def test_tokens_are_counted_over_the_whole_prompt(model: Any) -> None:
    prompt = "<|system|>\nBe brief.<|end|>\n<|user|>\nHello<|end|>\n<|assistant|>"
    assert model.count_tokens((ChatMessage("system", "Be brief."), *HELLO)) == len(prompt)


# -- several replies ------------------------------------------------------------------------------


def test_replies_run_together_and_do_not_mix(model: Any, player: Player) -> None:
    texts = [letter * 20 for letter in "abcd"]
    together = threading.Event()
    player.scripts.extend(Script(tokens(t), held_from=1, release=together) for t in texts)
    with ThreadPoolExecutor(4) as pool:
        replies = [pool.submit(answer, model) for _ in texts]
        eventually(lambda: player.most_at_once == 4)
        together.set()
        assert sorted("".join(r.result(timeout=10)) for r in replies) == texts


def test_a_slow_reply_holds_up_no_other(model: Any, player: Player) -> None:
    player.scripts.extend([Script(tokens("ab"), held_from=1), Script(tokens("cd"))])
    slow = model.stream(GenerationRequest(HELLO), Cancellation())
    assert next(slow) == "a"
    assert "".join(answer(model)) == "cd"
    slow.close()


def test_a_response_that_comes_before_its_request_is_known_is_not_lost(
    model: Any, player: Player
) -> None:
    player.enqueue_seconds = 0.3
    player.scripts.append(Script(tokens("Hi")))
    assert "".join(answer(model)) == "Hi"


def test_one_thread_alone_reads(model: Any, player: Player) -> None:
    player.scripts.extend([Script(tokens("ab")), Script(tokens("cd"))])
    answer(model)
    answer(model)
    readers = {call.thread for call in player.contract.made("Executor.await_responses")}
    assert len(readers) == 1
    assert threading.get_ident() not in readers


# -- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [[], tokens("Well")])
def test_an_error_is_told_and_its_result_never_touched(
    model: Any, player: Player, pieces: list[list[int]]
) -> None:
    player.scripts.append(Script(pieces, error="out of cache blocks"))
    with pytest.raises(ModelError, match="out of cache blocks"):
        answer(model)
    player.scripts.append(Script(tokens("ok")))
    assert "".join(answer(model)) == "ok"


@pytest.mark.parametrize("on_cancel", ["final", "silent"])
def test_a_cancelled_reply_ends_at_once(model: Any, player: Player, on_cancel: Any) -> None:
    player.scripts.append(Script(tokens("abc"), on_cancel=on_cancel, held_from=1))
    cancellation = Cancellation()
    reply = model.stream(GenerationRequest(HELLO), cancellation)
    assert next(reply) == "a"
    threading.Timer(0.1, cancellation.request).start()
    begun = time.monotonic()
    assert list(reply) == []
    assert time.monotonic() - begun < 2.0
    assert [c.arguments["id"] for c in player.contract.made("Executor.cancel_request")] == [1]


def test_a_cancellation_before_the_first_token_is_not_missed(model: Any, player: Player) -> None:
    player.scripts.append(Script(tokens("abc")))
    cancellation = Cancellation()
    cancellation.request()
    assert answer(model, cancellation) == []


@pytest.mark.parametrize("on_cancel", ["final", "silent"])
def test_nothing_is_kept_of_a_cancelled_request(
    library: ModuleType,
    model: Any,
    player: Player,
    on_cancel: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(library, "CANCEL_DEADLINE", 0.3)
    player.scripts.append(Script(tokens("abc"), on_cancel=on_cancel, held_from=1))
    reply = model.stream(GenerationRequest(HELLO), Cancellation())
    next(reply)
    reply.close()
    eventually(lambda: not model._replies._replies)
    unanswered = "did not answer its cancellation" in caplog.text
    assert unanswered is (on_cancel == "silent")


def test_a_finished_reply_is_not_cancelled(model: Any, player: Player) -> None:
    player.scripts.append(Script(tokens("Hi")))
    answer(model)
    assert not player.contract.made("Executor.cancel_request")


def test_no_progress_is_an_error(library: ModuleType, settings: Settings, player: Player) -> None:
    model = library.load(dataclasses.replace(settings, reply_timeout=0.3))
    player.scripts.append(Script(tokens("abc"), held_from=1))
    with pytest.raises(ModelError, match=r"no progress for 0\.3 s"):
        answer(model)
    assert player.contract.made("Executor.cancel_request")
    model.close()


def test_when_the_executor_dies_every_reply_says_so_and_the_process_ends(
    model: Any, player: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", ended.append)  # as fusion/child_process.py does
    player.scripts.append(Script(tokens("abc"), held_from=1))
    reply = model.stream(GenerationRequest(HELLO), Cancellation())
    next(reply)
    player.death = "CUDA error"
    with pytest.raises(ModelError, match="CUDA error"):
        list(reply)
    with pytest.raises(ModelError, match="CUDA error"):
        answer(model)
    eventually(lambda: ended)
    assert str(ended[0].exc_value) == "CUDA error"


def test_closing_ends_what_runs_and_shuts_down_once(model: Any, player: Player) -> None:
    player.scripts.append(Script(tokens("abc"), held_from=1))
    reply = model.stream(GenerationRequest(HELLO), Cancellation())
    next(reply)
    model.close()
    model.close()
    with pytest.raises(ModelError, match="closed"):
        list(reply)
    assert len(player.contract.made("Executor.shutdown")) == 1


# -- with the real tokenizer library --------------------------------------------------------------


@pytest.mark.torch
def test_a_tokenizer_folder_is_read_by_transformers(
    player: Player, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = Tokenizer(models.BPE(byte_vocabulary(), []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    folder = Path(settings.phi_tokenizer_path)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"})
    )
    monkeypatch.delitem(sys.modules, "language_models.tensorrt_llm", raising=False)
    module = importlib.import_module("language_models.tensorrt_llm")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    model = module.load(settings)
    reply = "Well , it 's fine 👋🏽"
    player.scripts.append(Script([[token] for token in tokenizer.encode(reply).ids]))
    assert "".join(answer(model)) == reply
    model.close()
    (call,) = player.contract.made("Executor.enqueue_request")
    prompt = "<|user|>\nHello<|end|>\n<|assistant|>"
    assert call.arguments["request"].input_token_ids == tokenizer.encode(prompt).ids


def byte_vocabulary() -> dict[str, int]:
    return {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}


# -- the stand-in itself --------------------------------------------------------------------------


def test_the_stand_in_refuses_what_the_real_library_does_not_have(player: Player) -> None:
    trt = sys.modules["tensorrt_llm.bindings.executor"]
    with pytest.raises(TypeError, match="max_tokens"):
        trt.Request(input_token_ids=[1], max_new_tokens=3, max_tokens=3)
    with pytest.raises(TypeError, match="input_token_ids"):
        trt.Request(input_token_ids=["a"], max_new_tokens=3)
    with pytest.raises(AttributeError):
        trt.Executor("x", trt.ModelType.DECODER_ONLY, trt.ExecutorConfig()).abort(1)
    with pytest.raises(AttributeError):
        _ = trt.ModelType.ENCODER_DECODER


# -- reading the prompt while the person speaks ---------------------------------------------------


@pytest.fixture
def keeping(library: ModuleType, settings: Settings) -> Iterator[Any]:
    """A model on an engine that was built with paged context."""
    write_engine(Path(settings.phi_tensorrt_path), plugin_config={"use_paged_context_fmha": True})
    loaded = library.load(settings)
    yield loaded
    loaded.close()


def test_a_prompt_is_read_by_a_request_of_one_token(keeping: Any, player: Player) -> None:
    player.scripts.append(Script([[65]]))
    keeping.prefill((ChatMessage("user", "How old is the Brooklyn Bri"),), Cancellation())
    [request] = player.contract.made("Request.__init__")
    read = bytes(request.arguments["input_token_ids"]).decode()
    assert read.endswith("How old is the Brooklyn")
    assert request.arguments["max_new_tokens"] == 1
    [cache] = player.contract.made("KvCacheConfig.__init__")
    assert cache.arguments["enable_block_reuse"] is True


def test_reading_ends_with_its_cancellation(keeping: Any, player: Player) -> None:
    player.scripts.append(Script([[65]], held_from=0))
    cancellation = Cancellation()
    reading = threading.Thread(target=keeping.prefill, args=(HELLO, cancellation))
    reading.start()
    eventually(lambda: player.contract.made("enqueue_request"))
    cancellation.request()
    reading.join(5)
    assert not reading.is_alive()
    assert player.contract.made("cancel_request")


def test_a_prompt_that_does_not_fit_is_not_read(keeping: Any, player: Player) -> None:
    keeping.prefill((ChatMessage("user", "word " * 6000),), Cancellation())
    assert not player.contract.made("Request.__init__")


def test_an_engine_without_paged_context_reads_nothing(model: Any, player: Player) -> None:
    model.prefill(HELLO, Cancellation())
    assert not player.contract.made("Request.__init__")
    [cache] = player.contract.made("KvCacheConfig.__init__")
    assert cache.arguments["enable_block_reuse"] is False


class TestContract(LanguageModelContract):
    library = "tensorrt_llm"

    @pytest.fixture(autouse=True)
    def engine(self, player: Player) -> None:
        """An engine that tells a story as long as it may, letter by letter."""

        def story(request: Any) -> Script:
            letters = itertools.cycle(b"Once upon a time a king built a bridge. ")
            return Script([[next(letters)] for _ in range(request.max_new_tokens)])

        player.otherwise = story
