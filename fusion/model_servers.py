"""Finds the language model server that a person already runs on this machine.

Each is known by what it alone answers, never by an open port. Nobody else is asked: 127.0.0.1 only,
and no model that its server would pass on to a computer elsewhere.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

PATIENCE = 1.5
"""Seconds for all that is asked of one server; where nobody listens it takes a millisecond."""

LONGEST_ANSWER = 4 << 20
"""Bytes. A list of models has some thousand."""

MOST_SHOWN = 20
"""Models of Ollama that are asked whether they chat."""

# Parts of the names of models that do not chat.
_NO_CHAT = ("embed", "rerank", "bge-", "e5-", "minilm", "clip", "whisper", "tts")

Ask = Callable[..., Awaitable[Any]]
"""Asks a path, with a body to POST if one is given; returns the JSON of the answer, {} for none."""


@dataclass(frozen=True)
class ModelServer:
    """A server that was found, the address of its OpenAI API, and its model for conversation.

    `model` is empty where it has none that chats; `loaded` whether that is in memory already.
    """

    product: str
    url: str
    model: str = ""
    loaded: bool = False


@dataclass(frozen=True)
class Place:
    """Where to look for a server: `base` as http://127.0.0.1:1234, and what to ask it.

    `probe` returns its models that chat as (name, loaded), or None where it is another program.
    """

    product: str
    base: str
    probe: Callable[[Ask], Awaitable[list[tuple[str, bool]] | None]]


def seems_to_chat(name: str) -> bool:
    """Whether a model is one for conversation, as far as its own name tells, not its folders'."""
    own = name.lower().rpartition("/")[2]
    return not any(part in own for part in _NO_CHAT)


def find(places: Sequence[Place] | None = None) -> ModelServer | None:
    """Look at all places at once, and return the best server: its model is loaded, else it has one.

    Takes `PATIENCE` at most. None where there is none; one without a model where that is all.
    """

    async def look() -> list[ModelServer | None]:
        import httpx  # not needed by who is told which model to take

        timeout = httpx.Timeout(PATIENCE)
        # No proxy: it would be asked for its own 127.0.0.1.
        async with httpx.AsyncClient(timeout=timeout, trust_env=False) as client:
            looks = (_look(client, place) for place in places or usual_places(os.environ))
            return await asyncio.gather(*looks)

    found = [server for server in asyncio.run(look()) if server is not None]
    return min(found, key=lambda server: (not server.model, not server.loaded), default=None)


def usual_places(environment: Mapping[str, str]) -> tuple[Place, ...]:
    """The four servers' own ports; Ollama's is where its variable OLLAMA_HOST says."""
    return (
        Place("Ollama", f"http://127.0.0.1:{_ollama_port(environment)}", _ollama),
        Place("LM Studio", "http://127.0.0.1:1234", _lm_studio),
        Place("llama.cpp", "http://127.0.0.1:8080", _llama_cpp),
        Place("vLLM", "http://127.0.0.1:8000", _vllm),
    )


def _ollama_port(environment: Mapping[str, str]) -> int:
    """As Ollama reads it: a host, a port or both. Another machine's server is not looked at."""
    host = environment.get("OLLAMA_HOST", "").strip()
    try:
        parts = urlsplit(host if "://" in host else f"http://{host}")
        return parts.port or 11434
    except ValueError:
        return 11434


async def _look(client: Any, place: Place) -> ModelServer | None:
    import httpx

    async def ask(path: str, body: object = None) -> Any:
        method = "GET" if body is None else "POST"
        async with client.stream(method, f"{place.base}{path}", json=body) as answer:
            content = b""
            async for block in answer.aiter_bytes():
                content += block
                if len(content) > LONGEST_ANSWER:
                    return {}
            if answer.status_code != httpx.codes.OK:
                return {}
            try:
                return httpx.Response(200, content=content).json()
            except (ValueError, RecursionError):
                return {}

    try:
        models = await asyncio.wait_for(place.probe(ask), PATIENCE)
    except (httpx.HTTPError, asyncio.TimeoutError, ValueError):
        return None
    if models is None:
        return None
    name, loaded = min(models, key=lambda model: not model[1], default=("", False))
    return ModelServer(place.product, f"{place.base}/v1", name, loaded)


async def _ollama(ask: Ask) -> list[tuple[str, bool]] | None:
    """Ollama alone tells its version and its tags; each model says what it is capable of."""
    version, tags = await ask("/api/version"), await ask("/api/tags")
    if not (_text(version, "version") and isinstance(_field(tags, "models"), list)):
        return None
    running = {_text(model, "name") for model in _items(await ask("/api/ps"), "models")}
    # Ollama passes some on to its cloud: nothing that is said here leaves this machine unasked.
    names = [
        _text(model, "name")
        for model in _items(tags, "models")
        if not (_field(model, "remote_host") or _text(model, "name").endswith("cloud"))
    ]
    for name in sorted(filter(None, names), key=lambda name: name not in running)[:MOST_SHOWN]:
        capabilities = _field(await ask("/api/show", {"model": name}), "capabilities")
        known = isinstance(capabilities, list)
        if "completion" in capabilities if known else seems_to_chat(name):
            return [(name, name in running)]
    return []


async def _lm_studio(ask: Ask) -> list[tuple[str, bool]] | None:
    """LM Studio's own API gives each model a type; that of before its version 0.4 a state."""
    new = _items(await ask("/api/v1/models"), "models")
    if new and all(_text(model, "type") and _text(model, "key") for model in new):
        return [
            (_instance(model) or _text(model, "key"), bool(_instance(model)))
            for model in new
            if _text(model, "type") in ("llm", "vlm")
        ]
    old = await ask("/api/v0/models")
    if not isinstance(_field(old, "data"), list):
        return None
    models = _items(old, "data")
    if not all(_text(model, "type") and _text(model, "state") for model in models):
        return None
    return [
        (_text(model, "id"), _text(model, "state") == "loaded")
        for model in models
        if _text(model, "type") in ("llm", "vlm")
    ]


def _instance(model: Mapping[str, Any]) -> str:
    """The name of a model of LM Studio that is in memory; empty while it is not."""
    return next((_text(each, "id") for each in _items(model, "loaded_instances")), "")


async def _llama_cpp(ask: Ask) -> list[tuple[str, bool]] | None:
    """llama-server tells how it generates. While it loads its model it answers nothing yet."""
    if not isinstance(_field(await ask("/props"), "default_generation_settings"), Mapping):
        return None
    answer = await ask("/v1/models")
    return _named(model for model in _items(answer, "data"))


async def _vllm(ask: Ask) -> list[tuple[str, bool]] | None:
    """vLLM tells its version, and that its models are its own."""
    if not _text(await ask("/version"), "version"):
        return None
    models = _items(await ask("/v1/models"), "data")
    if not (models and all(_text(model, "owned_by") == "vllm" for model in models)):
        return None
    return _named(models)


def _named(models: Iterable[Mapping[str, Any]]) -> list[tuple[str, bool]]:
    """Models of a server that has them all in memory and says of none what it is for."""
    names = filter(None, (_text(model, "id") for model in models))
    return [(name, True) for name in names if seems_to_chat(name)]


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else None


def _text(value: Any, name: str) -> str:
    found = _field(value, name)
    return found if isinstance(found, str) else ""


def _items(value: Any, name: str) -> list[Mapping[str, Any]]:
    found = _field(value, name)
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []
