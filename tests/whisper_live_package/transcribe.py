"""Runs in the environment of the `whisper-live` package: its clients against our server.

`transcribe.py file|stream PORT WAV` prints one JSON object as its last line.
"""

import json
import sys
import time
import wave

from whisper_live.client import StreamingTranscriptionClient, TranscriptionClient


def transcribe_file(port, recording):
    """The client that most people use: a file in, its text out."""
    client = TranscriptionClient("127.0.0.1", port, lang="en", mute_audio_playback=True)
    client.client.disconnect_if_no_response_for = 5  # seconds without news; 15 by default
    return {"text": client(recording), "segments": client.client.transcript}


def transcribe_stream(port, recording):
    """The client for programs: chunks in, callbacks out, the server hangs up at the end."""
    committed, partial, errors = [], [], []
    client = StreamingTranscriptionClient(
        "127.0.0.1",
        port,
        lang="en",
        on_partial_transcript=lambda text, _: partial.append(text),
        on_committed_transcript=lambda text, _: committed.append(text),
        on_error=lambda error: errors.append(str(error)),
    )
    with client, wave.open(recording) as file:
        while data := file.readframes(1600):
            client.send(data, pcm_format="int16")
            time.sleep(0.1)
        ended = time.monotonic()
    return {
        "committed": committed,
        "partial": partial,
        "errors": errors,
        "seconds_to_close": time.monotonic() - ended,
    }


if __name__ == "__main__":
    kind, port, recording = sys.argv[1:]
    run = {"file": transcribe_file, "stream": transcribe_stream}[kind]
    print("\n" + json.dumps(run(int(port), recording)))
