"""@openai/agents-realtime on Node.js: `python agents_realtime.py PORT SOUNDS`."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from scenarios import INSTRUCTIONS, LAMP_SAYS, RATE, Client, beside, run

_LONGEST_LINE = 1 << 24


class AgentsRealtime(Client):
    """A RealtimeSession in a Node.js process. It interrupts and truncates by itself."""

    @contextlib.asynccontextmanager
    async def connected(self, *, listens: bool, tools: bool) -> AsyncIterator[None]:
        flags = ["yes" if flag else "no" for flag in (listens, tools)]
        script = str(Path(__file__).with_suffix(".mjs"))
        arguments = [script, str(self.port), sys.prefix, *flags, INSTRUCTIONS, LAMP_SAYS]
        self._process = await asyncio.create_subprocess_exec(
            shutil.which("node") or "node",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LONGEST_LINE,
        )
        self._connected = False
        async with beside(self._follow()):
            await self.log.until("connection", lambda: self._connected)
            yield
        assert self._process.stdin is not None
        self._process.stdin.close()
        await asyncio.wait_for(self._process.wait(), 10)

    async def _follow(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            told = json.loads(line)
            if "sound" in told:
                self.log.seconds += told["sound"] / (2 * RATE)
            elif "interrupted" in told:
                self.log.interruptions += 1
            elif "event" in told:
                self.log.events += 1
            for name, seen in (
                ("said", self.log.said),
                ("reply", self.log.replies),
                ("call", self.log.calls),
                ("error", self.log.errors),
            ):
                if name in told:
                    seen.append(told[name])
            self._connected = self._connected or "connected" in told
            self.log.note()

    async def _do(self, **what: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what).encode() + b"\n")
        await self._process.stdin.drain()

    async def append(self, sound: bytes) -> None:
        await self._do(append=base64.b64encode(sound).decode())

    async def commit(self) -> None:
        await self._do(commit=True)

    async def types(self, text: str) -> None:
        await self._do(type=text)

    async def blunder(self) -> None:
        await self._do(blunder=True)


def _version() -> str:
    package = Path(sys.prefix, "node_modules", "@openai", "agents-realtime", "package.json")
    return str(json.loads(package.read_text())["version"])


if __name__ == "__main__":
    sys.exit(run(f"@openai/agents-realtime {_version()}", AgentsRealtime))
