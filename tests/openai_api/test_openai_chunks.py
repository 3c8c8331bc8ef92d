"""What an OpenAI-compatible server may send, its thinking, and its settings."""

from __future__ import annotations

import importlib.util
import itertools
import json
from http.server import BaseHTTPRequestHandler

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.errors import ConfigurationError, ModelError
from fusion.settings import Settings
from language_models import openai_api
from language_models.base import THINKING, Cancellation, Finish
from language_models.openai_api import load
from language_models.openai_events import (
    MalformedReplyError,
    ServerFailedError,
    deltas,
    read_chunk,
)
from language_models.reply_filter import clean
from tests.openai_api.conftest import (
    QUESTION,
    Answer,
    free_port,
    send_events,
    send_json,
    serving,
    settings_for,
    text,
)

# -- what a server may send ------------------------------------------------------------------------


def chunk(**choice: object) -> str:
    return "data: " + json.dumps({"choices": [choice]})


def delta(**fields: object) -> str:
    return chunk(delta=fields)


def answered(*lines: str, last: str = "data: [DONE]", then: Answer | None = None) -> list[object]:
    """What comes of a reply with these events: its pieces, and why it ended."""
    answers = [send_events(*lines, last)] + ([then] if then else [])
    with serving(*answers) as (model, _):
        pieces: list[object] = []
        stream = model.stream(QUESTION, Cancellation())
        try:
            while True:
                pieces.append(next(stream))
        except StopIteration as end:
            return [*pieces, end.value]


@pytest.mark.parametrize(
    "odd",
    [
        'data: {"choices": [null]}',
        'data: {"choices": {"0": {"delta": {"content": "Hi"}}}}',
        'data: {"choices": "Hi"}',
        delta(content={"text": "Hi"}),
        delta(content=[7]),
        delta(content=7),
        chunk(delta="Hi"),
        chunk(delta=["Hi"]),
        chunk(delta={"content": "Hi"}, finish_reason=3),
    ],
)
def test_an_odd_chunk_ends_its_turn_with_the_servers_name(odd: str) -> None:
    with pytest.raises(ModelError, match=r"server at http://127\.0\.0\.1.*cannot be read: its|a "):
        answered(text("Yes"), odd)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([{"type": "text", "text": "Hi"}], "Hi"),
        ([{"type": "text", "text": "Hi"}, {"type": "text", "text": " you"}], "Hi you"),
        ([{"type": "output_text", "text": "Hi"}], "Hi"),
        (["Hi", " you"], "Hi you"),
        ([{"type": "image_url", "image_url": {}}, {"type": "text", "text": "Hi"}], "Hi"),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, "Hi"], "Hi"),
    ],
)
def test_text_in_parts_is_read(content: object, expected: str) -> None:
    pieces = answered(delta(content=content))
    assert "".join(piece for piece in pieces if isinstance(piece, str)) == expected


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x1c", "\x0b"])
def test_no_mark_of_unicode_ends_a_line_of_the_stream(mark: str) -> None:
    raw = json.dumps({"choices": [{"delta": {"content": f"one{mark}two"}}]}, ensure_ascii=False)
    if mark < " ":  # JSON wants these written otherwise
        raw = raw.replace(mark, json.dumps(mark)[1:-1])
    assert answered(f"data: {raw}") == [f"one{mark}two", Finish.STOP]


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_lines_end_with_cr_lf_or_both(end: str) -> None:
    lines = [": hello", "", "event: x", "data: {", 'data: "choices":', 'data: [{"delta":']
    lines += ['data: {"content": "Hi"}}]}', "", text(" you"), "", "data: [DONE]", ""]
    body = end.join(lines).encode()
    for cut in range(len(body)):
        found = [delta.text for delta in deltas([body[:cut], body[cut:]])]
        assert found == ["Hi", " you"]


