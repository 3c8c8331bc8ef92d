"""Prompts by the chat template that a model's tokenizer brings. Pure but for the tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fusion.tools import Tool
from language_models.base import ChatMessage
from language_models.chat_json import messages_for_template, tools_as_json


class ChatTemplate:
    """Renders conversations. `tokenizer` is one of transformers', or what has its two methods.

    Safe from any thread where the tokenizer is.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._takes_system = self._has_place_for_system()
        text = "\n".join(_templates(tokenizer))
        self.takes_tools = "tools" in text
        self.call_opening = "<tool_call>\n" if "<tool_call>" in text else ""
        """What its model begins a call with, to have it make one; "" where that is not known."""

    def render(self, messages: Sequence[ChatMessage], tools: Sequence[Tool] = ()) -> str:
        """Return the prompt that asks for the next reply."""
        if not self._takes_system:
            messages = without_system(messages)
        return self._apply(messages, tools)

    def encode(self, prompt: str) -> list[int]:
        """Return a prompt's tokens: the template has written the special ones itself."""
        return list(self._tokenizer.encode(prompt, add_special_tokens=False))

    def _apply(self, messages: Sequence[ChatMessage], tools: Sequence[Tool] = ()) -> str:
        """The prompt. A model that can think first is told not to: a person is waiting."""
        more = {"tools": tools_as_json(tools)} if tools else {}
        return str(
            self._tokenizer.apply_chat_template(
                messages_for_template(messages),
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=False,
                **more,
            )
        )

    def _has_place_for_system(self) -> bool:
        """Some templates refuse a system prompt, others drop it."""
        conversation = [ChatMessage("system", "Be kind."), ChatMessage("user", "Hello.")]
        try:
            return "Be kind." in self._apply(conversation)
        except Exception:  # noqa: BLE001 - a template is a program of the model's maker
            return False


def _templates(tokenizer: Any) -> list[str]:
    """The tokenizer's Jinja templates: one, or several by their names."""
    template = getattr(tokenizer, "chat_template", None) or ""
    return list(template.values()) if isinstance(template, dict) else [str(template)]


def without_system(messages: Sequence[ChatMessage]) -> tuple[ChatMessage, ...]:
    """The same conversation with the system prompt at the beginning of the first question."""
    system, *others = messages
    if system.role != "system" or not others:
        return tuple(messages)
    first = replace(others[0], content=f"{system.content}\n\n{others[0].content}")
    return (first, *others[1:])
