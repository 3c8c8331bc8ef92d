"""The model servers that a person runs already: who they are, and which model is taken."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion import model_servers
from fusion.checks import check_addresses
from fusion.errors import ConfigurationError
from fusion.model_servers import ModelServer, Place, find, seems_to_chat, usual_places
from fusion.models import lookup
from fusion.selection import Machine, choose, discoverable, with_server
from fusion.settings import Settings
from tests.model_servers import (
    EMBEDDER,
    Get,
    Model,
    StandIn,
    llama_cpp,
    lm_studio,
    old_lm_studio,
    ollama,
    vllm,
)
from tests.running import free_ports

PROBES = {place.product: place.probe for place in usual_places({})}
KINDS = (
    ("Ollama", ollama),
    ("LM Studio", lm_studio),
    ("LM Studio", old_lm_studio),
    ("llama.cpp", llama_cpp),
    ("vLLM", vllm),
)
LAPTOP = Machine(None, frozenset({"faster_whisper", "xllamacpp", "piper"}))


def place(product: str, server: StandIn) -> Place:
    return Place(product, server.base, PROBES[product])


@pytest.mark.parametrize(("product", "kind"), KINDS)
def test_each_is_known_by_what_it_answers(product: str, kind: Get) -> None:
    with StandIn(kind, (EMBEDDER, Model("qwen3:4b"))) as server:
        found = find([place(product, server)])
    assert found is not None
    assert (found.product, found.url, found.model) == (product, f"{server.base}/v1", "qwen3:4b")


@pytest.mark.parametrize(("product", "kind"), KINDS)
def test_nobody_is_taken_for_another(product: str, kind: Get) -> None:
    with StandIn(kind) as server:
        others = [place(other, server) for other in PROBES if other != product]
        assert [find([each]) for each in others] == [None, None, None]


@pytest.mark.parametrize("product", PROBES)
def test_an_open_port_is_nobody(product: str) -> None:
    with StandIn(lambda server, path: {"status": "ok", "version": "", "models": []}) as server:
        assert find([place(product, server)]) is None
    assert find([place(product, server)]) is None  # it was stopped: nobody listens


@pytest.mark.parametrize(("product", "kind"), KINDS)
def test_an_embedding_model_is_never_taken(product: str, kind: Get) -> None:
    with StandIn(kind, (EMBEDDER,)) as server:
        assert find([place(product, server)]) == ModelServer(product, f"{server.base}/v1")


@pytest.mark.parametrize(("product", "kind"), KINDS[:3])
def test_the_model_that_is_in_memory_comes_first(product: str, kind: Get) -> None:
    loaded = replace(EMBEDDER, loaded=True)
    models = (loaded, Model("llama3.2:3b"), Model("qwen3:4b", loaded=True))
    with StandIn(kind, models) as server:
        found = find([place(product, server)])
    assert found is not None
    assert (found.model, found.loaded) == ("qwen3:4b", True)


def test_a_model_that_ollama_has_in_its_cloud_is_never_taken() -> None:
    models = (Model("gpt-oss:120b-cloud", loaded=True), Model("mine", remote=True))
    with StandIn(ollama, models) as server:
        found = find([place("Ollama", server)])
    assert found is not None
    assert found.model == ""


def test_of_two_servers_the_one_with_a_model_in_memory_is_taken() -> None:
    with StandIn(ollama) as first, StandIn(lm_studio, (Model("phi-4", loaded=True),)) as second:
        found = find([place("Ollama", first), place("LM Studio", second)])
    assert found is not None
    assert (found.product, found.model) == ("LM Studio", "phi-4")


def test_one_that_does_not_answer_holds_up_nothing() -> None:
    with StandIn(ollama, delay=30.0) as slow, StandIn(vllm, (Model("Qwen/Qwen3"),)) as server:
        began = time.monotonic()
        found = find([place("Ollama", slow), place("vLLM", server)])
        took = time.monotonic() - began
    assert found is not None
    assert found.product == "vLLM"
    assert took < slow.delay / 2


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["", "llm", "loaded", "vllm"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                (
                    *("models", "data", "version", "type", "key", "state", "id", "name"),
                    *("loaded_instances", "owned_by", "capabilities"),
                    "default_generation_settings",
                )
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.sampled_from(sorted(PROBES)), st.lists(ANYTHING, min_size=1, max_size=6))
def test_whatever_it_answers_nothing_is_raised(product: str, answers: list[object]) -> None:
    left = iter(answers)

    async def ask(path: str, body: object = None) -> object:
        return next(left, {})

    probing = PROBES[product](ask)
    with pytest.raises(StopIteration) as end:
        probing.send(None)  # type: ignore[attr-defined]
    models = end.value.value
    assert models is None or all(isinstance(name, str) for name, _ in models)


@pytest.fixture
def real_llama_cpp() -> Iterator[str]:
    """llama.cpp's own server, without a key."""
    path = lookup.fetch("smollm2-135m", Settings().cache_folder)
    port = str(free_ports(1)[0])
    command = [sys.executable, "-m", "tests.llama_server", str(path), port, ""]
    process = subprocess.Popen(
        command,
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.kill()
    process.communicate(timeout=10)


def test_the_real_server_of_llama_cpp_is_found(real_llama_cpp: str) -> None:
    found = find([Place("llama.cpp", real_llama_cpp, PROBES["llama.cpp"])])
    assert found is not None
    assert found.loaded
    assert "SmolLM2" in found.model
    assert find([Place("Ollama", real_llama_cpp, PROBES["Ollama"])]) is None


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("", 11434),
        ("127.0.0.1", 11434),
        ("0.0.0.0:11500", 11500),
        (":11500", 11500),
        ("http://192.168.0.7:8080", 8080),
        ("[::1", 11434),
        ("host:port", 11434),
    ],
)
def test_ollama_is_looked_for_at_its_own_port_of_this_machine(host: str, port: int) -> None:
    assert usual_places({"OLLAMA_HOST": host})[0].base == f"http://127.0.0.1:{port}"


