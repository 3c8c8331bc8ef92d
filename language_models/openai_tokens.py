"""How long a prompt is, by a server that speaks OpenAI's chat API, or by a guess."""

from __future__ import annotations

import functools
import json
import logging
import math
from collections.abc import Sequence
from typing import Any

import httpx

from fusion.tools import Tool
from language_models.base import ChatMessage
from language_models.chat_json import messages_as_json, tools_as_json
from language_models.openai_events import LONGEST_EVENT

logger = logging.getLogger(__name__)

# Counting comes before every long prompt, and other sessions wait for it.
COUNT_TIMEOUT = 1.0

# Tokens that a chat template puts around a message, about.
TEMPLATE_TOKENS = 8


class TokenCounter:
    """Asks `/tokenize`, which stands beside `/v1`. Safe from any thread.

    vLLM counts exactly; for llama-server the template's part is estimated. Where the server has
    none, the estimate takes three bytes of UTF-8 for a token, which is too many tokens for most
    text, never far too few.
    """

    def __init__(self, http: httpx.Client, url: str) -> None:
        self._http = http
        self._url = url
        self._asks = True
        self._count = functools.lru_cache(maxsize=256)(self._count_tokens)

    def count(self, model: str, messages: Sequence[ChatMessage], tools: Sequence[Tool]) -> int:
        """Length in tokens of the prompt that these messages and tools become."""
        return self._count(model, tuple(messages), tuple(tools))

    def _count_tokens(
        self, model: str, messages: tuple[ChatMessage, ...], tools: tuple[Tool, ...]
    ) -> int:
        words = _words(messages, tools)
        body = {
            "model": model,
            "messages": messages_as_json(messages),
            "content": "\n".join(words),
        }
        body |= {"tools": tools_as_json(tools)} if tools else {}
        if self._asks and (count := self._ask(body, TEMPLATE_TOKENS * len(messages))):
            return count
        size = sum(len(each.encode()) for each in words)
        return math.ceil(size / 3) + TEMPLATE_TOKENS * len(messages)

    def _ask(self, body: dict[str, Any], of_template: int) -> int:
        """The count; 0 where there is no answer, or none in time.

        vLLM reads `messages` and answers `count`; llama-server reads `content`.
        """
        url = f"{self._url.removesuffix('/v1')}/tokenize"
        try:
            answer = self._http.post(url, json=body, timeout=COUNT_TIMEOUT)
        except httpx.HTTPError:
            return 0  # away for now; the request itself will say so
        if answer.status_code == httpx.codes.TOO_MANY_REQUESTS or answer.is_server_error:
            return 0
        content: Any = None
        if answer.status_code == httpx.codes.OK:
            try:
                content = answer.json()
            except (ValueError, RecursionError):
                content = None
        count = content.get("count") if isinstance(content, dict) else None
        if isinstance(count, int) and 0 < count < LONGEST_EVENT:
            return count
        if isinstance(content, dict) and isinstance(content.get("tokens"), list):
            return len(content["tokens"]) + of_template
        self._asks = False
        logger.info("%s has no /tokenize: prompt lengths are estimated", self._url)
        return 0


def _words(messages: Sequence[ChatMessage], tools: Sequence[Tool]) -> list[str]:
    """All words of a prompt."""
    calls = [f"{call.name} {call.arguments}" for message in messages for call in message.calls]
    described = [json.dumps(tool) for tool in tools_as_json(tools)]
    return [*described, *(message.content for message in messages), *calls]