@given(st.lists(st.integers(0, 400), max_size=5), st.text(max_size=20))
def test_how_the_bytes_of_a_stream_are_cut_makes_no_difference(
    cuts: list[int], content: str
) -> None:
    raw = json.dumps({"choices": [{"delta": {"content": content}}]}, ensure_ascii=False)
    body = f"data: {raw}\n\ndata: [DONE]\n\n".encode()
    at = [0, *sorted(cuts), len(body)]
    pieces = [body[a:b] for a, b in itertools.pairwise(at)]
    assert "".join(delta.text for delta in deltas(pieces)) == content


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                (
                    *("choices", "delta", "message", "content", "text", "type", "error"),
                    *("finish_reason", "tool_calls", "refusal", "reasoning_content", "object"),
                )
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@given(JSON_VALUES)
def test_whatever_a_chunk_is_it_is_a_delta_or_one_of_two_errors(chunk: object) -> None:
    try:
        delta = read_chunk(chunk)
    except (MalformedReplyError, ServerFailedError) as error:
        assert "\n" not in str(error)
    else:
        assert all(isinstance(value, str) for value in (delta.text, delta.thinking, delta.finish))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"choices": [{"message": {"content": "Yes."}, "finish_reason": "stop"}]}, "Yes."),
        ({"object": "chat.completion", "choices": [{"message": {"content": "Yes."}}]}, "Yes."),
        ({"choices": [{"text": "Yes.", "finish_reason": "stop"}]}, "Yes."),
    ],
)
def test_a_server_that_does_not_stream_is_read(body: object, expected: str) -> None:
    with serving(send_json(200, body)) as (model, asked):
        assert list(model.stream(QUESTION, Cancellation())) == [expected]
        assert len(asked) == 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"object": "error", "message": "The model is gone.", "code": 500}, "“The model is gone."),
        ({"error": {"message": "No memory."}}, "“No memory."),
        ({"error": "No memory."}, "“No memory."),
        ({"detail": [{"msg": "No memory."}], "object": "error"}, "“No memory."),
    ],
)
def test_a_servers_own_sentence_is_passed_on(body: object, reason: str) -> None:
    with serving(send_json(200, body)) as (model, asked):
        with pytest.raises(ModelError, match=reason):
            list(model.stream(QUESTION, Cancellation()))
        assert len(asked) == 1
    with (
        serving(send_events(text("Yes"), f"data: {json.dumps(body)}")) as (model, _),
        pytest.raises(ModelError, match=reason),
    ):
        list(model.stream(QUESTION, Cancellation()))


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
def test_a_wrong_content_encoding_ends_its_turn(encoding: str) -> None:
    def wrong(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Encoding", encoding)
        handler.end_headers()
        handler.wfile.write(text("Yes").encode())

    if encoding == "br" and importlib.util.find_spec("brotli") is None:
        encoding = "gzip"  # httpx leaves it alone without the package
    with (
        serving(wrong) as (model, _),
        pytest.raises(ModelError, match=r"server at http://127\.0\.0\.1"),
    ):
        list(model.stream(QUESTION, Cancellation()))


def test_a_web_page_is_no_reply() -> None:
    def page(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b"<!doctype html><title>Router</title>")

    with serving(page) as (model, _), pytest.raises(ModelError, match="is a web page"):
        list(model.stream(QUESTION, Cancellation()))


def test_a_line_without_end_is_no_reply() -> None:
    with pytest.raises(MalformedReplyError, match="no end"):
        list(deltas(itertools.repeat(b"x" * 65536)))


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (
            [delta(tool_calls=[{"function": {"name": "f"}}]), chunk(finish_reason="tool_calls")],
            "tool",
        ),
        ([chunk(delta={}, finish_reason="tool_calls")], "tool"),
        ([delta(function_call={"name": "f"})], "tool"),
        ([delta(refusal="I must "), delta(refusal="not.")], "refused to answer.*I must not"),
        ([chunk(delta={}, finish_reason="content_filter")], "content filter"),
    ],
)
def test_a_reply_without_text_says_what_the_server_did_instead(
    lines: list[str], reason: str
) -> None:
    with pytest.raises(ModelError, match=reason):
        answered(*lines)


def test_a_reply_that_is_cut_says_so() -> None:
    assert answered(text("Yes"), chunk(delta={}, finish_reason="length")) == ["Yes", Finish.LENGTH]


# -- thinking --------------------------------------------------------------------------------


def recorded(*answers: Answer) -> tuple[list[dict[str, object]], list[Answer]]:
    """The answers, and what was asked of each."""
    bodies: list[dict[str, object]] = []

    def recording(answer: Answer) -> Answer:
        def answer_and_note(handler: BaseHTTPRequestHandler) -> None:
            bodies.append(handler.body)  # type: ignore[attr-defined]
            answer(handler)

        return answer_and_note

    return bodies, [recording(answer) for answer in answers]


YES = send_events(text("Yes."), "data: [DONE]")


def test_thinking_is_asked_off_and_told_of_where_it_comes_anyway() -> None:
    thinking = [delta(reasoning_content="Hm."), delta(reasoning="Hm."), text("Yes.")]
    bodies, answers = recorded(send_events(*thinking, "data: [DONE]"))
    with serving(*answers) as (model, _):
        pieces = list(model.stream(QUESTION, Cancellation()))
    assert pieces == [THINKING, THINKING, "Yes."]
    assert bodies[0]["chat_template_kwargs"] == {"enable_thinking": False}
    assert bodies[0]["reasoning_effort"] == "none"


