"""livekit-plugins-openai, without a LiveKit server: `python livekit_openai.py PORT SOUNDS`."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

from livekit import rtc
from livekit.agents import llm
from livekit.plugins.openai.realtime import RealtimeModel
from openai.types.realtime.realtime_audio_input_turn_detection import ServerVad
from scenarios import INSTRUCTIONS, LAMP, LAMP_SAYS, RATE, Client, run


class LiveKit(Client):
    """A RealtimeSession of the plugin, played as an AgentSession plays it."""

    @contextlib.asynccontextmanager
    async def connected(self, *, listens: bool, tools: bool) -> AsyncIterator[None]:
        model = RealtimeModel(
            base_url=f"http://127.0.0.1:{self.port}/v1",
            api_key="x",
            turn_detection=ServerVad(type="server_vad") if listens else None,
        )
        self._playing: tuple[str, float] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._session = session = model.session()
        session.on("generation_created", self._generated)
        session.on("input_speech_started", self._speech_started)
        session.on("input_audio_transcription_completed", self._transcribed)
        session.on("error", self._failed)
        session.on("openai_server_event_received", self._counted)
        await session.update_instructions(INSTRUCTIONS)
        if tools:
            await session.update_tools([self._lamp()])
        try:
            yield
        finally:
            await session.aclose()
            await model.aclose()
            for task in self._tasks:
                task.cancel()

    def _lamp(self) -> llm.RawFunctionTool:
        schema = {
            "name": "turn_on_lamp",
            "description": "Turn on the lamp of a room.",
            "parameters": LAMP,
        }

        async def turn_on_lamp(raw_arguments: dict[str, object]) -> str:
            return LAMP_SAYS

        return llm.function_tool(turn_on_lamp, raw_schema=schema)

    def _start(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _generated(self, generation: llm.GenerationCreatedEvent) -> None:
        self._start(self._play(generation))

    async def _play(self, generation: llm.GenerationCreatedEvent) -> None:
        words: list[str] = []
        async for message in generation.message_stream:
            _, said = await asyncio.gather(self._hear(message), self._read(message))
            words.append(said)
        async for call in generation.function_stream:
            self.log.calls.append(call.arguments)
            self._start(self._answer(call))
        self.log.replies.append(" ".join(words))
        self.log.note()

    async def _hear(self, message: Any) -> None:
        async for frame in message.audio_stream:
            if self._playing is None or self._playing[0] != message.message_id:
                self._playing = message.message_id, time.monotonic()
            self.log.seconds += frame.duration
            self.log.note()

    async def _read(self, message: Any) -> str:
        return "".join([str(part) async for part in message.text_stream])

    async def _answer(self, call: llm.FunctionCall) -> None:
        context = self._session.chat_ctx.copy()
        context.items.append(
            llm.FunctionCallOutput(
                call_id=call.call_id, name=call.name, output=LAMP_SAYS, is_error=False
            )
        )
        await self._session.update_chat_ctx(context)
        await self._session.generate_reply()

    def _speech_started(self, _: Any) -> None:
        if self._playing is None:
            return
        item, began = self._playing
        self._playing = None
        played = min(time.monotonic() - began, self.log.seconds)
        self._session.interrupt()
        self._session.truncate(
            message_id=item, modalities=["audio"], audio_end_ms=round(1000 * played)
        )
        self.log.interruptions += 1
        self.log.note()

    def _transcribed(self, event: llm.InputTranscriptionCompleted) -> None:
        if event.is_final:
            self.log.said.append(event.transcript)
            self.log.note()

    def _failed(self, error: llm.RealtimeModelError) -> None:
        self.log.errors.append(str(error.error))
        self.log.note()

    def _counted(self, _: Any) -> None:
        self.log.events += 1

    async def append(self, sound: bytes) -> None:
        frame = rtc.AudioFrame(sound, RATE, 1, len(sound) // 2)
        self._session.push_audio(frame)

    async def commit(self) -> None:
        self._session.commit_audio()
        await self._session.generate_reply()

    async def types(self, text: str) -> None:
        context = self._session.chat_ctx.copy()
        context.add_message(role="user", content=text)
        await self._session.update_chat_ctx(context)
        await self._session.generate_reply()

    async def blunder(self) -> None:
        self._session.send_event(
            {"type": "conversation.item.delete", "item_id": "nobody", "event_id": "mine"}
        )


if __name__ == "__main__":
    version = importlib.metadata.version("livekit-plugins-openai")
    sys.exit(run(f"livekit-plugins-openai {version}", LiveKit))
