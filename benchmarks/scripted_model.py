"""A model server that shows what it is asked: every prompt is kept, every answer is another.

It speaks as much of OpenAI's protocol as `--llm_backend openai_api` needs. What a real model makes
of a prompt says little about what was in it; this one says all.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_PAUSE = 0.02  # seconds between two words
_ENDINGS = ("It is known by few.", "Ask me for more, if you like.", "Many have said so before me.")


class ScriptedModel:
    """Serves in a thread. `prompts` are the messages of each request and when it came."""

    def __init__(self) -> None:
        self.prompts: list[tuple[float, list[dict[str, str]]]] = []
        self._numbers = itertools.count(1)
        script = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._send("application/json", json.dumps({"data": [{"id": "scripted"}]}))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if not self.path.endswith("/chat/completions"):
                    self.send_error(404)
                    return
                script.prompts.append((time.monotonic(), body["messages"]))
                try:
                    self._send("text/event-stream", "")
                    for word in script._answer():
                        chunk: dict[str, Any] = {"delta": {"content": word}}
                        self._event({"choices": [chunk]})
                        time.sleep(_PAUSE)
                    self._event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
                    self.wfile.write(b"data: [DONE]\n\n")
                except OSError:
                    self.close_connection = True  # whoever asked is gone

            def _send(self, kind: str, text: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.end_headers()
                self.wfile.write(text.encode())

            def _event(self, fields: dict[str, Any]) -> None:
                self.wfile.write(b"data: " + json.dumps(fields).encode() + b"\n\n")
                self.wfile.flush()

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> ScriptedModel:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _answer(self) -> list[str]:
        number = next(self._numbers)
        # The number first: answers that are cut alike would count as a repetition.
        text = f"{number} is the number of this answer. {_ENDINGS[number % len(_ENDINGS)]}"
        return [f"{word} " for word in text.split()]
