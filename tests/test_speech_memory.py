"""What a session leaves behind in the speech server: none of its sound."""

from __future__ import annotations

import asyncio
import gc

from tests.test_speech_server import Running, messages_until, running
from voices.sending import SpeechSession
from voices.speech import Speech

__all__ = ["running"]


async def test_sessions_that_have_ended_leave_no_sound(running: Running) -> None:
    """Without waiting for a collection, which looks at old objects seldom."""
    gc.collect()
    gc.disable()
    try:
        for number in range(3):
            session = f"s{number}"
            await running.begin(session)
            running.reply(session, "One two three.")
            async with running.connect(f"key-{session}") as socket:
                await messages_until(socket, "reply_end")
                await asyncio.sleep(0.1)
                running.end(session)
        await asyncio.sleep(0.2)
        left = [each for each in gc.get_objects() if isinstance(each, Speech | SpeechSession)]
    finally:
        gc.enable()
    assert left == []
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "sender"]


async def test_who_waited_for_a_lost_client_ends_with_the_session(running: Running) -> None:
    await running.begin("a")
    running.reply("a", "One two three four five six seven eight nine ten, and on and on.")
    async with running.connect("key-a") as socket:
        await messages_until(socket, "clause")
        socket.transport.abort()
    await asyncio.sleep(0.3)
    running.end("a")
    await asyncio.sleep(0.2)
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "sender"]
