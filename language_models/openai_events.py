"""What a server answers to a chat request, checked before it is used. Pure: bytes in, values out.

Servers differ and have faults; whatever they send becomes a `Delta` or an error with one sentence.
Read are streams of server-sent events and, from a server that does not stream, one JSON object.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fusion.model_servers import seems_to_chat
from language_models.chat_json import CallFragments

LONGEST_EVENT = 1 << 20
"""Bytes. A reply has some hundred; a server that sends more without an end is broken."""

LONGEST_SENTENCE = 300
"""Characters of a server's own words that are passed on."""

MAX_QUOTED = 80


class MalformedReplyError(Exception):
    """What came is no chat completion; the text says what is wrong with it."""


class ServerFailedError(Exception):
    """The server says in its reply that it failed; the text is its own sentence, or empty."""


@dataclass(frozen=True)
class Delta:
    """What one chunk adds to a reply. `finish` is its `finish_reason`, or empty."""

    text: str = ""
    thinking: str = ""
    refusal: str = ""
    tool_calls: Any = None
    """Fragments of calls, as they came."""
    finish: str = ""


@dataclass
class Reply:
    """What came of a reply so far. `may_call`: it was offered tools."""

    text: str = ""
    thinking: str = ""
    refusal: str = ""
    may_call: bool = False
    calls: CallFragments = field(default_factory=CallFragments)
    finish: str = ""

    @property
    def begun(self) -> bool:
        return bool(self.text or self.thinking)

    @property
    def only_thought(self) -> bool:
        return not self.text.strip() and bool(self.thinking)

    def why_empty(self) -> str:
        """What the server did in place of answering, as a sentence goes on; empty if unknown."""
        if self.refusal.strip():
            return f"refused to answer{quotation(self.refusal.strip())}"
        if self.finish == "content_filter":
            return "refused to answer: its content filter took the reply out"
        if self.calls.calls() or self.finish in ("tool_calls", "function_call"):
            return (
                "asked for a tool in place of answering, and there are none here: "
                "switch its tools off, or choose another model"
            )
        return ""


def deltas(body: Iterable[bytes]) -> Iterator[Delta]:
    """The chunks of a reply, up to the one that finishes it or the stream's `[DONE]`.

    Raises:
        MalformedReplyError: a chunk is not what the API's documentation says.
        ServerFailedError: a chunk tells of an error.
        EOFError: the body ends before the reply does.
    """
    for data in _data(body):
        if data == "[DONE]":
            return
        delta = read_chunk(data)
        yield delta
        if delta.finish:
            return
    raise EOFError("the stream ended before the reply did")


def _data(body: Iterable[bytes]) -> Iterator[Any]:
    """The JSON values of a stream of events, and the text "[DONE]"; what is no JSON is passed over.

    Each line of data is an event, as servers send it, or part of one, as the standard allows.
    """
    lines = _lines(body)
    first = next((line for line in lines if line.strip()), "")
    if first.lstrip("\ufeff \t").startswith("{"):
        yield _whole(itertools.chain([first], lines))
        yield "[DONE]"
        return
    if first.lstrip().startswith("<"):
        raise MalformedReplyError("it is a web page")
    pending = ""
    for line in itertools.chain([first], lines):
        if not line.startswith("data:"):
            pending = pending if line else ""
            continue
        data = line.removeprefix("data:").strip(" ")
        if data == "[DONE]":
            yield data
        value = _json(data)
        if value is None:
            pending += data + "\n"
            value = _json(pending)
        if value is not None:
            pending = ""
            yield value


def _whole(lines: Iterable[str]) -> Any:
    """The JSON that a server sends which does not stream."""
    body = ""
    for line in lines:
        body += line + "\n"
        if len(body) > LONGEST_EVENT:
            raise MalformedReplyError("it has no end")
    value = _json(body.lstrip("\ufeff"))
    if value is None:
        raise MalformedReplyError("it is neither a stream of events nor JSON")
    return value


def _lines(body: Iterable[bytes]) -> Iterator[str]:
    r"""Lines as server-sent events have them: ended by CR, LF or both, and by nothing else.

    Python's own `splitlines` also splits at U+2028, U+2029 and U+0085, which JSON allows in a text.
    """
    rest = b""
    for chunk in body:
        rest += chunk
        # A CR at the very end may be the first half of a line's end.
        held = b"\r" if rest.endswith(b"\r") else b""
        rest = rest.removesuffix(held).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = rest.split(b"\n")
        rest += held
        for line in lines:
            yield line.decode(errors="replace")
        if len(rest) > LONGEST_EVENT:
            raise MalformedReplyError("one of its lines has no end")
    if rest := rest.removesuffix(b"\r"):
        yield rest.decode(errors="replace")