def test_the_usual_places_are_on_this_machine() -> None:
    assert {each.base for each in usual_places({})} == {
        *("http://127.0.0.1:11434", "http://127.0.0.1:1234"),
        *("http://127.0.0.1:8080", "http://127.0.0.1:8000"),
    }


@pytest.mark.parametrize("name", ["bge-m3", "text-embedding-3", "all-minilm:22m", "Qwen3-Reranker"])
def test_names_of_models_that_do_not_chat(name: str) -> None:
    assert not seems_to_chat(name)
    assert seems_to_chat("qwen3:4b")
    assert seems_to_chat("/home/me/.cache/whisperfusion/llm/SmolLM2.gguf")


# -- what is chosen --------------------------------------------------------------------------------

SERVER = ModelServer("Ollama", "http://127.0.0.1:11434/v1", "qwen3:4b")
WITH_OLLAMA = replace(LAPTOP, server=SERVER)


def test_a_server_that_was_found_is_taken_and_named() -> None:
    choice = choose(Settings(), WITH_OLLAMA)
    assert choice.language_model.library == "openai_api"
    assert choice.lines(Settings())[1] == (
        "language model: openai_api with qwen3:4b at http://127.0.0.1:11434/v1, as Ollama runs "
        "here (--no-discover leaves it alone)"
    )
    settings = with_server(Settings(), choice, WITH_OLLAMA)
    assert (settings.openai_url, settings.openai_model) == (SERVER.url, "qwen3:4b")


@pytest.mark.parametrize(
    "told",
    [
        {"discover": False},
        {"llm": "smollm2-135m"},
        {"llm_backend": "llama_cpp"},
        {"openai_url": "http://elsewhere:8000/v1"},
        {"vllm_model": "mine"},
        {"phi": True},
    ],
)
def test_who_names_something_else_has_it(told: dict[str, object]) -> None:
    assert not discoverable(replace(Settings(), **told), LAPTOP)  # type: ignore[arg-type]
    assert discoverable(Settings(), LAPTOP)


def test_refused_it_is_left_alone() -> None:
    settings = Settings(discover=False)
    choice = choose(settings, WITH_OLLAMA)
    assert choice.language_model.library == "llama_cpp"
    assert with_server(settings, choice, WITH_OLLAMA) == settings


def test_a_server_without_a_model_is_told_of() -> None:
    machine = replace(LAPTOP, server=replace(SERVER, model=""))
    choice = choose(Settings(), machine)
    assert choice.language_model.library == "llama_cpp"
    assert choice.language_model.reason.endswith(f"Ollama at {SERVER.url} has no model that chats")
    assert with_server(Settings(), choice, machine) == Settings()


def test_a_model_that_was_named_is_asked_of_the_server_that_was_found() -> None:
    settings = Settings(openai_model="gemma3:4b")
    choice = choose(settings, WITH_OLLAMA)
    assert with_server(settings, choice, WITH_OLLAMA).openai_model == "gemma3:4b"
    check_addresses(with_server(settings, choice, WITH_OLLAMA), choice)
    with pytest.raises(ConfigurationError, match=r"gemma3:4b is the model of a server, and there"):
        check_addresses(settings, choose(settings, LAPTOP))


def test_the_tests_look_for_nobody() -> None:
    """A server that happens to run where the tests do must change nothing in them."""
    from fusion.command_line import parse

    assert parse([]).discover is False
    assert model_servers.PATIENCE <= 2
