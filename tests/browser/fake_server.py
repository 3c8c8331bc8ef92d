"""The two WebSocket ports with scripted models, for what real ones do rarely or never alike.

It keeps docs/protocol.md, tells speech from silence by loudness, "hears" `WORDS` and answers with
`CLAUSES`, each as a tone of one second, so that a test can recognise the sound.
"""

from __future__ import annotations

import asyncio
import http
import json
import ssl
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from fusion.serving.access import select_subprotocol
from fusion.serving.tls import ssl_context
from fusion.settings import Settings
from voices.sending import UNSPOKEN

WORDS = ["How old is", "How old is the Brooklyn", "How old is the Brooklyn Bridge?"]
CLAUSES = ["It was opened in 1883,", "so it is <b>old</b>.", "Ask me more."]
TONE = 440.0
RATE = 24000
CHUNK = RATE // 10
AHEAD = 0.6
LOUD = 0.02  # root mean square of a frame that counts as speech
PATIENCE = 20  # quiet frames of 32 ms that end a turn
BARGE_IN = 10  # loud frames that interrupt a reply


@dataclass
class Client:
    """One connection on the transcription port, and its conversation."""

    socket: ServerConnection
    hello: dict[str, Any]
    key: str
    sound: ServerConnection | None = None
    bound: asyncio.Event = field(default_factory=asyncio.Event)
    turn: int = 0
    loud: int = 0
    quiet: int = 0
    samples: int = 0
    began: float = 0.0
    spoken: str = ""
    reply: asyncio.Task[None] | None = None

    async def tell(self, **fields: Any) -> None:
        await self.socket.send(json.dumps({"uid": self.hello["uid"], **fields}))

    async def segments(self, text: str, start: float, end: float, *, eos: bool) -> None:
        segment = {
            "start": f"{start:.3f}",
            "end": f"{end:.3f}",
            "text": f" {text}",
            "completed": eos,
        }
        await self.tell(turn=self.turn, segments=[segment], eos=eos, latency=0.2)


