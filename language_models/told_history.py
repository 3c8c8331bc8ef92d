"""A conversation as one question that tells what was said before it. Pure.

Qwen 2.5 Coder 1.5B calls tools when it is asked its first question and, once there is an answer of
its own in the prompt, hardly ever again. Told what was said, it goes on calling:
`python -m benchmarks.tool_calls`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from language_models.base import ChatMessage

_NAMES = {"user": "Person", "assistant": "Assistant"}


def tell_history(messages: Sequence[ChatMessage]) -> tuple[ChatMessage, ...]:
    """Return the same with all turns but the last one told at the beginning of its question.

    Each telling is one line, whatever is in it: what a tool returned cannot pass for another's. A
    longer conversation begins as a shorter one does, so that prompt caches hold it.
    """
    questions = [at for at, message in enumerate(messages) if message.role == "user"]
    if len(questions) < 2:
        return tuple(messages)
    at = questions[-1]
    system = [message for message in messages[:at] if message.role == "system"]
    told = "\n".join(filter(None, map(_line, messages[:at])))
    asked = replace(messages[at], content=f"Before:\n{told}\n\n{messages[at].content}")
    return (*system, asked, *messages[at + 1 :])


def _line(message: ChatMessage) -> str:
    said = " ".join(message.content.split())
    if message.role == "tool":
        return f"({message.name} returned: {said})"
    return f"{_NAMES[message.role]}: {said}" if said and message.role in _NAMES else ""