def _json(text: str) -> Any:
    """The value of a JSON text; None for what is none (or for `null`)."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def read_chunk(chunk: Any) -> Delta:
    """Check one chunk (or one whole completion) and take out what counts.

    A chunk without a choice (usage, a sign of life) adds nothing. What has another form than the
    API's documentation says is an error.
    """
    if not isinstance(chunk, Mapping):
        return Delta()
    if chunk.get("error") or chunk.get("object") == "error":
        raise ServerFailedError(server_sentence(chunk))
    choices = chunk.get("choices")
    if choices is None or choices == []:
        return Delta()
    if not isinstance(choices, list):
        raise MalformedReplyError(f"its `choices` are no list but {_quoted(choices)}")
    choice = choices[0]
    if not isinstance(choice, Mapping):
        raise MalformedReplyError(f"a choice of it is no object but {_quoted(choice)}")
    finish = choice.get("finish_reason") or ""
    if not isinstance(finish, str):
        raise MalformedReplyError(f"its `finish_reason` is no text but {_quoted(finish)}")
    message: Any = next((choice[key] for key in ("delta", "message") if choice.get(key)), {})
    if not isinstance(message, Mapping):
        raise MalformedReplyError(f"its `delta` is no object but {_quoted(message)}")
    text, thinking = _content(message.get("content"))
    for key in ("reasoning_content", "reasoning", "thinking"):
        thinking += _content(message.get(key))[0] if isinstance(message.get(key), str) else ""
    if "delta" not in choice and "message" not in choice and isinstance(choice.get("text"), str):
        text = choice["text"]
    refusal = message.get("refusal")
    return Delta(
        text=text,
        thinking=thinking,
        refusal=refusal if isinstance(refusal, str) else "",
        tool_calls=message.get("tool_calls") or [{"function": message.get("function_call")}],
        finish=finish,
    )


def _content(content: Any) -> tuple[str, str]:
    """Text and thinking of a message's content: a text, nothing, or a list of parts."""
    if content is None:
        return "", ""
    if isinstance(content, str):
        return content, ""
    if not isinstance(content, list):
        raise MalformedReplyError(f"its `content` is no text but {_quoted(content)}")
    text = thinking = ""
    for part in content:
        if isinstance(part, str):
            text += part
        elif not isinstance(part, Mapping):
            raise MalformedReplyError(f"a part of its `content` is {_quoted(part)}")
        elif part.get("type") in ("thinking", "reasoning"):
            thinking += "".join(_content(part.get(key))[0] for key in ("thinking", "text"))
        elif part.get("type") in (None, "text", "output_text"):
            text += _content(part.get("text"))[0]
    return text, thinking


def server_sentence(body: Any) -> str:
    """What a server says is wrong, in its own words: one line, or empty if it says nothing.

    OpenAI, vLLM, Ollama, llama-server and FastAPI each put it in another place.
    """
    found: Any = body
    for _ in range(4):
        if isinstance(found, list):
            found = found[0] if found else ""
        if isinstance(found, Mapping):
            keys = ("error", "message", "detail", "msg")
            found = next((found[key] for key in keys if found.get(key)), "")
    if not isinstance(found, str):
        return ""
    printable = "".join(letter if letter.isprintable() else " " for letter in found)
    return " ".join(printable.split())[:LONGEST_SENTENCE]


def sentence_of_body(body: bytes) -> str:
    """The same for the body of an answer, which may also be plain text (but no page of HTML)."""
    text = body[:LONGEST_EVENT].decode(errors="replace").strip()
    value = _json(text)
    if value is not None:
        return server_sentence(value)
    return "" if text.startswith("<") else server_sentence(text)


def model_names(answer: Any) -> list[str]:
    """The models that an answer of `/models` lists."""
    models = answer.get("data") if isinstance(answer, Mapping) else None
    if not isinstance(models, list):
        return []
    return [
        model["id"]
        for model in models
        if isinstance(model, Mapping) and isinstance(model.get("id"), str) and model["id"]
    ]


def chat_model(names: Iterable[str]) -> str:
    """The first model that seems to be one for conversation, else the first; empty if none."""
    known = list(names)
    return next(iter([*filter(seems_to_chat, known), *known]), "")


def _quoted(value: Any) -> str:
    return repr(value)[:MAX_QUOTED]


def quotation(sentence: str) -> str:
    """A server's own words, to follow ours."""
    return f"; it says “{sentence}”" if sentence else ""
