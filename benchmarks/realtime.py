"""What `/v1/realtime` costs: voice to voice through it and through ports 6006 and 8888, in turn.

    python -m benchmarks.realtime --audio FOLDER --repeats 2

One server, and each recording to both ways in one after the other, so that a change in the
machine's speed meets both alike. Realtime's client asks for `semantic_vad`, which is how the two
ports listen. Prints medians and their ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import random
import time
from pathlib import Path

import numpy as np
import soxr
from websockets.asyncio.client import ClientConnection, connect

from benchmarks.figures import median, p95
from benchmarks.voice_to_voice import Recording, Turn, recordings, say
from fusion.audio import SAMPLE_RATE, SPEECH_RATE
from tests.running import RunningServer
from whisper_live.client.sound_files import read_wav

_PIECE = SPEECH_RATE // 30  # samples
_SILENCE = 6.0  # seconds after the speech, at most
_SESSION = {
    "type": "realtime",
    "audio": {"input": {"turn_detection": {"type": "semantic_vad"}}},
}


async def through_realtime(running: RunningServer, recording: Recording) -> float:
    """Milliseconds from the end of speech to the first sound. Raises AssertionError for none."""
    speech = soxr.resample(read_wav(recording.file, SAMPLE_RATE), SAMPLE_RATE, SPEECH_RATE)
    samples = np.concatenate([speech, np.zeros(round(_SILENCE * SPEECH_RATE), np.float32)])
    data = np.clip(samples * 32767, -32768, 32767).astype("<i2").tobytes()
    async with connect(f"ws://127.0.0.1:{running.web_port}/v1/realtime", proxy=None) as socket:
        await socket.send(json.dumps({"type": "session.update", "session": _SESSION}))
        await _first(socket, "session.updated")
        began = time.monotonic()
        speaking = asyncio.create_task(_speak(socket, data, began))
        try:
            while (sounded := await _first(socket, "response.output_audio.delta")) < (
                began + recording.end
            ):
                pass  # an answer to a pause within the speech
        finally:
            speaking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await speaking
    return 1000 * (sounded - began - recording.end)


async def _speak(socket: ClientConnection, data: bytes, began: float) -> None:
    for first in range(0, len(data), 2 * _PIECE):
        due = began + (first / 2 + _PIECE) / SPEECH_RATE
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        audio = base64.b64encode(data[first : first + 2 * _PIECE]).decode()
        await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))


async def _first(socket: ClientConnection, kind: str) -> float:
    """When the next event of this kind came."""
    while True:
        event = json.loads(await asyncio.wait_for(socket.recv(), 30))
        if event["type"] == kind:
            return time.monotonic()


async def measure(
    running: RunningServer, clips: list[Recording], repeats: int
) -> dict[str, list[float]]:
    """Milliseconds of every turn, by the way that it took."""
    took: dict[str, list[float]] = {"ports": [], "realtime": []}
    order = random.Random(1)
    for _ in range(repeats):
        for clip in order.sample(clips, len(clips)):
            for way in order.sample(sorted(took), len(took)):
                if way == "realtime":
                    took[way].append(await through_realtime(running, clip))
                else:
                    turn = Turn(clip.file.name, way, 1)
                    await say(running, clip, turn, 0.0)
                    assert turn.voice_to_voice is not None, turn.error
                    took[way].append(turn.voice_to_voice)
                print(".", end="", flush=True)
    print()
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--audio", type=Path, default=Path("tests/audio"))
    parser.add_argument("--categories", nargs="+", default=["speech"])
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    clips = recordings(options.audio, options.categories)
    with RunningServer() as running:
        took = asyncio.run(measure(running, clips, options.repeats))
    for way, times in took.items():
        print(f"{way:10} median {median(times):.0f} ms  p95 {p95(times):.0f} ms  n {len(times)}")
    ratios = [a / b for a, b in zip(took["realtime"], took["ports"], strict=True)]
    print(f"realtime / ports, turn by turn: median {median(ratios):.3f}")


if __name__ == "__main__":
    main()
