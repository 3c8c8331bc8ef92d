"""The two sampling rates of all sound in the program. Both are mono, float32."""

SAMPLE_RATE = 16_000
"""Of what comes in: Whisper, the turn detector and the voice activity detector take no other."""

SPEECH_RATE = 24_000
"""Of what is said: every client gets it so, whatever rate the voice speaks at."""
