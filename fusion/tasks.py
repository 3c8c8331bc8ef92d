"""Tasks and threads that are somebody's.

An exception that nobody expected ends the process, with its traceback: a restart is better than
half a service. So every task and thread of a service is made here and nowhere else, and each
handles what it expects itself. What a client's own connection raises ends that connection alone,
with close code 1011: a client may have caused it, and must not end what others use.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

logger = logging.getLogger(__name__)

_COUNT_INTERVAL = 1.0

T = TypeVar("T")

# An event loop alone forgets tasks, those of them that are just being cancelled too.
_running: set[asyncio.Task[None]] = set()


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a service's event loop until `main` returns. Raises what it raises."""

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(_unexpected)
        counting = start(_count(), "counting")
        await main
        counting.cancel()

    asyncio.run(watched())


async def _count() -> None:
    """Let a monitor see whether tasks are left behind."""
    # Imported here, as fetching models needs threads, and nothing beside the standard library.
    import multiprocessing

    from fusion import metrics

    tasks = metrics.TASKS.labels(multiprocessing.current_process().name)
    while True:
        tasks.set(len(asyncio.all_tasks()))
        await asyncio.sleep(_COUNT_INTERVAL)


def start(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """Run `work` beside the caller, who keeps the task and cancels it in the end.

    Whatever `work` raises goes to the loop's exception handler, which ends a service's process.
    """
    task = asyncio.get_running_loop().create_task(work, name=name)
    _running.add(task)
    task.add_done_callback(_end_of_task)
    return task


async def first_of(*works: Coroutine[Any, Any, object]) -> None:
    """Run coroutines together until one of them ends, and cancel the others.

    Raises what any of them raised. A cancellation of the caller is one of them all.
    """
    tasks = [asyncio.get_running_loop().create_task(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


def thread(name: str, work: Callable[..., object], *args: object) -> threading.Thread:
    """Make a daemon thread, for the caller to start. Whatever `work` raises ends the process."""
    return threading.Thread(target=work, name=name, args=args, daemon=True)


def timer(seconds: float, work: Callable[[], object]) -> threading.Timer:
    """Make a timer, for the caller to start and perhaps to cancel. Likewise."""
    result = threading.Timer(seconds, work)
    result.daemon = True
    return result


async def in_thread(name: str, work: Callable[[], T]) -> T:
    """Wait for `work` in a daemon thread of its own, and return or raise what it does.

    Unlike `asyncio.to_thread`, nothing waits for the thread when the event loop ends.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def finish(error: Exception | None, result: T | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def in_its_thread() -> None:
        error, result = None, None
        try:
            result = work()
        except Exception as raised:  # noqa: BLE001 - it is raised where the result is awaited
            error = raised
        call_in(loop, finish, error, result)

    thread(name, in_its_thread).start()
    return await future


def call_in(
    loop: asyncio.AbstractEventLoop, function: Callable[..., object], *args: object
) -> None:
    """Call `function` in an event loop, from any thread; do nothing once the loop has ended."""
    try:
        loop.call_soon_threadsafe(function, *args)
    except RuntimeError:
        if not loop.is_closed():
            raise


def end_process(error: BaseException, where: str) -> NoReturn:
    """End this process at once: something is broken in it, and nobody knows what else is."""
    logger.critical("ended by an error in its %s", where, exc_info=error)
    logging.shutdown()
    os._exit(1)


def end_process_for_thread(failure: threading.ExceptHookArgs) -> None:
    """For `threading.excepthook` of a service."""
    assert failure.exc_value is not None
    end_process(failure.exc_value, failure.thread.name if failure.thread else "thread")


def _end_of_task(task: asyncio.Task[None]) -> None:
    _running.discard(task)
    if task.cancelled() or (error := task.exception()) is None:
        return
    context = {"message": f"an error in {task.get_name()}", "exception": error, "task": task}
    task.get_loop().call_exception_handler(context)


def _unexpected(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The event loop's exception handler in a service."""
    error = context.get("exception")
    # What a socket or its transport reports is one connection's trouble, which it ends itself.
    if error is None or "transport" in context or "socket" in context:
        loop.default_exception_handler(context)
        return
    task = context.get("task")
    end_process(error, task.get_name() if task is not None else "event loop")
