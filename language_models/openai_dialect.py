"""Which fields of a chat request a server takes: OpenAI's names, and what servers made of them.

Everything optional is asked for until a server refuses it, which the warm-up finds out.
"""

from __future__ import annotations

from typing import Any

from language_models.base import GenerationRequest
from language_models.chat_json import tools_as_json

# What asks a server to let its model answer without thinking first: llama-server, vLLM and SGLang
# hand the first to the chat template, Ollama and OpenAI take the second. Unknown fields are
# ignored by most.
THINKING_OFF: dict[str, Any] = {
    "chat_template_kwargs": {"enable_thinking": False},
    "reasoning_effort": "none",
}

REFUSED = frozenset({400, 422})
"""Statuses for a field that is not known or not allowed (422: FastAPI's)."""


class Dialect:
    """What one server takes. Safe from any thread: each change is one assignment."""

    def __init__(self) -> None:
        self._accepted = False
        self.takes_tools = self._takes_tool_choice = True
        self._limit = "max_tokens"
        self._optional: dict[str, Any] = {"temperature": None, "top_p": None, **THINKING_OFF}

    @property
    def thinking_off(self) -> bool:
        """Whether the model was asked not to think."""
        return any(name in self._optional for name in THINKING_OFF)

    def fields(self, request: GenerationRequest, more_tokens: int) -> dict[str, Any]:
        """What the request asks for, in this server's words."""
        sampling = {"temperature": request.temperature, "top_p": request.top_p}
        optional = {name: sampling.get(name, value) for name, value in self._optional.items()}
        if request.tools and self.takes_tools:
            optional["tools"] = tools_as_json(request.tools)
            if request.must_call and self._takes_tool_choice:
                optional["tool_choice"] = "required"
        return {self._limit: request.max_tokens + more_tokens, **optional}

    def accepted(self) -> None:
        """The server took a request."""
        self._accepted = True

    def give_way(self, status: int, said: str, request: GenerationRequest) -> bool:
        """Leave out or rename what a server's sentence refuses; whether to ask again."""
        if status not in REFUSED:
            return False
        if request.tools and self.takes_tools and "tool" in said.lower():
            # vLLM wants to be started for tools, others have a model that has none.
            self.takes_tools = request.must_call and self._takes_tool_choice
            self._takes_tool_choice = False
            return True
        if self._limit == "max_tokens" and "max_completion_tokens" in said:
            self._limit = "max_completion_tokens"
            return True
        named = [name for name in self._optional if name in said]
        if named == ["reasoning_effort"] and self._effort == "none" and "low" in said:
            # gpt-oss thinks always, at one of three efforts.
            self._optional = {**self._optional, "reasoning_effort": "low"}
            return True
        if not named and self.thinking_off and not self._accepted:
            # It may mean them, whatever it says; later on it means what was said.
            named = list(THINKING_OFF)
        if not named:
            return False
        self._optional = {k: value for k, value in self._optional.items() if k not in named}
        return True

    @property
    def _effort(self) -> Any:
        return self._optional.get("reasoning_effort")
