"""`vllm` 0.24.0, telling stories instead of computing.

Each step of the engine gives every running request one more letter, as vLLM gives it a token.
"""

from __future__ import annotations

import enum
import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.contracts.contract import Contract

FILE = Path(__file__).with_name("vllm-0.24.0.json")
STORY = "Once upon a time a king built a bridge. "
STEP_SECONDS = 0.001


class ByteTokenizer:
    """Each byte is a token. Its template has a place for a system prompt unless told otherwise."""

    chat_template: str | None = "a template"
    takes_system = True
    opens_thought = False

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens
        return list(text.encode())

    def apply_chat_template(
        self,
        messages: Sequence[dict[str, str]],
        *,
        tokenize: bool,
        add_generation_prompt: bool,
        enable_thinking: bool,
    ) -> str:
        assert not tokenize and add_generation_prompt and not enable_thinking
        if messages[0]["role"] == "system" and not self.takes_system:
            raise ValueError("System role not supported")
        prompt = "".join(f"<{m['role']}>{m['content']}" for m in messages) + "<assistant>"
        return prompt + ("<think>\n" if self.opens_thought else "")


@dataclass
class _Running:
    letters: Iterator[str]
    left: int
    priority: int


class World:
    """What the stand-in does, and what was done with it."""

    def __init__(self) -> None:
        self.contract = Contract(FILE)
        self.tokenizer = ByteTokenizer()
        self.story: Callable[[str], str] = lambda prompt: STORY
        self.ends = False
        """Whether a story ends by itself, or is told again."""
        self.refusal: Exception | None = None
        self.death: Exception | None = None
        self.hangs = threading.Event()
        self.running: dict[str, _Running] = {}
        self.most_at_once = 0
        self.threads: set[int] = set()
        self.down = False

    def load(self, **arguments: Any) -> Engine:
        if self.refusal:
            raise self.refusal
        return Engine(self)

    @property
    def arguments(self) -> dict[str, Any]:
        """What the engine was made with."""
        return self.contract.made("EngineArgs.__init__")[-1].arguments


class Engine:
    def __init__(self, world: World) -> None:
        self._world = world
        self._limit = world.arguments["max_model_len"]
        self.engine_core = SimpleNamespace(shutdown=self._shut_down)
        function = world.contract.function
        self.add_request = function("vllm.LLMEngine.add_request", self._add)
        self.abort_request = function("vllm.LLMEngine.abort_request", self._abort)
        self.get_tokenizer = function("vllm.LLMEngine.get_tokenizer", lambda: world.tokenizer)

    def _add(self, request_id: str, prompt: Any, params: Any, priority: int = 0) -> str:
        world = self._world
        world.threads.add(threading.get_ident())
        ids = prompt["prompt_token_ids"]
        if len(ids) >= self._limit:
            raise ValueError(f"The prompt has {len(ids)} tokens")
        story = world.story(bytes(ids).decode())
        letters = iter(story) if world.ends else itertools.cycle(story)
        world.running[request_id] = _Running(letters, params.max_tokens, priority)
        world.most_at_once = max(world.most_at_once, len(world.running))
        return f"{request_id}-0123abcd"

    def _abort(self, request_ids: list[str], internal: bool = False) -> None:
        self._world.threads.add(threading.get_ident())
        for name in request_ids:
            self._world.running.pop(name, None)

    def step(self) -> list[Any]:
        world = self._world
        world.threads.add(threading.get_ident())
        if world.death:
            raise world.death
        while world.hangs.is_set():
            time.sleep(0.01)
        time.sleep(STEP_SECONDS)
        return [self._output(name, run) for name, run in list(world.running.items())]

    def _output(self, name: str, run: _Running) -> Any:
        letter = next(run.letters, "")
        run.left -= 1
        reason = "stop" if not letter else "length" if run.left == 0 else None
        if reason:
            del self._world.running[name]
        completion = SimpleNamespace(text=letter, finish_reason=reason)
        return SimpleNamespace(request_id=name, outputs=[completion], finished=reason is not None)

    def _shut_down(self) -> None:
        self._world.down = True


def install(monkeypatch: pytest.MonkeyPatch) -> World:
    """Put the stand-in in the place of the library."""
    world = World()
    contract = world.contract
    assert contract.attributes("vllm.RequestOutput") >= {"request_id", "outputs", "finished"}
    assert contract.attributes("vllm.CompletionOutput") >= {"text", "finish_reason"}
    kind = contract.enumeration("vllm.sampling_params.RequestOutputKind", "RequestOutputKind")

    def prompt(**fields: Any) -> dict[str, Any]:
        return contract.record("vllm.TokensPrompt", (), fields)

    module, sampling = ModuleType("vllm"), ModuleType("vllm.sampling_params")
    module.EngineArgs = contract.value_class("vllm.EngineArgs")  # type: ignore[attr-defined]
    module.SamplingParams = contract.value_class("vllm.SamplingParams")  # type: ignore[attr-defined]
    module.TokensPrompt = prompt  # type: ignore[attr-defined]
    module.LLMEngine = SimpleNamespace(  # type: ignore[attr-defined]
        from_engine_args=contract.function("vllm.LLMEngine.from_engine_args", world.load)
    )
    sampling.RequestOutputKind = kind  # type: ignore[attr-defined]
    assert issubclass(kind, enum.Enum)
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", sampling)
    return world