class FakeServer:
    """Runs in a thread of its own. Its attributes may be changed while it runs."""

    def __init__(self) -> None:
        self.places = 4
        self.refusal = ""
        self.silent = False  # it takes what is said and answers nothing
        self.offers: dict[str, Any] = {}
        self.voices: dict[str, Any] = {"voices": [], "languages": ["en"], "speakers": []}
        self.voice_fails = False  # after two clauses
        self.previews: list[dict[str, str]] = []  # what was asked of samples
        self.left_out = ""  # why the voice does not say all
        self.hellos: list[dict[str, Any]] = []
        self.commands: list[dict[str, Any]] = []
        self.clients: list[Client] = []
        self.transcription_port = 0
        self.speech_port = 0
        self._loop = asyncio.new_event_loop()
        self._servers: list[Server] = []
        self._context: ssl.SSLContext | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.start()

    def start(self) -> None:
        """Listen: on any ports at first, on the same ones later."""
        self._do(self._start)

    def stop(self) -> None:
        """Close the ports and all connections, as a server that is killed."""
        self._do(self._stop)

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def tell(self, **fields: Any) -> None:
        """Say something to the client that came last."""
        self._do(lambda: self.clients[-1].tell(**fields))

    def interrupt(self) -> None:
        """As speech over the reply of the client that came last does."""
        self._do(lambda: self._interrupt(self.clients[-1]))

    def hang_up(self) -> None:
        self._do(lambda: self.clients[-1].socket.close())

    def hang_up_sound(self) -> None:
        sound = self.clients[-1].sound
        assert sound is not None
        self._do(sound.close)

    def secure(self, settings: Settings) -> None:
        """Speak TLS from now on."""
        self.stop()
        self._context = ssl_context(settings)
        self.start()

    def _do(self, action: Callable[[], Awaitable[None]]) -> None:
        async def doing() -> None:
            await action()

        asyncio.run_coroutine_threadsafe(doing(), self._loop).result(10)

    async def _start(self) -> None:
        ports = (self.transcription_port, self.speech_port)
        for handler, port in zip((self._transcription, self._speech), ports, strict=True):
            server = await serve(
                handler,
                "127.0.0.1",
                port,
                process_request=_health,
                select_subprotocol=select_subprotocol,
                ssl=self._context,
            )
            self._servers.append(server)
        found = [next(iter(server.sockets)).getsockname()[1] for server in self._servers]
        self.transcription_port, self.speech_port = found

    async def _stop(self) -> None:
        for server in self._servers:
            server.close()
        for server in self._servers:
            await server.wait_closed()
        self._servers = []

    # -- the transcription port -------------------------------------------------------------------

    async def _transcription(self, socket: ServerConnection) -> None:
        hello = json.loads(await socket.recv())
        self.hellos.append(hello)
        client = Client(socket, hello, key=f"key-{len(self.hellos)}")
        if self.refusal:
            await client.tell(status="ERROR", message=self.refusal)
            await socket.close(1008, "the handshake is wrong")
            return
        if len([c for c in self.clients if c.socket.state.name == "OPEN"]) >= self.places:
            await client.tell(status="WAIT", message=3.5)
            await socket.close(1013, "the server is full")
            return
        self.clients.append(client)
        ready = {"message": "SERVER_READY", "backend": "fake", "audio_key": client.key}
        await client.tell(**ready, **self.offers)
        try:
            async for message in socket:
                if isinstance(message, bytes):
                    await self._hear(client, np.frombuffer(message, "<i2") / 32768.0)
                else:
                    await self._handle_command(client, json.loads(message))
        except ConnectionClosed:
            pass
        finally:
            if client.reply:
                client.reply.cancel()

    async def _hear(self, client: Client, frame: np.ndarray) -> None:
        client.samples += len(frame)
        now = client.samples / 16000
        if np.sqrt(np.mean(frame**2)) > LOUD:
            client.quiet = 0
            client.loud += 1
            await self._speech_goes_on(client, now)
            return
        client.quiet += 1
        if client.loud >= BARGE_IN and client.quiet == PATIENCE:
            await self._end_turn(client)
        elif client.quiet == PATIENCE:
            client.loud = 0

    async def _speech_goes_on(self, client: Client, now: float) -> None:
        if client.loud == BARGE_IN:
            await self._interrupt(client)
            client.turn += 1
            client.began = now - BARGE_IN * 0.032
            await client.tell(event="speech_started", turn=client.turn)
        if client.loud >= BARGE_IN and client.loud % 10 == 0:
            transcript = WORDS[min(client.loud // 10 - 1, 1)]
            await client.segments(transcript, client.began, now, eos=False)

    async def _end_turn(self, client: Client) -> None:
        client.loud = 0
        await client.segments(WORDS[-1], client.began, client.samples / 16000 - 0.6, eos=True)
        self._answer(client)

    async def _handle_command(self, client: Client, command: dict[str, Any]) -> None:
        self.commands.append(command)
        if command["command"] == "say":
            await self._interrupt(client)
            client.turn += 1
            await client.segments(command["text"], 0, 0, eos=True)
            self._answer(client)
        elif command["command"] == "interrupt":
            await self._interrupt(client)
        elif client.loud >= BARGE_IN:
            await self._end_turn(client)

    # -- replies ----------------------------------------------------------------------------------

    def _answer(self, client: Client) -> None:
        if client.hello["reply"] and not self.silent:
            client.reply = asyncio.create_task(self._reply(client, client.turn))

    async def _interrupt(self, client: Client) -> None:
        if client.reply is None or client.reply.done():
            return
        client.reply.cancel()
        if client.sound:
            end = {"event": "reply_end", "turn": client.turn, "spoken": "", "interrupted": True}
            await client.sound.send(json.dumps({"event": "flush", "turn": client.turn}))
            await client.sound.send(json.dumps(end))
        await client.tell(event="interrupted", turn=client.turn, spoken=client.spoken)

    async def _reply(self, client: Client, turn: int) -> None:
        for count in range(1, len(CLAUSES) + 1):
            text = " ".join(CLAUSES[:count])
            await client.tell(turn=turn, llm_output=[text], eos=count == len(CLAUSES), latency=0.3)
        times = {
            "provisional_transcript": 212.4,
            "commit": 301.0,
            "first_token": 348.0,
            "first_clause": 402.0,
            "first_sound": 455.5,
        }
        await client.tell(event="timeline", turn=turn, speculative=True, milliseconds=times)
        await asyncio.wait_for(client.bound.wait(), 5)
        assert client.sound is not None
        await self._speak(client, client.sound, turn)
        await client.tell(event="spoken", turn=turn, text=" ".join(CLAUSES))

    async def _speak(self, client: Client, sound: ServerConnection, turn: int) -> None:
        await sound.send(json.dumps({"event": "reply_start", "turn": turn}))
        loop = asyncio.get_running_loop()
        began, sent = loop.time(), 0
        for index, clause in enumerate(CLAUSES[:2] if self.voice_fails else CLAUSES):
            event = {"event": "clause", "turn": turn, "text": clause, "at": float(index)}
            await sound.send(json.dumps(event))
            client.spoken = " ".join(CLAUSES[: index + 1])
            for start in range(0, RATE, CHUNK):
                times = (index * RATE + start + np.arange(CHUNK)) / RATE
                await sound.send((0.3 * np.sin(2 * np.pi * TONE * times)).astype("<f4").tobytes())
                sent += CHUNK
                await asyncio.sleep(max(0.0, began + sent / RATE - AHEAD - loop.time()))
        if self.left_out:
            reason = {"event": "left_out", "turn": turn, "scripts": ["Chinese"]}
            await sound.send(json.dumps({**reason, "message": self.left_out}))
        if self.voice_fails:
            error = {"event": "error", "status": "ERROR", "message": UNSPOKEN, "turn": turn}
            await sound.send(json.dumps(error))
        end = {"event": "reply_end", "turn": turn, "spoken": " ".join(CLAUSES)}
        await sound.send(json.dumps({**end, "interrupted": False}))

    async def _speech(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        fields = {
            name: values[0]
            for name, values in parse_qs(urlsplit(socket.request.path).query).items()
        }
        client = next((client for client in self.clients if client.key == fields.get("key")), None)
        if client is None:
            await socket.close(1008, "unknown key")
            return
        if "preview" in fields:
            await self._preview(socket, fields)
            return
        await socket.send(json.dumps({"event": "voices", **self.voices}))
        client.sound = socket
        client.bound.set()
        await socket.wait_closed()

    async def _preview(self, socket: ServerConnection, fields: dict[str, str]) -> None:
        """Send a sample of a voice: one second, an octave above the tone of a reply."""
        self.previews.append(fields)
        times = np.arange(RATE) / RATE
        await socket.send((0.3 * np.sin(4 * np.pi * TONE * times)).astype("<f4").tobytes())
        await socket.close(1000, "that was the sample")


def _health(connection: ServerConnection, request: Request) -> Response | None:
    if request.path == "/healthz":
        return connection.respond(http.HTTPStatus.OK, "ok\n")
    return None
