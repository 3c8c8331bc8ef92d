"""The OpenAI-compatible client: against llama.cpp's real server, and against bad ones."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from fusion.errors import ConfigurationError, ModelError
from fusion.models import lookup
from fusion.settings import Settings
from language_models import openai_api
from language_models.base import Cancellation, ChatMessage, GenerationRequest
from language_models.openai_api import OpenAIServer, load

KEY = "a key for tests"
SYSTEM = ChatMessage("system", Settings().system_prompt)
QUESTION = GenerationRequest((SYSTEM, ChatMessage("user", "What is the capital of France?")), 24)
COUNTING = GenerationRequest((SYSTEM, ChatMessage("user", "Count from one to one hundred.")), 400)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class LlamaServer:
    """The real server, as a process that can be killed and started again on the same port."""

    def __init__(self) -> None:
        defaults = Settings()
        self._path = lookup.fetch("smollm2-135m", defaults.cache_folder)
        self._port = free_port()
        self._process: subprocess.Popen[str] | None = None
        self.address = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.llama_server", str(self._path), str(self._port), KEY],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == self.address

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate(timeout=10)
            self._process = None

    def busy_slots(self) -> int:
        answer = httpx.get(f"{self.address}/slots", headers={"Authorization": f"Bearer {KEY}"})
        return sum(slot["is_processing"] for slot in answer.json())


@pytest.fixture(scope="module")
def server() -> Iterator[LlamaServer]:
    server = LlamaServer()
    server.start()
    server.wait()
    yield server
    server.kill()


@pytest.fixture(autouse=True)
def quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_api, "START_POLL", 0.1)
    monkeypatch.setattr(openai_api, "BACKOFF", (0.05, 0.1))


def settings_for(address: str, **others: object) -> Settings:
    return Settings(openai_url=f"{address}/v1", openai_api_key=KEY, **others)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def model(server: LlamaServer) -> Iterator[OpenAIServer]:
    model = load(settings_for(server.address))
    assert isinstance(model, OpenAIServer)
    yield model
    model.close()


def wait_until_idle(server: LlamaServer, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while server.busy_slots():
        assert time.monotonic() < deadline, "the server still generates"
        time.sleep(0.05)


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
    long = "The ferry crosses the river every hour of the day. " * 100
    request = GenerationRequest((ChatMessage("user", long),), 10)
    cancellation = Cancellation()
    threading.Timer(0.3, cancellation.request).start()
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


# -- servers that misbehave ------------------------------------------------------------------------


Answer = Callable[[BaseHTTPRequestHandler], None]


@contextlib.contextmanager
def serving(
    *answers: Answer, models: Sequence[str] = ("model",)
) -> Iterator[tuple[OpenAIServer, list[str]]]:
    """A server that gives these answers, one a request, the last one for ever."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            send_json(200, {"data": [{"id": name} for name in models]})(self)

        def do_POST(self) -> None:
            self.body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(self.path)
            answers[min(len(asked), len(answers)) - 1](self)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    model = OpenAIServer(settings_for(f"http://127.0.0.1:{server.server_port}", reply_timeout=0.5))
    try:
        yield model, asked
    finally:
        model.close()
        server.shutdown()
        server.server_close()
        thread.join(5)


def send_json(status: int, body: object) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.end_headers()
        handler.wfile.write(json.dumps(body).encode())

    return answer


def send_events(*lines: str, then_sleep: float = 0.0) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        for line in lines:
            handler.wfile.write(line.encode() + b"\n\n")
            handler.wfile.flush()
        time.sleep(then_sleep)

    return answer


def text(content: str) -> str:
    return "data: " + json.dumps({"choices": [{"delta": {"content": content}}]})


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
        'data: {"choices": [{"delta": {"content": null, "reasoning_content": "hm"}}]}',
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
        with pytest.raises(ModelError, match="status 400"):
            list(model.stream(QUESTION, Cancellation()))
        assert len(asked) == 1


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
        assert model.count_tokens(messages) == 10 + openai_api.TEMPLATE_TOKENS
        assert model.count_tokens([*messages, *messages]) == 20 + 2 * openai_api.TEMPLATE_TOKENS
        assert asked == ["/tokenize"]


def test_a_count_that_does_not_come_in_time_is_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_api, "COUNT_TIMEOUT", 0.2)

    def slow(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(0.4)
        send_json(200, {"count": 17})(handler)

    with serving(slow, send_json(503, {}), send_json(200, {"count": 17})) as (model, asked):
        estimates = [model.count_tokens([ChatMessage("user", "a" * n)]) for n in (30, 60)]
        assert estimates == [10 + openai_api.TEMPLATE_TOKENS, 20 + openai_api.TEMPLATE_TOKENS]
        assert model.count_tokens([ChatMessage("user", "Hello")]) == 17, "it was asked again"
        assert len(asked) == 3


def test_a_count_of_the_server_is_believed() -> None:
    with serving(send_json(200, {"count": 17})) as (model, _):
        assert model.count_tokens([ChatMessage("user", "Hello")]) == 17


# -- settings --------------------------------------------------------------------------------------


def test_an_address_that_is_none_is_one_sentence() -> None:
    with pytest.raises(ConfigurationError, match="--openai_url"):
        load(Settings(openai_url="localhost:8000"))


def test_a_server_that_never_comes_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_api, "START_TIMEOUT", 0.3)
    with pytest.raises(ConfigurationError, match="was not ready"):
        load(settings_for(f"http://127.0.0.1:{free_port()}"))
