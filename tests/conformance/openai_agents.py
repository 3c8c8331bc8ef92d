"""openai-agents (Python): `python openai_agents.py PORT SOUNDS`."""

from __future__ import annotations

import contextlib
import importlib.metadata
import sys
from collections.abc import AsyncIterator
from typing import Any

from agents import FunctionTool
from agents.realtime import RealtimeAgent, RealtimeRunner
from agents.realtime.model_inputs import RealtimeModelSendRawMessage
from scenarios import INSTRUCTIONS, LAMP, LAMP_SAYS, RATE, Client, beside, run


class OpenAIAgents(Client):
    """A RealtimeSession. It interrupts and truncates by itself, going by what it received."""

    @contextlib.asynccontextmanager
    async def connected(self, *, listens: bool, tools: bool) -> AsyncIterator[None]:
        lamp = FunctionTool("turn_on_lamp", "Turn on the lamp of a room.", LAMP, self._lamp)
        agent = RealtimeAgent(name="a", instructions=INSTRUCTIONS, tools=[lamp] if tools else [])
        detection = {"type": "server_vad"} if listens else None
        transcription = {"model": "whisper-1"}
        audio = {"input": {"transcription": transcription, "turn_detection": detection}}
        settings: Any = {"audio": audio}
        runner = RealtimeRunner(
            agent, config={"model_settings": settings, "tracing_disabled": True}
        )
        url = f"ws://127.0.0.1:{self.port}/v1/realtime?model=x"
        self._session = await runner.run(model_config={"api_key": "x", "url": url})
        async with self._session, beside(self._follow()):
            yield

    async def _lamp(self, _: Any, arguments: str) -> str:
        self.log.calls.append(arguments)
        self.log.note()
        return LAMP_SAYS

    async def _follow(self) -> None:
        async for event in self._session:
            if event.type == "audio":
                self.log.seconds += len(event.audio.data) / (2 * RATE)
            elif event.type == "audio_interrupted":
                self.log.interruptions += 1
            elif event.type == "error":
                self.log.errors.append(str(event.error))
            elif event.type == "raw_model_event":
                self._raw(event.data)
            self.log.note()

    def _raw(self, event: Any) -> None:
        if event.type == "input_audio_transcription_completed":
            self.log.said.append(event.transcript)
        elif event.type == "exception":
            self.log.errors.append(f"{event.context}: {event.exception!r}")
        elif event.type == "raw_server_event":
            self.log.events += 1
            if event.data["type"] == "response.done":
                items = event.data["response"]["output"]
                parts = [part for item in items for part in item.get("content", ())]
                self.log.replies.append(" ".join(part["transcript"] for part in parts))

    async def append(self, sound: bytes) -> None:
        await self._session.send_audio(sound)

    async def commit(self) -> None:
        await self._session.send_audio(bytes(2), commit=True)
        await self._send({"type": "response.create"})

    async def types(self, text: str) -> None:
        await self._session.send_message(text)

    async def blunder(self) -> None:
        await self._send({"type": "conversation.item.delete", "other_data": {"item_id": "nobody"}})

    async def _send(self, message: Any) -> None:
        await self._session.model.send_event(RealtimeModelSendRawMessage(message=message))


if __name__ == "__main__":
    version = importlib.metadata.version("openai-agents")
    sys.exit(run(f"openai-agents {version}", OpenAIAgents))