@pytest.mark.parametrize(
    ("status", "sentence", "gone"),
    [
        (
            400,
            "Unrecognized argument: chat_template_kwargs",
            {"chat_template_kwargs"},
        ),
        (400, "Unsupported value: 'temperature' does not support 0", {"temperature"}),
        (422, "body.reasoning_effort: Extra inputs are not permitted", {"reasoning_effort"}),
        (400, "Bad request", {"chat_template_kwargs", "reasoning_effort"}),
    ],
)
def test_what_a_server_refuses_is_left_out(status: int, sentence: str, gone: set[str]) -> None:
    refuse = send_json(status, {"error": {"message": sentence}})
    bodies, answers = recorded(refuse, YES, YES)
    with serving(*answers) as (model, _):
        for _ in range(2):
            assert list(model.stream(QUESTION, Cancellation())) == ["Yes."]
    assert set(bodies[0]) - set(bodies[1]) == gone
    assert bodies[2] == bodies[1], "it is remembered"


def test_a_server_that_wants_max_completion_tokens_gets_them() -> None:
    sentence = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    bodies, answers = recorded(send_json(400, {"error": {"message": sentence}}), YES)
    with serving(*answers) as (model, _):
        model.warm_up()
    assert "max_tokens" not in bodies[1]
    assert bodies[1]["max_completion_tokens"] == bodies[0]["max_tokens"]


def test_an_effort_that_a_model_has_not_gives_way_to_its_lowest() -> None:
    sentence = "reasoning_effort must be one of low, medium, high"
    bodies, answers = recorded(send_json(400, {"error": {"message": sentence}}), YES)
    with serving(*answers) as (model, _):
        list(model.stream(QUESTION, Cancellation()))
    assert bodies[1]["reasoning_effort"] == "low"


def test_a_warm_up_that_is_refused_is_the_settings_fault() -> None:
    refuse = send_json(404, {"error": {"message": "model 'x' not found"}})
    with (
        serving(refuse, models=["gemma", "qwen"]) as (model, _),
        pytest.raises(ConfigurationError, match=r"gemma, qwen.*model 'x' not found"),
    ):
        model.warm_up()


def test_a_model_that_only_thinks_gets_more_tokens_once() -> None:
    only = send_events(delta(reasoning_content="Hm"), chunk(delta={}, finish_reason="length"))
    bodies, answers = recorded(only, YES)
    with serving(*answers) as (model, _):
        assert list(model.stream(QUESTION, Cancellation())) == [THINKING, "Yes."]
    assert int(bodies[1]["max_tokens"]) > 10 * int(bodies[0]["max_tokens"])
    bodies, answers = recorded(only)
    with serving(*answers) as (model, _):
        assert list(model.stream(QUESTION, Cancellation())) == [THINKING, THINKING]
    assert len(bodies) == 2


def test_an_answer_that_is_put_among_the_thoughts_is_taken() -> None:
    lines = [delta(reasoning_content="Yes."), chunk(delta={}, finish_reason="stop")]
    assert answered(*lines) == [THINKING, "Yes.", Finish.STOP]


def test_a_template_that_opens_the_thought_is_noticed() -> None:
    """The first reply shows it, at warm-up; from then on none is taken for an answer."""
    thought = send_events(text("Hm, yes.\n"), text("</think>\n\nYes."), "data: [DONE]")
    plain = send_events(text("Yes."), chunk(delta={}, finish_reason="stop"))
    with serving(thought, thought, plain) as (model, _):
        model.warm_up()
        pieces = list(model.stream(QUESTION, Cancellation()))
        assert clean("".join(pieces[:2]), complete=False).text == ""
        assert clean("".join(pieces), complete=True).text == "Yes."
        # It may also answer at once: that is said whole.
        pieces = list(model.stream(QUESTION, Cancellation()))
        assert clean("".join(pieces), complete=True).text == "Yes."


def test_a_model_for_conversation_is_chosen() -> None:
    names = ["nomic-embed-text", "bge-m3", "whisper-1", "qwen3", "llama3"]
    bodies, answers = recorded(YES)
    with serving(*answers, models=names) as (model, _):
        list(model.stream(QUESTION, Cancellation()))
    assert bodies[0]["model"] == "qwen3"


# -- settings --------------------------------------------------------------------------------------


def test_an_address_that_is_none_is_one_sentence() -> None:
    with pytest.raises(ConfigurationError, match="--openai_url"):
        load(Settings(openai_url="localhost:8000"))


def test_a_server_that_never_comes_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_api, "START_TIMEOUT", 0.3)
    with pytest.raises(ConfigurationError, match="was not ready"):
        load(settings_for(f"http://127.0.0.1:{free_port()}"))
