"""Real Realtime clients against the real program: `python -m tests.conformance [CLIENT ...]`.

Each client is installed in an environment of its own, in `.conformance/`, from its registry.
`CLIENT:SCENARIO` runs one of its scenarios alone.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from fusion.audio import SAMPLE_RATE, SPEECH_RATE
from tests.recordings import load
from tests.running import ROOT, RunningServer
from whisper_live.client import Notice, Server, Sound, talk

FOLDER = ROOT / ".conformance"
LLM = "qwen2.5-coder-1.5b"
"""The smallest model of the table that follows a conversation and calls functions."""


@dataclass(frozen=True)
class Client:
    """A client library: what is installed, and the script that uses it."""

    script: str
    requirements: tuple[str, ...]
    packages: tuple[str, ...] = ()
    """Of npm, for what runs on Node.js."""


CLIENTS = {
    "openai-python": Client("openai_python.py", ("openai[realtime]==3.57.0",)),
    "openai-agents": Client("openai_agents.py", ("openai-agents==0.24.0",)),
    "agents-realtime": Client(
        "agents_realtime.py", (), ("@openai/agents-realtime@0.20.0", "ws@8.18.3", "zod@4.1.12")
    ),
    "livekit": Client("livekit_openai.py", ("livekit-plugins-openai==1.8.9",)),
}

RECORDINGS = {
    "question": "brooklyn_bridge",
    "wish": "living_room_lamp",
    "interruption": "what_time_is_it",
}
FOLLOW_UP = "Which bridge did I just ask you about?"


def python_with(name: str, client: Client) -> Path:
    """The Python of an environment that has what a client needs."""
    folder = FOLDER / name
    python, stamp = folder / "bin" / "python", folder / "installed"
    wanted = "\n".join((*client.requirements, *client.packages))
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"Installing {wanted.split() or name} ...", file=sys.stderr)
        venv.create(folder, clear=True, with_pip=bool(client.requirements))
        if client.requirements:
            command = [str(python), "-m", "pip", "install", "--quiet", *client.requirements]
            subprocess.run([*command, "--disable-pip-version-check"], check=True)
        if client.packages:
            quiet = ("--silent", "--no-audit", "--no-fund", "--ignore-scripts")
            command = [_program("npm"), "install", *quiet, "--prefix", str(folder)]
            subprocess.run([*command, *client.packages], check=True)
        stamp.write_text(wanted)
    return python


def _program(name: str) -> str:
    """Node.js and npm: of this environment, or the system's."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name) or name


def save(folder: Path, name: str, samples: NDArray[np.float32]) -> None:
    """Write a sound as the clients send it, 16 bits at 24 kHz."""
    data = np.clip(samples * 32767, -32768, 32767).astype("<i2")
    (folder / f"{name}.raw").write_bytes(data.tobytes())


async def spoken(server: RunningServer, text: str) -> NDArray[np.float32]:
    """A text in the server's own voice, for what nobody has recorded."""
    address = Server("127.0.0.1", server.transcription_port, server.speech_port)
    pieces: list[NDArray[np.float32]] = []
    async with talk(address, buffer_lead=60.0) as conversation:
        await conversation.command("read_aloud", text=text)
        async for event in conversation.events():
            if isinstance(event, Sound):
                pieces.append(event.samples)
            if isinstance(event, Notice) and event.name == "reply_end":
                break
    return np.concatenate(pieces)


def main(arguments: list[str]) -> int:
    """Run these clients, or all; how many failed."""
    wanted: dict[str, list[str]] = {}
    for argument in arguments or CLIENTS:
        name, _, scenario = argument.partition(":")
        wanted.setdefault(name, []).extend([scenario] if scenario else [])
    pythons = {name: python_with(name, CLIENTS[name]) for name in wanted}
    failed = 0
    flags = ("--llm", LLM, "--max_connection_time", "900")
    with RunningServer(flags) as server, tempfile.TemporaryDirectory() as sounds:
        for name, recording in RECORDINGS.items():
            save(Path(sounds), name, soxr.resample(load(recording), SAMPLE_RATE, SPEECH_RATE))
        save(Path(sounds), "follow_up", asyncio.run(spoken(server, FOLLOW_UP)))
        for name, python in pythons.items():
            script = Path(__file__).with_name(CLIENTS[name].script)
            started = time.monotonic()
            command = [str(python), str(script), str(server.web_port), sounds, *wanted[name]]
            if subprocess.run(command, timeout=900, check=False).returncode:
                failed += 1
                print(server.log, file=sys.stderr)
            print(f"  in all {time.monotonic() - started:.0f} s", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
