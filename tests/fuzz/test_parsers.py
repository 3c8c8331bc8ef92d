"""Whatever comes in, a parser takes it or refuses it with the error that it names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from websockets.datastructures import Headers

from fusion.command_line import from_environment, from_file
from fusion.errors import ConfigurationError, ProtocolError
from fusion.serving.access import AccessPolicy
from fusion.serving.health import Health
from fusion.serving.tokens import Tokens, read_tokens, shown_in
from fusion.settings import Settings
from fusion.status import ServiceStatus
from language_models.openai_events import MalformedReplyError, ServerFailedError, deltas
from language_models.reply_filter import ReplyFilter
from realtime.actions import AppendAudio, Configure
from realtime.client_secrets import ClientSecrets
from realtime.config import SessionConfig
from realtime.events import RealtimeError
from realtime.pipeline_commands import listening
from realtime.session import RealtimeSession
from realtime.sound import Decoder
from tests.fuzz.inputs import (
    NUMBERS,
    TEXTS,
    VALUES,
    attempt,
    fuzzing,
    json_like,
    with_each_part_odd,
)
from tests.fuzz.messages import COMMANDS, HELLO, HISTORY
from voices.sentences import ClauseSplitter
from voices.spoken_text import SpokenText
from whisper_live.client.events import parsed
from whisper_live.handshake import parse_command, parse_hello
from whisper_live.incoming_audio import IncomingAudio

LANGUAGES = frozenset({"en", "de", "ja"})


@fuzzing
@given(json_like(HELLO, {"uid": "me"}) | st.binary(max_size=50))
def test_handshake(message: str | bytes) -> None:
    attempt("handshake", ProtocolError, lambda: parse_hello(message, LANGUAGES))


@fuzzing
@given(json_like(*COMMANDS))
def test_messages(message: str) -> None:
    attempt("messages", ProtocolError, lambda: parse_command(message))


@fuzzing
@given(st.lists(st.sampled_from(HISTORY), max_size=110), st.lists(json_like(*HISTORY), max_size=2))
def test_history(entries: list[Any], others: list[str]) -> None:
    message = json.dumps({"uid": "me", "history": [*entries, *map(_loaded, others)]})
    hello = attempt("history", ProtocolError, lambda: parse_hello(message, LANGUAGES))
    if hello is not None:
        assert sum(len(content) for _, content in hello.history) <= 20_000


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


EVENTS: list[dict[str, Any]] = [
    {
        "type": "session.update",
        "session": {
            "type": "realtime",
            "instructions": "Be kind.",
            "output_modalities": ["audio"],
            "audio": {
                "input": {
                    "format": {"type": "audio/pcm", "rate": 24000},
                    "transcription": {"model": "whisper-1", "language": "en"},
                    "turn_detection": {"type": "server_vad", "threshold": 0.5},
                },
                "output": {"format": {"type": "audio/pcmu"}, "voice": "joe", "speed": 1.0},
            },
            "max_output_tokens": "inf",
        },
    },
    {"type": "input_audio_buffer.append", "audio": "AAAAAA=="},
    {"type": "input_audio_buffer.commit"},
    {"type": "input_audio_buffer.clear"},
    {
        "type": "conversation.item.create",
        "previous_item_id": "root",
        "item": {
            "id": "i1",
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "Hello."}],
        },
    },
    {"type": "conversation.item.retrieve", "item_id": "i1"},
    {"type": "conversation.item.truncate", "item_id": "i1", "content_index": 0, "audio_end_ms": 9},
    {"type": "conversation.item.delete", "item_id": "i1"},
    {"type": "response.create", "response": {"instructions": "Sing.", "metadata": {"a": "b"}}},
    {"type": "response.cancel", "response_id": "r1"},
]


@fuzzing
@given(st.lists(json_like(*EVENTS) | st.binary(max_size=40), min_size=1, max_size=4))
def test_realtime_events(messages: list[str | bytes]) -> None:
    attempt("realtime events", (), lambda: _converse(*messages))


SECRET = {"expires_after": {"seconds": 60}, "session": EVENTS[0]["session"]}


@fuzzing
@given(VALUES | json_like(SECRET))
def test_realtime_secrets(body: Any) -> None:
    wanted = _loaded(body) if isinstance(body, str) else body
    attempt(
        "realtime secrets",
        RealtimeError,
        lambda: _secret(wanted),
    )


CHUNK = {
    "id": "c",
    "object": "chat.completion.chunk",
    "choices": [
        {
            "index": 0,
            "delta": {"role": "assistant", "content": "Hi", "reasoning_content": "So"},
            "finish_reason": None,
        }
    ],
    "usage": {"total_tokens": 3},
}
WHOLE = {"choices": [{"message": {"content": "Hi", "tool_calls": []}, "finish_reason": "stop"}]}
FAULT = {"error": {"message": "out of memory", "type": "server_error", "code": 500}}


@fuzzing
@given(
    st.lists(json_like(CHUNK, WHOLE, FAULT) | st.just("[DONE]"), max_size=5),
    st.sampled_from(("data: ", "data:", "", ": ", "event: x\ndata: ", "\ufeffdata: ")),
    st.sampled_from(("\n\n", "\r\n\r\n", "\r\r", "\n", "")),
    st.integers(1, 200),
    st.binary(max_size=9),
)
def test_openai_chunks(chunks: list[str], before: str, after: str, size: int, rest: bytes) -> None:
    stream = "".join(f"{before}{chunk}{after}" for chunk in chunks)
    body = stream.encode("utf-8", "surrogatepass") + rest
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    attempt(
        "openai chunks",
        (MalformedReplyError, ServerFailedError, EOFError),
        lambda: list(deltas(pieces)),
    )


MARKUP = st.sampled_from(
    (
        *(
            "# ",
            "- ",
            "1. ",
            "```\n",
            "`",
            "**",
            "_",
            "[a](http://b.c/d?e=f)",
            "| a | b |\n|---|---|\n",
        ),
        *("$1,234.56", "50 %", "3.14159e-10", "2^10", "H2O", "\\frac{a}{b}", "$x^2$", "§ 3", "1/2"),
        *(
            "10:30",
            "2024-02-30",
            "555-123-4567",
            "https://a.b",
            "a@b.c",
            "<b>",
            "&amp;",
            "...",
            "—",
        ),
        *(
            "A.B.C.D.",
            "Dr. ",
            "°C",
            "km/h",
            "½",
            "東京",
            "🙂",
            "\u200b",
            "\u202e",
            "é",
            "-40 °F",
            "1e999",
        ),
    )
)
SAYABLE = st.lists(MARKUP | TEXTS | NUMBERS.map(str), max_size=12).map("".join)


@fuzzing
@given(SAYABLE, st.sampled_from(("en", "de", "ja", "ar", "", "xx")), st.booleans())
def test_spoken_text(text: str, language: str, bounded: bool) -> None:
    reader = SpokenText(language, ("en", "de") if bounded else ())
    attempt("spoken text", (), lambda: reader.read(text))


@fuzzing
@given(SAYABLE, st.integers(1, 40), st.sampled_from(("en", "de", "ja")))
def test_clauses(text: str, size: int, language: str) -> None:
    splitter = ClauseSplitter(language)

    def split() -> None:
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        clauses = [clause for piece in pieces for clause in splitter.feed(piece)]
        assert "".join([*clauses, *splitter.finish()]).split() == text.split()

    attempt("clauses", (), split)


ROLES = st.sampled_from(
    ("<think>", "</think>", "User:", "Assistant:", "<|im_end|>", "\n\n", "A. A. ")
)


@fuzzing
@given(st.lists(ROLES | TEXTS | MARKUP, max_size=12), st.booleans())
def test_reply_text(pieces: list[str], cut: bool) -> None:
    reply = ReplyFilter(100)
    attempt(
        "reply text", (), lambda: [*(reply.push(piece) for piece in pieces), reply.finish(cut=cut)]
    )


@fuzzing
@given(
    st.sampled_from(("float32", "int16")),
    st.sampled_from((16000, 8000, 44100, 192000)),
    st.lists(
        st.binary(max_size=400)
        | st.lists(st.floats(width=32), max_size=50).map(lambda x: np.array(x, "<f4").tobytes()),
        max_size=5,
    ),
)
def test_audio(form: str, rate: int, messages: list[bytes]) -> None:
    audio = IncomingAudio(form, rate)
    for message in messages:
        samples = attempt("audio", ProtocolError, lambda message=message: audio.take(message))
        assert samples is None or np.isfinite(samples).all()


LINES = st.sampled_from(("max_clients", "token", "host", "settle-after", "tls", "config", "llm"))


@fuzzing
@given(
    st.one_of(
        st.dictionaries(LINES | TEXTS, VALUES, max_size=5).map(
            lambda content: yaml.safe_dump(content).encode("utf-8", "surrogatepass")
        ),
        st.lists(st.tuples(LINES, TEXTS), max_size=5).map(
            lambda pairs: "\n".join(f"{k}: {v}" for k, v in pairs).encode("utf-8", "surrogatepass")
        ),
        st.binary(max_size=200),
        st.sampled_from(("[" * 3000, "{a: " * 3000, "&a [*a]", "!!python/object:os.system x")).map(
            str.encode
        ),
    )
)
def test_settings_file(content: bytes) -> None:
    path = _FOLDER / "settings.yaml"
    path.write_bytes(content)
    attempt("settings file", ValueError, lambda: from_file(path))


@fuzzing
@given(st.dictionaries(st.sampled_from(("MAX_CLIENTS", "TLS", "AUDIO_RATE", "LLM_BACKEND")), TEXTS))
def test_environment(variables: dict[str, str]) -> None:
    named = {f"WHISPERFUSION_{name}": value for name, value in variables.items()}
    attempt("environment", ValueError, lambda: from_environment(named))


@fuzzing
@given(
    st.lists(TEXTS | st.sampled_from(("anna s3", "# x", "a b c", "one")), max_size=5), st.binary()
)
def test_token_file(lines: list[str], rest: bytes) -> None:
    path = _FOLDER / "tokens"
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass") + rest)
    attempt("token file", ConfigurationError, lambda: read_tokens(path))


HEADERS = {
    "Host": ("localhost:6006", "[::1", "[::1]:x", "a b", "evil.example", "127.0.0.1:99999"),
    "Origin": ("http://localhost:8000", "null", "http://[", "file://", "http://localhost:x"),
    "Authorization": ("Bearer s3", "Bearer", "bearer  ", "Basic czM="),
    "Sec-WebSocket-Protocol": (
        "whisperfusion, whisperfusion-token.s3",
        ",,",
        "whisperfusion-token.%",
    ),
    "X-Forwarded-For": ("1.2.3.4, 5.6.7.8", "fe80::1%eth0", ",", "unknown"),
}
# What both libraries let a header hold.
FIELD = st.lists(st.sampled_from([*range(0x20, 0x7F), *range(0x80, 0x100)]), max_size=20).map(
    lambda codes: "".join(map(chr, codes))
)
HEADER = st.sampled_from(sorted(HEADERS)).flatmap(
    lambda name: st.tuples(st.just(name), st.sampled_from(HEADERS[name]) | FIELD)
)


@fuzzing
@given(
    st.lists(HEADER, max_size=6), TEXTS | st.sampled_from(("token=s3", "token=%ff", "token=&;="))
)
def test_who_asks(fields: list[tuple[str, str]], query: str) -> None:
    headers = Headers(fields)

    def ask() -> None:
        _ACCESS.accepts_origin(headers)
        shown = shown_in(headers, query)
        named = _ACCESS.tokens.name_of(shown)
        assert named is None or "s3" in shown

    attempt("who asks", (), ask)


SERVER_MESSAGES: list[dict[str, Any]] = [
    {"uid": "u", "message": "SERVER_READY", "audio_key": "k", "resume_key": "r"},
    {
        "uid": "u",
        "segments": [{"start": "0.0", "end": "1.0", "text": "Hi", "completed": True}],
        "eos": True,
        "latency": 0.1,
        "turn": 1,
    },
    {"llm_output": ["Hi."], "eos": False, "turn": 2, "latency": 1},
    {"status": "ERROR", "message": "No.", "turn": 1},
    {"event": "reply_start", "turn": 1, "at": 0.5},
]


@fuzzing
@given(json_like(*SERVER_MESSAGES))
def test_what_a_server_tells_our_client(message: str) -> None:
    attempt("server to client", (), lambda: parsed(message, 1.0))


def _converse(*messages: Any) -> None:
    """Let a Realtime session take these, and see that what it answers can be sent."""
    session = RealtimeSession(SessionConfig(model="m"))
    session.open()
    for message in messages:
        message = message if isinstance(message, str | bytes) else json.dumps(message)
        for output in session.receive(message):
            if isinstance(output, dict):
                json.dumps(output)
            elif isinstance(output, Configure):
                json.dumps(listening(output.config))
            elif isinstance(output, AppendAudio):
                Decoder(session.config.audio.input.format.type).decode(output.sound)


def _secret(body: Any) -> object:
    return ClientSecrets().make(body, SessionConfig(model="m"), 1.0)


def _read(chunk: Any) -> object:
    return list(deltas([f"data: {json.dumps(chunk)}\n\n".encode()]))


REFUSED = (MalformedReplyError, ServerFailedError, EOFError)


@pytest.mark.parametrize(
    ("examples", "errors", "parse"),
    [
        ([HELLO], ProtocolError, lambda each: parse_hello(json.dumps(each), LANGUAGES)),
        (COMMANDS, ProtocolError, lambda each: parse_command(json.dumps(each))),
        (EVENTS, (), _converse),
        ([SECRET], RealtimeError, _secret),
        ([CHUNK, WHOLE, FAULT], REFUSED, _read),
        (SERVER_MESSAGES, (), lambda each: parsed(json.dumps(each), 1.0)),
    ],
    ids=["handshake", "messages", "realtime", "secrets", "openai", "client"],
)
def test_each_part_may_be_anything(examples: list[Any], errors: Any, parse: Any) -> None:
    for example in examples:
        for odd in with_each_part_odd(example):
            attempt("each part", errors, lambda odd=odd: parse(odd))


_FOLDER = Path()
_ACCESS: AccessPolicy


@pytest.fixture(autouse=True, scope="module")
def _world(tmp_path_factory: pytest.TempPathFactory) -> None:
    global _FOLDER, _ACCESS
    _FOLDER = tmp_path_factory.mktemp("fuzz")
    _ACCESS = AccessPolicy(Settings(token="s3"), Health(ServiceStatus()))
    assert isinstance(_ACCESS.tokens, Tokens)
