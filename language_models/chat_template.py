"""Prompts by the chat template that a model's tokenizer brings. Pure but for the tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from language_models.base import ChatMessage


class ChatTemplate:
    """Renders conversations. `tokenizer` is one of transformers', or what has its two methods.

    Safe from any thread where the tokenizer is.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._takes_system = self._has_place_for_system()

    def render(self, messages: Sequence[ChatMessage]) -> str:
        """Return the prompt that asks for the next reply."""
        if not self._takes_system:
            messages = without_system(messages)
        return self._apply(messages)

    def encode(self, prompt: str) -> list[int]:
        """Return a prompt's tokens: the template has written the special ones itself."""
        return list(self._tokenizer.encode(prompt, add_special_tokens=False))

    def _apply(self, messages: Sequence[ChatMessage]) -> str:
        """The prompt. A model that can think first is told not to: a person is waiting."""
        plain = [{"role": message.role, "content": message.content} for message in messages]
        return str(
            self._tokenizer.apply_chat_template(
                plain, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
        )

    def _has_place_for_system(self) -> bool:
        """Some templates refuse a system prompt, others drop it."""
        conversation = [ChatMessage("system", "Be kind."), ChatMessage("user", "Hello.")]
        try:
            return "Be kind." in self._apply(conversation)
        except Exception:  # noqa: BLE001 - a template is a program of the model's maker
            return False


def without_system(messages: Sequence[ChatMessage]) -> tuple[ChatMessage, ...]:
    """The same conversation with the system prompt at the beginning of the first question."""
    system, *others = messages
    if system.role != "system" or not others:
        return tuple(messages)
    first = replace(others[0], content=f"{system.content}\n\n{others[0].content}")
    return (first, *others[1:])
