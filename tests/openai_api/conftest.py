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

from fusion.models import lookup
from fusion.settings import Settings
from language_models import openai_api
from language_models.base import ChatMessage, GenerationRequest
from language_models.openai_api import OpenAIServer, load

KEY = "a key for tests"
SYSTEM = ChatMessage("system", Settings().system_prompt)
QUESTION = GenerationRequest((SYSTEM, ChatMessage("user", "What is the capital of France?")), 24)
# Long whatever the default prompt says: it has none.
COUNTING = GenerationRequest((ChatMessage("user", "Tell me a very long story."),), 400)


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
            cwd=Path(__file__).parents[2],
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
