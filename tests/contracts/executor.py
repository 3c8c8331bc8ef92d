"""`tensorrt_llm.bindings.executor` of 0.10.0, playing scripts instead of an engine."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pytest

from tests.contracts.contract import Contract

FILE = Path(__file__).with_name("tensorrt_llm-0.10.0.json")
PREFIX = "tensorrt_llm.bindings.executor"


@dataclass
class Script:
    """What the engine answers to one request.

    Each of `pieces` is one response's new token ids; the last one is final. With an `error` the
    response after the pieces is that error. From piece `held_from` on it waits for `release`.
    """

    pieces: list[list[int]] = field(default_factory=list)
    error: str = ""
    on_cancel: Literal["final", "silent"] = "final"
    held_from: int | None = None
    release: threading.Event = field(default_factory=threading.Event)


class Result:
    def __init__(self, ids: list[int], is_final: bool) -> None:
        self.output_token_ids = [ids]
        self.is_final = is_final


class Response:
    def __init__(self, request_id: int, result: Result | None, error: str = "") -> None:
        self.request_id = request_id
        self.error_msg = error
        self._result = result

    def has_error(self) -> bool:
        return self._result is None

    @property
    def result(self) -> Result:
        if self._result is None:
            raise RuntimeError("the result of a response with an error was touched")
        return self._result


@dataclass
class _Run:
    script: Script
    position: int = 0


class Player:
    """The state of the stand-in: which scripts come next and what runs."""

    def __init__(self) -> None:
        self.contract = Contract(FILE)
        self.scripts: deque[Script] = deque()
        self.otherwise: Callable[[Any], Script] | None = None
        self.refusal = ""
        self.refuses: type[Exception] = RuntimeError
        self.death = ""
        self.enqueue_seconds = 0.0
        self.most_at_once = 0
        self._condition = threading.Condition()
        self._runs: dict[int, _Run] = {}
        self._answers: list[Response] = []
        self._last_id = 0
        assert {"is_final", "output_token_ids"} <= self.contract.attributes(f"{PREFIX}.Result")
        used = {"request_id", "has_error", "error_msg", "result"}
        assert used == self.contract.attributes(f"{PREFIX}.Response")

    def open(self, **_: Any) -> None:
        if self.refusal:
            raise self.refuses(self.refusal)

    def enqueue(self, request: Any) -> int:
        with self._condition:
            self._last_id += 1
            scripted = self.scripts or self.otherwise is None
            script = self.scripts.popleft() if scripted else self.otherwise(request)
            self._runs[self._last_id] = _Run(script)
            self.most_at_once = max(self.most_at_once, len(self._runs))
            self._condition.notify_all()
            request_id = self._last_id
        time.sleep(self.enqueue_seconds)
        return request_id

    def responses(self, timeout: timedelta | None = None) -> list[Response]:
        if timeout is None:
            raise AssertionError("await_responses without a timeout waits for ever")
        deadline = time.monotonic() + timeout.total_seconds()
        with self._condition:
            while True:
                if self.death:
                    raise RuntimeError(self.death)
                ready, self._answers = self._answers, []
                ready += [r for i in list(self._runs) if (r := self._step(i)) is not None]
                left = deadline - time.monotonic()
                if ready or left <= 0:
                    return ready
                self._condition.wait(min(left, 0.01))

    def cancel(self, id: int) -> None:
        with self._condition:
            run = self._runs.pop(id, None)
            if run is not None and run.script.on_cancel == "final":
                self._answers.append(Response(id, Result([], True)))

    def _step(self, request_id: int) -> Response | None:
        """The next response of one request: all requests go one token further at a time."""
        run = self._runs[request_id]
        script = run.script
        held = script.held_from is not None and run.position >= script.held_from
        if held and not script.release.is_set():
            return None
        if run.position == len(script.pieces) and script.error:
            del self._runs[request_id]
            return Response(request_id, None, script.error)
        if run.position == len(script.pieces):
            return None
        ids = script.pieces[run.position]
        run.position += 1
        final = run.position == len(script.pieces) and not script.error
        if final:
            del self._runs[request_id]
        return Response(request_id, Result(ids, final))


def install(monkeypatch: pytest.MonkeyPatch) -> Player:
    """Put the stand-in where `import tensorrt_llm.bindings.executor` finds it."""
    player = Player()
    contract = player.contract
    module = ModuleType(PREFIX)
    for name in ("Request", "SamplingConfig", "OutputConfig", "KvCacheConfig", "ExecutorConfig"):
        setattr(module, name, contract.value_class(f"{PREFIX}.{name}"))
    module.ModelType = contract.enumeration(f"{PREFIX}.enums", "ModelType")  # type: ignore[attr-defined]
    methods = {
        "__init__": player.open,
        "enqueue_request": player.enqueue,
        "await_responses": player.responses,
        "cancel_request": player.cancel,
        "shutdown": lambda: None,
    }
    module.Executor = type(  # type: ignore[attr-defined]
        "Executor",
        (),
        {
            name: _method(contract.function(f"{PREFIX}.Executor.{name}", behaviour))
            for name, behaviour in methods.items()
        },
    )
    package, bindings = ModuleType("tensorrt_llm"), ModuleType("tensorrt_llm.bindings")
    package.bindings, bindings.executor = bindings, module  # type: ignore[attr-defined]
    for part in (package, bindings, module):
        monkeypatch.setitem(sys.modules, part.__name__, part)
    return player


def _method(function: Any) -> Any:
    return lambda self, *args, **kwargs: function(*args, **kwargs)
