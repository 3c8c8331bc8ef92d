"""The Python client, as a library: both sockets of one conversation.

    async with talk(Server("localhost"), language="en") as conversation:
        started = await conversation.stream(samples)
        await conversation.end_of_audio()
        async for event in conversation.events():
            ...

`python -m whisper_live.client` is the same as a command: see `whisper_live/client/terminal.py`.
"""

from fusion.audio import SAMPLE_RATE, SPEECH_RATE
from whisper_live.client.conversation import (
    CHUNK,
    END_OF_AUDIO,
    Conversation,
    Playback,
    Server,
    ServerFullError,
    talk,
)
from whisper_live.client.events import (
    Closed,
    Event,
    Failure,
    Notice,
    ReplyText,
    Samples,
    Segment,
    Sound,
    Transcript,
)

__all__ = [
    "CHUNK",
    "END_OF_AUDIO",
    "SAMPLE_RATE",
    "SPEECH_RATE",
    "Closed",
    "Conversation",
    "Event",
    "Failure",
    "Notice",
    "Playback",
    "ReplyText",
    "Samples",
    "Segment",
    "Server",
    "ServerFullError",
    "Sound",
    "Transcript",
    "talk",
]
