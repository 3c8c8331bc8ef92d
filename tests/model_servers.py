"""Stand-ins for the model servers that people run: their identities, models and answers by HTTP."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.running import free_ports

ANSWER = ("It was ", "the stand-in ", "that answered.")


@dataclass
class Model:
    """A model of a stand-in: what it is for, and whether it is in memory."""

    name: str
    chats: bool = True
    loaded: bool = False
    remote: bool = False


EMBEDDER = Model("nomic-embed-text:latest", chats=False)

Get = Callable[["StandIn", str], Any]
"""What a server answers to a path; None for 404."""


def ollama(server: StandIn, path: str) -> Any:
    if path == "/api/version":
        return {"version": "0.13.1"}
    if path == "/api/tags":
        remote = {"remote_model": "big", "remote_host": "https://ollama.com:443"}
        return {
            "models": [
                {"name": each.name, "model": each.name, "size": 1, "details": {"format": "gguf"}}
                | (remote if each.remote else {})
                for each in server.models
            ]
        }
    if path == "/api/ps":
        return {"models": [{"name": each.name} for each in server.models if each.loaded]}
    return None


def lm_studio(server: StandIn, path: str) -> Any:
    if path == "/api/v1/models":
        return {
            "models": [
                {
                    "type": "llm" if each.chats else "embedding",
                    "key": each.name,
                    "loaded_instances": [{"id": each.name}] if each.loaded else [],
                }
                for each in server.models
            ]
        }
    return None


def old_lm_studio(server: StandIn, path: str) -> Any:
    if path == "/api/v0/models":
        data = [
            {
                "id": each.name,
                "object": "model",
                "type": "llm" if each.chats else "embeddings",
                "state": "loaded" if each.loaded else "not-loaded",
            }
            for each in server.models
        ]
        return {"object": "list", "data": data}
    # Whatever it does not know, it answers with status 200.
    return {"error": f"Unexpected endpoint or method. (GET {path})"}


def llama_cpp(server: StandIn, path: str) -> Any:
    if path == "/props":
        return {"default_generation_settings": {"n_ctx": 4096}, "total_slots": 1}
    return {"status": "ok"} if path == "/health" else None


def vllm(server: StandIn, path: str) -> Any:
    return {"version": "0.11.2"} if path == "/version" else None


OWNERS = {ollama: "library", llama_cpp: "llamacpp", vllm: "vllm"}


@dataclass
class StandIn:
    """One server on a port of its own; `start` and `stop` it as often as you like."""

    kind: Get
    models: Sequence[Model] = (Model("qwen3:4b"),)
    port: int = field(default_factory=lambda: free_ports(1)[0])
    delay: float = 0.0
    asked: list[Mapping[str, Any]] = field(default_factory=list)
    """The chat requests that came."""

    def __post_init__(self) -> None:
        self._server: ThreadingHTTPServer | None = None

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> StandIn:
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> StandIn:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def get(self, path: str) -> Any:
        time.sleep(self.delay)
        if path == "/v1/models":
            owner = OWNERS.get(self.kind, "organization_owner")
            listed = [{"id": each.name, "owned_by": owner} for each in self.models]
            return {"object": "list", "data": listed}
        return self.kind(self, path)

    def show(self, name: str) -> Any:
        """What Ollama tells of a model."""
        found = next((each for each in self.models if each.name == name), None)
        if self.kind is not ollama or found is None:
            return None
        return {"capabilities": ["completion"] if found.chats else ["embedding"]}


def handler(stand_in: StandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send(stand_in.get(self.path))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/api/show":
                self.send(stand_in.show(body["model"]))
            elif self.path == "/v1/chat/completions":
                stand_in.asked.append(body)
                self.chat(body)
            else:
                self.send(None)

        def chat(self, body: Mapping[str, Any]) -> None:
            if body["model"] not in [each.name for each in stand_in.models]:
                message = f"model '{body['model']}' not found"
                status = 400 if stand_in.kind in (lm_studio, old_lm_studio) else 404
                self.send({"error": {"message": message}}, status)
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            for text in ANSWER:
                self.event({"choices": [{"delta": {"content": text}, "finish_reason": None}]})
            self.event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
            self.wfile.write(b"data: [DONE]\n\n")

        def event(self, value: object) -> None:
            self.wfile.write(b"data: " + json.dumps(value).encode() + b"\n\n")
            self.wfile.flush()

        def send(self, value: Any, status: int = 200) -> None:
            content = json.dumps({"error": "not found"} if value is None else value).encode()
            self.send_response(404 if value is None else status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    return Handler
