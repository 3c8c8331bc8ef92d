"""An OpenAI-compatible server: the real llama-server, and those that misbehave."""

from __future__ import annotations

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler

import pytest

from fusion.errors import ConfigurationError, ModelError
from fusion.settings import Settings
from language_models import openai_api, openai_tokens
from language_models.base import Cancellation, ChatMessage, GenerationRequest
from language_models.openai_api import OpenAIServer, load
from tests.language_model_contract import LanguageModelContract
from tests.model_servers import ANSWER, Model, StandIn, lm_studio, ollama
from tests.openai_api.conftest import (
    COUNTING,
    QUESTION,
    Answer,
    LlamaServer,
    send_events,
    send_json,
    serving,
    settings_for,
    text,
    wait_until_idle,
)

# -- the real server ------------------------------------------------------------------------------


def test_a_reply_comes_in_pieces(model: OpenAIServer) -> None:
    pieces = list(model.stream(QUESTION, Cancellation()))
    assert len(pieces) >= 4
    assert "Paris" in "".join(pieces)


def test_the_servers_first_model_is_taken(model: OpenAIServer) -> None:
    assert "SmolLM2-135M-Instruct" in model.name


def test_cancelling_stops_the_server(model: OpenAIServer, server: LlamaServer) -> None:
    cancellation = Cancellation()
    pieces = []
    for piece in model.stream(COUNTING, cancellation):
        pieces.append(piece)
        if len(pieces) == 3:
            assert server.busy_slots() == 1
            cancellation.request()
    assert len(pieces) == 3
    wait_until_idle(server, 5)


def test_cancelling_ends_the_wait_for_the_first_token(
    model: OpenAIServer, server: LlamaServer
) -> None:
    long = "The ferry crosses the river every hour of the day. " * 50
    request = GenerationRequest((ChatMessage("user", long),), 10)
    cancellation = Cancellation()
    threading.Timer(0.15, cancellation.request).start()
    started = time.monotonic()
    assert list(model.stream(request, cancellation)) == []
    assert time.monotonic() - started < 2.0
    # llama-server reads such a prompt to its end before it sees that nobody listens: the next
    # test gets a server at rest, on a slow machine too.
    wait_until_idle(server, 120)


def test_closing_the_stream_early_stops_the_server(
    model: OpenAIServer, server: LlamaServer
) -> None:
    stream = model.stream(COUNTING, Cancellation())
    next(stream)
    stream.close()
    wait_until_idle(server, 5)


def test_tokens_are_counted_by_the_server(model: OpenAIServer) -> None:
    one = model.count_tokens([ChatMessage("user", "Hello")])
    assert model.count_tokens([ChatMessage("user", "Hello there my friend")]) == one + 3


def test_killed_and_restarted_under_a_reply(server: LlamaServer) -> None:
    model = load(settings_for(server.address))
    stream = model.stream(COUNTING, Cancellation())
    next(stream)
    server.kill()
    with pytest.raises(ModelError, match="broke off"):
        list(stream)
    with pytest.raises(ModelError, match="cannot be reached"):
        list(model.stream(QUESTION, Cancellation()))
    server.start()
    server.wait()
    assert "Paris" in "".join(model.stream(QUESTION, Cancellation()))
    model.close()


def test_loading_waits_for_a_server_that_starts(server: LlamaServer) -> None:
    server.kill()
    timer = threading.Timer(0.5, server.start)
    timer.start()
    model = load(settings_for(server.address))
    timer.join()
    server.wait()
    assert "Paris" in "".join(model.stream(QUESTION, Cancellation()))
    model.close()


def test_a_wrong_key_is_refused_in_one_sentence(server: LlamaServer) -> None:
    model = OpenAIServer(Settings(openai_url=f"{server.address}/v1", openai_api_key="wrong"))
    with pytest.raises(ModelError, match="openai_api_key"):
        list(model.stream(QUESTION, Cancellation()))
    model.close()


class TestContract(LanguageModelContract):
    library = "openai_api"


# -- servers that misbehave ------------------------------------------------------------------------


