"""Tasks and threads: what becomes of what they raise, and that none is made elsewhere."""

from __future__ import annotations

import ast
import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fusion import tasks
from fusion.errors import ModelError

ROOT = Path(__file__).parent.parent
PACKAGES = ("fusion", "language_models", "realtime", "voices", "whisper_live", "wyoming_server")
SERVICES = (*PACKAGES, "llm_service.py", "tts_service.py", "web_service.py")

# The client's library runs in other people's programs, which it must not end: it awaits its tasks.
ELSEWHERE = ROOT / "whisper_live" / "client"

MAKERS = {"create_task", "ensure_future", "Thread", "Timer", "TaskGroup", "to_thread"}
FUTURES = {"run_in_executor"}


def modules() -> Iterator[Path]:
    for name in SERVICES:
        path = ROOT / name
        yield from [path] if path.is_file() else sorted(path.rglob("*.py"))


def lost_work(source: str) -> list[int]:
    """Lines that make a task or a thread themselves, or throw the future of one away."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        dropped = isinstance(node, ast.Expr)
        call = node.value if isinstance(node, ast.Expr) else node
        if isinstance(call, ast.Call):
            name = getattr(call.func, "attr", getattr(call.func, "id", ""))
            if name in MAKERS or (dropped and name in FUTURES):
                lines.append(node.lineno)
    return lines


def test_no_task_and_no_thread_is_made_elsewhere() -> None:
    makes_them = ROOT / "fusion" / "tasks.py"
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in modules()
        if path != makes_them and ELSEWHERE not in path.parents
        for line in lost_work(path.read_text())
    ]
    assert found == [], "make them with fusion.tasks, so that what they raise is seen"


@pytest.mark.parametrize(
    "line",
    [
        "asyncio.create_task(work())",
        "task = loop.create_task(work())",
        "threading.Thread(target=work).start()",
        "Thread(target=work)",
        "async def f():\n    await asyncio.to_thread(work)",
        "loop.run_in_executor(None, work)",
    ],
)
def test_the_scan_sees(line: str) -> None:
    assert lost_work(line)


def test_the_scan_lets_pass() -> None:
    assert not lost_work("tasks.start(work(), 'a'); tasks.thread('b', work).start()")
    assert not lost_work("future = loop.run_in_executor(None, work)")


async def boom(error: Exception) -> None:
    await asyncio.sleep(0)
    raise error


async def test_what_a_task_raises_goes_to_the_loop() -> None:
    seen: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.put_nowait(context))
    error = KeyError("x")
    tasks.start(boom(error), "boom")
    context = await asyncio.wait_for(seen.get(), 5)
    assert context["exception"] is error
    assert context["message"] == "an error in boom"


async def test_a_cancelled_task_is_no_error() -> None:
    seen: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))
    task = tasks.start(asyncio.Event().wait(), "waits")  # type: ignore[arg-type]
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    await asyncio.sleep(0)
    assert seen == []


async def test_the_first_that_ends_ends_the_others() -> None:
    ended = []

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("endless")

    await tasks.first_of(endless(), asyncio.sleep(0.01))
    assert ended == ["endless"]
    with pytest.raises(ModelError):
        await tasks.first_of(endless(), boom(ModelError("no")))
    both = asyncio.ensure_future(tasks.first_of(endless(), endless()))
    await asyncio.sleep(0.01)
    both.cancel()
    with pytest.raises(asyncio.CancelledError):
        await both
    assert ended == ["endless"] * 4


async def test_a_call_in_a_thread_returns_and_raises() -> None:
    name = await tasks.in_thread("loader", lambda: threading.current_thread().name)
    assert name == "loader"
    with pytest.raises(ModelError, match="no memory"):
        await tasks.in_thread("loader", lambda: asyncio.run(boom(ModelError("no memory"))))


def test_a_call_into_a_loop_that_has_ended_does_nothing() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    tasks.call_in(loop, pytest.fail)


PROGRAM = """
import asyncio, logging, threading
from fusion import tasks
threading.excepthook = tasks.end_process_for_thread

async def boom():
    raise KeyError("unexpected")

async def raises_in_callback():
    asyncio.get_running_loop().call_soon(lambda: [][0])

async def main():
    {what}
    await asyncio.sleep(20)

tasks.run(main())
"""


@pytest.mark.parametrize(
    ("what", "where"),
    [
        ("task = tasks.start(boom(), 'the boom task')", "the boom task"),
        ("tasks.thread('the boom thread', lambda: [][0]).start()", "the boom thread"),
        ("await raises_in_callback()", "event loop"),
        ("task = asyncio.create_task(boom()); await asyncio.sleep(0.01); del task", "event loop"),
    ],
)
def test_an_error_that_nobody_expected_ends_the_process(what: str, where: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(what=what)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
    assert ended.returncode == 1
    assert f"ended by an error in its {where}" in ended.stderr
    assert "Traceback" in ended.stderr