def drop(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection without a word."""
    handler.connection.shutdown(socket.SHUT_RDWR)


def test_events_that_make_no_sense_are_passed_over() -> None:
    odd = (
        ": a comment",
        "event: ping",
        "data: {not json",
        "data: 7",
        'data: {"choices": []}',
        'data: {"choices": [{"delta": null}]}',
        'data: {"choices": [{"delta": {"content": null}}]}',
    )
    with serving(send_events(text("Zwölf "), *odd, text("🎉"), "data:[DONE]")) as (model, _):
        assert list(model.stream(QUESTION, Cancellation())) == ["Zwölf ", "🎉"]


@pytest.mark.parametrize("trouble", [drop, send_json(503, {}), send_json(429, {})])
def test_trouble_before_the_first_text_is_tried_again(trouble: Answer) -> None:
    good = send_events(text("Yes."), "data: [DONE]")
    with serving(trouble, trouble, good) as (model, asked):
        assert list(model.stream(QUESTION, Cancellation())) == ["Yes."]
        assert len(asked) == 3


def test_trouble_that_stays_is_an_error_after_three_tries() -> None:
    with serving(send_json(503, {})) as (model, asked):
        with pytest.raises(ModelError, match="overloaded"):
            list(model.stream(QUESTION, Cancellation()))
        assert len(asked) == 3


def test_trouble_after_the_first_text_is_never_tried_again() -> None:
    with serving(send_events(text("Yes"))) as (model, asked):
        stream = model.stream(QUESTION, Cancellation())
        assert next(stream) == "Yes"
        with pytest.raises(ModelError, match="broke off"):
            next(stream)
        assert len(asked) == 1


def test_another_model_after_a_restart_is_asked_for() -> None:
    models, seen = ["first"], []

    def good(handler: BaseHTTPRequestHandler) -> None:
        seen.append(handler.body["model"])  # type: ignore[attr-defined]
        send_events(text("Yes."), "data: [DONE]")(handler)

    with serving(good, drop, drop, drop, good, models=models) as (model, _):
        list(model.stream(QUESTION, Cancellation()))
        models[0] = "second"
        with pytest.raises(ModelError, match="cannot be reached"):
            list(model.stream(QUESTION, Cancellation()))
        list(model.stream(QUESTION, Cancellation()))
    assert seen == ["first", "second"]


def test_a_refusal_is_not_tried_again() -> None:
    with serving(send_json(400, {"error": "no"})) as (model, asked):
        with pytest.raises(ModelError, match="status 400; it says “no”"):
            list(model.stream(QUESTION, Cancellation()))
        # Once more without what not every server knows, and that is all.
        assert len(asked) == 2
        with pytest.raises(ModelError, match="status 400"):
            list(model.stream(QUESTION, Cancellation()))
        assert len(asked) == 3


def test_an_error_in_the_stream_ends_it() -> None:
    with (
        serving(send_events('data: {"error": {"message": "out of memory"}}')) as (model, _),
        pytest.raises(ModelError, match="failed while it answered"),
    ):
        list(model.stream(QUESTION, Cancellation()))


def test_a_server_that_falls_silent_is_an_error() -> None:
    with serving(send_events(then_sleep=1.5)) as (model, asked):
        with pytest.raises(ModelError, match="sent nothing"):
            list(model.stream(QUESTION, Cancellation()))
        assert len(asked) == 1


def test_cancelling_ends_a_wait_for_the_server() -> None:
    cancellation = Cancellation()
    with serving(send_events(text("Yes"), then_sleep=2.0)) as (model, _):
        stream = model.stream(QUESTION, cancellation)
        assert next(stream) == "Yes"
        threading.Timer(0.05, cancellation.request).start()
        started = time.monotonic()
        assert list(stream) == []
        assert time.monotonic() - started < 0.4  # well before reply_timeout


def test_cancelling_ends_the_pause_between_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_api, "BACKOFF", (30.0,))
    cancellation = Cancellation()

    def busy(handler: BaseHTTPRequestHandler) -> None:
        threading.Timer(0.2, cancellation.request).start()
        send_json(503, {})(handler)

    started = time.monotonic()
    with serving(busy) as (model, asked):
        assert list(model.stream(QUESTION, cancellation)) == []
        assert len(asked) == 1
    assert time.monotonic() - started < 15


def test_without_tokenize_the_length_is_estimated() -> None:
    with serving(send_json(404, {})) as (model, asked):
        messages = [ChatMessage("user", "a" * 30)]
        assert model.count_tokens(messages) == 10 + openai_tokens.TEMPLATE_TOKENS
        assert model.count_tokens([*messages, *messages]) == 20 + 2 * openai_tokens.TEMPLATE_TOKENS
        assert asked == ["/tokenize"]


def test_a_count_that_does_not_come_in_time_is_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_tokens, "COUNT_TIMEOUT", 0.2)

    def slow(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(0.4)
        send_json(200, {"count": 17})(handler)

    with serving(slow, send_json(503, {}), send_json(200, {"count": 17})) as (model, asked):
        estimates = [model.count_tokens([ChatMessage("user", "a" * n)]) for n in (30, 60)]
        assert estimates == [10 + openai_tokens.TEMPLATE_TOKENS, 20 + openai_tokens.TEMPLATE_TOKENS]
        assert model.count_tokens([ChatMessage("user", "Hello")]) == 17, "it was asked again"
        assert len(asked) == 3


def test_a_count_of_the_server_is_believed() -> None:
    with serving(send_json(200, {"count": 17})) as (model, _):
        assert model.count_tokens([ChatMessage("user", "Hello")]) == 17


def test_a_model_that_is_not_there_is_answered_with_those_that_are() -> None:
    for kind in (ollama, lm_studio):
        with StandIn(kind, (Model("gemma3:4b"), Model("qwen3:4b"))) as stand_in:
            settings = Settings(openai_url=f"{stand_in.base}/v1", openai_model="qwen9")
            model = load(settings)
            with pytest.raises(
                ConfigurationError,
                match=r"know the model 'qwen9' \(it has gemma3:4b, qwen3:4b: see --openai_model\)",
            ):
                model.warm_up()
            model.close()


def test_a_server_that_goes_away_is_named_and_comes_back_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # it would be asked for its own machine
    stand_in = StandIn(ollama).start()
    model = load(Settings(openai_url=f"{stand_in.base}/v1", openai_model="qwen3:4b"))
    model.warm_up()
    stand_in.stop()
    with pytest.raises(
        ModelError, match=rf"server at {stand_in.base}/v1 cannot be reached .*: start it again"
    ):
        list(model.stream(QUESTION, Cancellation()))
    with stand_in:
        assert "".join(map(str, model.stream(QUESTION, Cancellation()))) == "".join(ANSWER)
    model.close()


def test_a_busy_server_is_no_server_that_is_away() -> None:
    with (
        serving(send_json(503, {})) as (model, _),
        pytest.raises(ModelError, match="is overloaded"),
    ):
        list(model.stream(QUESTION, Cancellation()))
